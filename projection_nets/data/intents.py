"""Intents of short texts: CLINC150, BANKING77 and SNIPS, from their published files.

| set       | files in POET_DATA                                    | train / held out / test   | classes |
|-----------|-------------------------------------------------------|---------------------------|---------|
| clinc150  | data_full.json, domains.json                          | 15,000 / 3,000 / 4,500    | 150     |
| banking77 | train.csv, test.csv, categories.json                  | 9,003 / 1,000 / 3,080     | 77      |
| snips     | train_X_full.json and validate_X.json of each intent  | 13,084 / 700 / 700        | 7       |

CLINC150 brings its own validation part; of the others it is held out of the training part, by
`seed`. SNIPS has no test part: its validation files are the test, as in the literature.
Every loader raises DataError (`data_file_*`, `data_encoding`, `data_json`, `data_shape`,
`data_label_invalid`, `data_counts_differ`, `data_empty`).
"""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from projection_nets.data.reading import read_json, read_text, refused
from projection_nets.data.texts import LabelledTexts, TextSplits, check_apart, labelled_texts

OUT_OF_SCOPE = "oos"

_BANKING_HELD_OUT = 1000
_SNIPS_HELD_OUT = 700
_SNIPS_INTENTS = (
    "AddToPlaylist",
    "BookRestaurant",
    "GetWeather",
    "PlayMusic",
    "RateBook",
    "SearchCreativeWork",
    "SearchScreeningEvent",
)
# UTF-8 as the other files, but for a few bytes of latin-1 among it.
_SNIPS_MIXED = "train_PlayMusic_full.json"

Pairs = list[tuple[str, str]]


def clinc150(data_root: Path, *, out_of_scope: bool = False) -> TextSplits:
    """150 intents of 10 domains. `out_of_scope` adds class 150, texts that have none of them."""
    folder = data_root / "clinc150"
    path = folder / "data_full.json"
    domains = read_json(folder / "domains.json")
    if not isinstance(domains, dict) or not all(_is_texts(x) for x in domains.values()):
        raise _shape(folder / "domains.json", "intents by domain")
    names = tuple(sorted(name for intents in domains.values() for name in intents))
    whole = read_json(path)
    parts = []
    for part in ("train", "val", "test"):
        pairs = _rows(whole, part, path)
        parts.append(labelled_texts(pairs, names, path))
    check_apart(list(zip(("train on", "validate", "test"), parts, strict=True)), (15_000, 3_000, 4_500), path)  # fmt: skip
    if out_of_scope:
        names = (*names, OUT_OF_SCOPE)
        parts = [
            _joined(part, labelled_texts(_rows(whole, f"oos_{name}", path), names, path))
            for part, name in zip(parts, ("train", "val", "test"), strict=True)
        ]
    train, validation, test = parts
    return TextSplits(
        name="clinc150", class_names=names, train=train, validation=validation, test=test
    )


def banking77(data_root: Path, *, seed: int = 0) -> TextSplits:
    """77 intents of a bank's customers."""
    folder = data_root / "banking77"
    names = read_json(folder / "categories.json")
    if not _is_texts(names):
        raise _shape(folder / "categories.json", "a list of names")
    whole, test = (
        labelled_texts(_csv_pairs(folder / file), names, folder / file)
        for file in ("train.csv", "test.csv")
    )
    check_apart([("train on", whole), ("test", test)], (10_003, 3_080), folder)
    train, validation = whole.divided(_BANKING_HELD_OUT, seed)
    return TextSplits(
        name="banking77", class_names=tuple(names), train=train, validation=validation, test=test
    )


def snips(data_root: Path, *, seed: int = 0) -> TextSplits:
    """7 intents of a voice assistant."""
    folder = data_root / "snips"
    train_pairs: Pairs = []
    test_pairs: Pairs = []
    for intent in _SNIPS_INTENTS:
        train_pairs += _snips_pairs(folder / f"train_{intent}_full.json", intent)
        test_pairs += _snips_pairs(folder / f"validate_{intent}.json", intent)
    whole = labelled_texts(train_pairs, _SNIPS_INTENTS, folder)
    test = labelled_texts(test_pairs, _SNIPS_INTENTS, folder)
    check_apart([("train on", whole), ("test", test)], (13_784, 700), folder)
    train, validation = whole.divided(_SNIPS_HELD_OUT, seed)
    return TextSplits(
        name="snips", class_names=_SNIPS_INTENTS, train=train, validation=validation, test=test
    )


def _rows(whole: Any, part: str, path: Path) -> Pairs:
    rows = whole.get(part) if isinstance(whole, dict) else None
    if not isinstance(rows, list):
        raise _shape(path, f"a list under {part!r}")
    for position, row in enumerate(rows):
        if not _is_texts(row) or len(row) != 2:
            raise _shape(path, f"[text, intent] in {part!r} at {position}")
    return [(text, intent) for text, intent in rows]


def _csv_pairs(path: Path) -> Pairs:
    rows = list(csv.reader(io.StringIO(read_text(path), newline=""), strict=True))
    if not rows or rows[0] != ["text", "category"]:
        raise _shape(path, "the columns text,category")
    for line, row in enumerate(rows[1:], start=2):
        if len(row) != 2:
            raise _shape(path, f"two columns in row {line}, got {len(row)}")
    return [(text, category) for text, category in rows[1:]]


def _snips_pairs(path: Path, intent: str) -> Pairs:
    document = read_json(path, stray_latin_1=path.name == _SNIPS_MIXED)
    if not isinstance(document, dict) or list(document) != [intent]:
        got = (
            ", ".join(map(str, document)) if isinstance(document, dict) else type(document).__name__
        )
        raise refused(
            path,
            "data_label_invalid",
            f"expected texts of {intent} alone, got {got!r:.80}",
            "The file is named after another intent than the one it holds; fetch it again.",
        )
    pairs: Pairs = []
    for position, query in enumerate(document[intent]):
        chunks = query.get("data") if isinstance(query, dict) else None
        if not isinstance(chunks, list) or not all(
            isinstance(chunk, dict) and isinstance(chunk.get("text"), str) for chunk in chunks
        ):
            raise _shape(path, f"chunks of text in query {position}")
        pairs.append(("".join(chunk["text"] for chunk in chunks), intent))
    return pairs


def _joined(one: LabelledTexts, other: LabelledTexts) -> LabelledTexts:
    return LabelledTexts(texts=one.texts + other.texts, labels=one.labels + other.labels)


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _shape(path: Path, expected: str) -> Exception:
    return refused(
        path, "data_shape", f"expected {expected}", "The file is not of this set; fetch it again."
    )
