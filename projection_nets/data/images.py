"""Labelled images in memory: one byte a pixel until a batch is asked for.

Invariant: `pixels` is uint8 (n, height * width) and `labels` int64 (n,) in 0..classes-1; batches
are float32 with integer values 0..255, the raw form that an LSH projection wants.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poet_core.errors import DataError
from projection_nets.hashing import permutation

SPLIT_STREAM = 2**32
"""Apart from the epochs' streams 0, 1, 2, ... of `batches`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Flat images and their classes."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.pixels.shape[0]

    def take(self, order: npt.NDArray[np.int64]) -> LabelledImages:
        """The images at these positions, in this order."""
        index = torch.from_numpy(order)
        return LabelledImages(pixels=self.pixels[index], labels=self.labels[index])

    def batch(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Float pixels (n, features) and labels (n,) of the images at these positions."""
        chosen = self.take(order)
        return chosen.pixels.to(torch.float32), chosen.labels

    def chunks(self, batch_size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """All images in order, as float batches; the last can be smaller."""
        for start in range(0, len(self), batch_size):
            window = slice(start, start + batch_size)
            yield self.pixels[window].to(torch.float32), self.labels[window]


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSplits:
    """What to train on, what to choose by, and what to report on."""

    name: str
    classes: int
    train: LabelledImages
    validation: LabelledImages
    test: LabelledImages


def labelled(
    pixels: npt.NDArray[np.uint8], labels: npt.NDArray[np.uint8], *, classes: int, name: str
) -> LabelledImages:
    """Checks that images and labels belong together and flattens the images.

    Raises DataError (`data_counts_differ`, `data_label_invalid`).
    """
    if len(pixels) != len(labels):
        raise DataError(
            f"Expected as many labels as images in {name}, got {len(labels)} labels for "
            f"{len(pixels)} images.",
            code="data_counts_differ",
            hint="The two files are from different sets; fetch both again.",
        )
    if len(labels) and int(labels.max()) >= classes:
        raise DataError(
            f"Expected labels 0..{classes - 1} in {name}, got {int(labels.max())} at position "
            f"{int(labels.argmax())}.",
            code="data_label_invalid",
            hint="The label file is damaged or belongs to another set.",
        )
    flat = pixels.reshape(len(pixels), -1).copy()  # IDX values lie in read-only bytes
    return LabelledImages(
        pixels=torch.from_numpy(flat), labels=torch.from_numpy(labels.astype(np.int64))
    )


def divided(images: LabelledImages, sizes: tuple[int, ...], seed: int) -> list[LabelledImages]:
    """Disjoint random parts of these sizes, which must sum to the number of images."""
    order = permutation(len(images), seed, SPLIT_STREAM)
    bounds = np.cumsum((0, *sizes))
    if bounds[-1] != len(images):
        raise DataError(
            f"Expected {bounds[-1]} images to divide, got {len(images)}.",
            code="data_counts_differ",
            hint="The files are not of the full set; fetch them again.",
        )
    # ascending positions keep each part in the file's order: the split decides who, not when
    return [images.take(np.sort(order[start:stop])) for start, stop in pairwise(bounds)]
