"""Data sets of the projection benchmark, their bits computed once and kept on disk.

Bit k of an input depends on the seed and on k alone, so the bits of [T, d] are the first T * d of any
wider projection: one file of bits serves every size (`FirstBits`).

Invariant: a file of bits is named after everything that decides them, and is written whole or not at
all.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.projection_place import Place
from benchmarks.projection_recipes import WIDEST, digest
from poet_core.errors import UsageError
from projection_nets.data import (
    ImageSplits,
    LabelledExamples,
    LabelledImages,
    LabelledTexts,
    TextSplits,
    Vocabulary,
    banking77,
    cifar100,
    clinc150,
    digits,
    fashion_mnist,
    mnist,
    snips,
)
from projection_nets.packing import Bytes, PackedBits, packed_bits
from projection_nets.replacing import replace_file
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures

IMAGES: dict[str, Callable[[Path], ImageSplits]] = {
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
    "cifar100": cifar100,
}
TEXTS: dict[str, Callable[[Path], TextSplits]] = {
    "clinc150": clinc150,
    "banking77": banking77,
    "snips": snips,
}
FEATURES = {
    "words and characters": TextFeatures(),
    "word pairs too": TextFeatures(word_ngrams=2, skips=1),
}
TOKENS = 24

_SMALL_IMAGES, _SMALL_TEST_IMAGES = 400, 80
_SHIFTS = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
_FIRST_SEED = 2017  # the projection's seeds: this one and the following


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Inputs side by side, by name: "pixels" or "tokens", and the packed bits of each projection."""

    name: str
    classes: int
    inputs: tuple[str, ...]
    specs: dict[str, ProjectionSpec]
    train: LabelledExamples
    validation: LabelledExamples
    test: LabelledExamples
    vocabulary: int = 0

    def input_of(self, name: str) -> int:
        """The number of an input in a batch."""
        return self.inputs.index(name)

    def with_input(self, name: str, train: Tensor) -> Splits:
        """One more input of the training examples, such as recorded soft targets."""
        widened = LabelledExamples(inputs=(*self.train.inputs, train), labels=self.train.labels)
        return replace(self, inputs=(*self.inputs, name), train=widened)

    def some(self, order: Tensor) -> Splits:
        """The training examples at these positions alone."""
        fewer = LabelledExamples(
            inputs=tuple(part[order] for part in self.train.inputs),
            labels=self.train.labels[order],
        )
        return replace(self, train=fewer)


class FirstBits(PackedBits):
    """The first T * d of the packed bits of a wider projection, some dropped while it trains."""

    def __init__(self, spec: ProjectionSpec, dropout: float = 0.0) -> None:
        super().__init__(spec)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, packed: Tensor) -> Tensor:
        bits: Tensor = self.dropout(super().forward(packed[:, : self.spec.packed_bytes]))
        return bits


def narrowed(
    spec: ProjectionSpec, functions: int, bits: int, values: str, dropout: float = 0.0
) -> FirstBits:
    """The projection of [functions, bits] from `spec`'s bits."""
    if functions * bits > spec.projected_bits:
        raise UsageError(
            f"Expected at most {spec.projected_bits} bits, got {functions} x {bits}.",
            code="projection_invalid",
            hint="Widen WIDEST in projection_recipes.",
        )
    return FirstBits(
        replace(spec, functions=functions, bits=bits, values=BitValues(values)), dropout
    )


def image_splits(place: Place, name: str, seed: int) -> Splits:
    """Pixels and the widest projection's bits. `seed` is the projection's; the split is fixed."""
    found = _small_images() if place.small else IMAGES[name](_root(place, name))
    functions, bits = WIDEST
    spec = ProjectionSpec(
        in_features=found.train.pixels.shape[1], functions=functions, bits=bits,
        seed=_FIRST_SEED + seed,
    )  # fmt: skip

    def examples(part: LabelledImages, which: str) -> LabelledExamples:
        compute = partial(packed_bits, spec, part.pixels.numpy())
        packed = _kept(place, f"{found.name}-{which}", spec, compute)
        return LabelledExamples(inputs=(part.pixels, torch.from_numpy(packed)), labels=part.labels)

    return Splits(
        name=name, classes=found.classes, inputs=("pixels", "bits"), specs={"bits": spec},
        train=examples(found.train, "train"),
        validation=examples(found.validation, "validation"),
        test=examples(found.test, "test"),
    )  # fmt: skip


def with_shifted_images(place: Place, splits: Splits) -> Splits:
    """Every training image five times: as it is, and moved by one pixel each way. Validation and test
    images stay as they are."""
    spec, pixels = splits.specs["bits"], splits.train.inputs[splits.input_of("pixels")]
    moved = torch.cat([_moved(pixels, down, right) for down, right in _SHIFTS])
    compute = partial(packed_bits, spec, moved[len(pixels) :].numpy())
    packed = _kept(place, f"{splits.name}-shifted", spec, compute)
    bits = torch.cat([splits.train.inputs[splits.input_of("bits")], torch.from_numpy(packed)])
    train = LabelledExamples(inputs=(moved, bits), labels=splits.train.labels.repeat(len(_SHIFTS)))
    return replace(splits, train=train)


def _moved(pixels: Tensor, down: int, right: int) -> Tensor:
    side = math.isqrt(pixels.shape[1])
    images = nn.functional.pad(pixels.view(-1, side, side), (1, 1, 1, 1))
    return images[:, 1 - down : 1 - down + side, 1 - right : 1 - right + side].reshape(pixels.shape)


def text_splits(place: Place, name: str, seed: int) -> Splits:
    """Tokens, and the widest projection's bits for each choice of features."""
    found = _small_texts() if place.small else TEXTS[name](_root(place, name))
    functions, bits = WIDEST
    specs = {
        features: ProjectionSpec(
            kind=ProjectionKind.HASHED, functions=functions, bits=bits, seed=_FIRST_SEED + seed,
            text=options,
        )
        for features, options in FEATURES.items()
    }  # fmt: skip
    vocabulary = Vocabulary.of(found.train.texts)

    def examples(part: LabelledTexts, which: str) -> LabelledExamples:
        inputs = [torch.from_numpy(vocabulary.encoded(part.texts, length=TOKENS))]
        for spec in specs.values():
            compute = partial(packed_bits, spec, part.texts)
            packed = _kept(place, f"{found.name}-{which}", spec, compute)
            inputs.append(torch.from_numpy(packed))
        return LabelledExamples(inputs=tuple(inputs), labels=torch.tensor(part.labels))

    return Splits(
        name=name, classes=found.classes, inputs=("tokens", *specs), specs=specs,
        train=examples(found.train, "train"),
        validation=examples(found.validation, "validation"),
        test=examples(found.test, "test"),
        vocabulary=len(vocabulary),
    )  # fmt: skip


def _kept(place: Place, name: str, spec: ProjectionSpec, compute: Callable[[], Bytes]) -> Bytes:
    path = place.folder / f"bits-{name}-{digest(spec.to_document(), place.small)}.npy"
    if path.exists():
        found: Bytes = np.load(path)
        return found
    place.tell(f"projecting {name}", done=False)
    packed = compute()
    place.folder.mkdir(parents=True, exist_ok=True)
    content = BytesIO()
    np.save(content, packed)
    replace_file(path, content.getvalue(), what="file of bits")
    return packed


def _root(place: Place, name: str) -> Path:
    if place.data_root is None:
        raise UsageError(
            f"Expected POET_DATA to name the folder that holds {name}.",
            code="data_file_missing",
            hint="Set POET_DATA, or use --small.",
        )
    return place.data_root


def _small_images() -> ImageSplits:
    found = digits()
    return replace(
        found, train=found.train.take(np.arange(_SMALL_IMAGES)),
        validation=found.validation.take(np.arange(_SMALL_TEST_IMAGES)),
        test=found.test.take(np.arange(_SMALL_TEST_IMAGES)),
    )  # fmt: skip


def _small_texts() -> TextSplits:
    """Three intents that one word gives away."""
    words = ("play", "weather", "book")
    rest = ("me", "some", "the", "a", "please", "now", "today", "here")

    def part(first: int, count: int) -> LabelledTexts:
        texts: Sequence[str] = [
            f"{words[i % 3]} {rest[i % 8]} {rest[i // 8 % 8]}" for i in range(first, first + count)
        ]
        labels = tuple(i % 3 for i in range(first, first + count))
        return LabelledTexts(texts=tuple(texts), labels=labels)

    return TextSplits(
        name="made-up", class_names=words, train=part(0, 210), validation=part(210, 30),
        test=part(240, 30),
    )  # fmt: skip
