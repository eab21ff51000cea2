"""Labelled texts: what the intent loaders give, and the tensors that networks take.

Invariant: labels are 0..classes-1 in the order of `class_names`; parts share no text by position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poet_core.errors import DataError
from projection_nets.data.examples import LabelledExamples
from projection_nets.data.images import SPLIT_STREAM
from projection_nets.data.reading import refused
from projection_nets.hashing import permutation
from projection_nets.packing import packed_bits
from projection_nets.spec import ProjectionSpec
from projection_nets.text import tokens_of

PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledTexts:
    """Texts and their classes."""

    texts: tuple[str, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def divided(self, held_out: int, seed: int) -> tuple[LabelledTexts, LabelledTexts]:
        """All but `held_out` texts, and these, chosen by `seed`.

        Raises DataError (`data_counts_differ`) where there are not so many.
        """
        if held_out >= len(self):
            raise DataError(
                f"Expected more than {held_out} texts to hold some out, got {len(self)}.",
                code="data_counts_differ",
                hint="The file is not of the full set; fetch it again.",
            )
        order = permutation(len(self), seed, SPLIT_STREAM)
        parts = (np.sort(order[held_out:]), np.sort(order[:held_out]))
        train, validation = (
            LabelledTexts(
                texts=tuple(self.texts[i] for i in part), labels=tuple(self.labels[i] for i in part)
            )
            for part in parts
        )
        return train, validation


@dataclass(frozen=True, slots=True, kw_only=True)
class TextSplits:
    """What to train on, what to choose by, and what to report on."""

    name: str
    class_names: tuple[str, ...]
    train: LabelledTexts
    validation: LabelledTexts
    test: LabelledTexts

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """Tokens and their numbers, for a trainer: 0 is padding, 1 a token that training never saw."""

    numbers: dict[bytes, int]

    @classmethod
    def of(cls, texts: Sequence[str], *, least_count: int = 1) -> Vocabulary:
        """The tokens that occur at least so often, the most frequent first, then by their bytes."""
        counts = Counter(token for text in texts for token in tokens_of(text))
        kept = sorted((-count, token) for token, count in counts.items() if count >= least_count)
        return cls(numbers={token: number for number, (_, token) in enumerate(kept, UNKNOWN + 1)})

    def __len__(self) -> int:
        return len(self.numbers) + UNKNOWN + 1

    def encoded(self, texts: Sequence[str], *, length: int) -> npt.NDArray[np.int64]:
        """(n, length): the numbers of the first `length` tokens, then padding."""
        rows = np.full((len(texts), length), PADDING, dtype=np.int64)
        for row, text in zip(rows, texts, strict=True):
            found = [self.numbers.get(token, UNKNOWN) for token in tokens_of(text)[:length]]
            row[: len(found)] = found
        return rows


def as_examples(
    texts: LabelledTexts,
    *specs: ProjectionSpec,
    vocabulary: Vocabulary | None = None,
    length: int = 24,
) -> LabelledExamples:
    """Inputs of a joint step: tokens where a vocabulary is given, then packed bits of each spec."""
    inputs: list[Tensor] = []
    if vocabulary is not None:
        inputs.append(torch.from_numpy(vocabulary.encoded(texts.texts, length=length)))
    inputs += [torch.from_numpy(packed_bits(spec, texts.texts)) for spec in specs]
    labels = torch.tensor(texts.labels, dtype=torch.int64)
    return LabelledExamples(inputs=tuple(inputs), labels=labels)


def labelled_texts(
    pairs: Sequence[tuple[str, str]], class_names: Sequence[str], path: Path
) -> LabelledTexts:
    """Texts from (text, class name) pairs of a file.

    Raises DataError: `data_empty`, `data_label_invalid`.
    """
    if not pairs:
        raise refused(path, "data_empty", "has no texts", "Fetch the file again.")
    numbers = {name: number for number, name in enumerate(class_names)}
    for position, (_, name) in enumerate(pairs):
        if name not in numbers:
            raise refused(
                path,
                "data_label_invalid",
                f"expected one of {len(numbers)} intents, got {name!r:.60} at text {position}",
                "The file is damaged or belongs to another set.",
            )
    return LabelledTexts(
        texts=tuple(text for text, _ in pairs), labels=tuple(numbers[name] for _, name in pairs)
    )


def check_apart(
    named: Sequence[tuple[str, LabelledTexts]], counts: Sequence[int], path: Path
) -> None:
    """Raises DataError (`data_counts_differ`) where a part has not the published number of texts."""
    for (name, part), expected in zip(named, counts, strict=True):
        if len(part) != expected:
            raise refused(
                path,
                "data_counts_differ",
                f"expected {expected} texts to {name}, got {len(part)}",
                "The files are not of the full set; fetch them again.",
            )
