"""What training and evaluation need of a data set, and the plain form of one.

Invariant: a batch is (inputs ..., labels), labels int64 (n,), and the order of the examples never
depends on the batch size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poet_core.errors import DataError

BatchT = TypeVar("BatchT", bound=tuple[Tensor, ...])
BatchT_co = TypeVar("BatchT_co", bound=tuple[Tensor, ...], covariant=True)


class Labelled(Protocol[BatchT_co]):
    """Examples with classes, in an order."""

    def __len__(self) -> int:
        """Examples in all."""
        ...

    def batch(self, order: npt.NDArray[np.int64]) -> BatchT_co:
        """The examples at these positions, in this order."""
        ...

    def chunks(self, batch_size: int) -> Iterator[BatchT_co]:
        """All examples in order; the last chunk can be smaller."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledExamples:
    """Tensors of n rows each and their classes, for instance tokens and packed bits of texts."""

    inputs: tuple[Tensor, ...]
    labels: Tensor

    def __post_init__(self) -> None:
        counts = [len(part) for part in (*self.inputs, self.labels)]
        if len(set(counts)) != 1:
            raise DataError(
                f"Expected as many rows in each input as labels, got {counts}.",
                code="data_counts_differ",
                hint="Make all inputs from the same examples.",
            )

    def __len__(self) -> int:
        return len(self.labels)

    def batch(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """The examples at these positions, in this order."""
        index = torch.from_numpy(order)
        return (*(part[index] for part in self.inputs), self.labels[index])

    def chunks(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """All examples in order; the last chunk can be smaller."""
        for start in range(0, len(self), batch_size):
            window = slice(start, start + batch_size)
            yield (*(part[window] for part in self.inputs), self.labels[window])
