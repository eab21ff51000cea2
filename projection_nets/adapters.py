"""How a layer of a mentee is held against a layer of its mentor, where their shapes differ.

    mentor's layer ── pooled ── chosen filters ── fixed matrix? ──┐ target (can be recorded)
    mentee's layer ── pooled ── chosen filters ── learned layer? ──┴── RMSE

| adapter | channels                                                                       |
|---------|--------------------------------------------------------------------------------|
| none    | as many on both sides                                                          |
| learned | mentee's -> mentor's: a linear layer or 1x1 convolution that learns and stays behind |
| fixed   | mentor's -> mentee's: a Gaussian matrix from a seed (it keeps distances)         |
| select  | as many of the mentor's filters as the mentee has, given or evenly spread        |

Shapes, the batch left out: (features,), (length, width), (channels, height, width). Images are
averaged to the smaller height and width. Invariant: what is done to the mentor's side holds nothing
that learns, so it can be done once and recorded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.matrices import integer_matrix
from projection_nets.spec import ProjectionKind

Shape = tuple[int, ...]

_IMAGE = 3  # dimensions of one example
_MATRIX_DEVIATION = 4.0  # of the entries: their variance is 16 (matrices)


class Adapter(StrEnum):
    """What is done where the two sides have different numbers of channels."""

    NONE = "none"  # nothing: they must be equal
    LEARNED = "learned"  # a layer over the mentee's side, trained along
    FIXED = "fixed"  # a random matrix over the mentor's side
    SELECT = "select"  # some of the mentor's filters


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerMap:
    """One layer of the mentee learns to give what one layer of the mentor gives.

    `mentee`, `mentor`: paths of the layers. `weight`: of its RMSE in the loss. `mentee_filters`,
    `mentor_filters`: only these channels, in this order. `seed`: of the fixed matrix.
    """

    mentee: str
    mentor: str
    adapter: Adapter = Adapter.LEARNED
    weight: float = 1.0
    mentee_filters: tuple[int, ...] | None = None
    mentor_filters: tuple[int, ...] | None = None
    seed: int = 2017

    def __post_init__(self) -> None:
        # a plain string is as good as the member that it names
        if self.adapter not in list(Adapter):
            raise _misfit(f"an adapter of {', '.join(Adapter)}, got {self.adapter!r:.40}")
        object.__setattr__(self, "adapter", Adapter(self.adapter))
        if not (math.isfinite(self.weight) and self.weight > 0):
            raise _misfit(f"a finite weight above 0 for {self.name!r:.80}, got {self.weight!r:.40}")

    @property
    def name(self) -> str:
        """What the target is, in words: equal names mean equal targets of one mentor."""
        filters = "" if self.mentor_filters is None else f" {list(self.mentor_filters)}"
        seed = f" seed {self.seed}" if self.adapter is Adapter.FIXED else ""
        return f"{self.mentee} <- {self.mentor} ({self.adapter}{filters}{seed})"


class TargetSide(nn.Module):
    """The mentor's representation as the target that a loss compares with; learns nothing."""

    filters: Tensor | None
    matrix: Tensor | None

    def __init__(self, layer_map: LayerMap, mentor: Shape, mentee: Shape) -> None:
        super().__init__()
        _check_ranks(layer_map, mentor, mentee)
        self.rank = len(mentor)
        self.size = _common_size(mentor, mentee)
        wanted = len(layer_map.mentee_filters or range(_channels(mentee)))
        filters = layer_map.mentor_filters
        if layer_map.adapter is Adapter.SELECT and filters is None:
            if wanted > _channels(mentor):
                raise _misfit(
                    f"at least {wanted} filters to select from in {layer_map.mentor!r:.60}, got "
                    f"{_channels(mentor)}"
                )
            filters = tuple(at * _channels(mentor) // wanted for at in range(wanted))
        channels = len(filters) if filters is not None else _channels(mentor)
        self.register_buffer("filters", _indices(filters, _channels(mentor)), persistent=False)
        matrix = None
        if layer_map.adapter is Adapter.FIXED:
            entries = integer_matrix(ProjectionKind.GAUSSIAN, layer_map.seed, wanted, channels)
            # an output's mean square is then the mean square of its inputs
            matrix = torch.tensor(entries) / (_MATRIX_DEVIATION * math.sqrt(channels))
            channels = wanted
        self.register_buffer("matrix", matrix, persistent=False)
        self.shape = _resized(mentor, channels, self.size)

    def forward(self, representation: Tensor) -> Tensor:
        chosen = _chosen(_averaged(representation, self.size), self.filters, self.rank)
        if self.matrix is None:
            return chosen
        if self.rank == _IMAGE:
            return nn.functional.conv2d(chosen, self.matrix[:, :, None, None])
        return nn.functional.linear(chosen, self.matrix)


class MenteeSide(nn.Module):
    """The mentee's representation in the target's shape; a learned adapter's layer lives here.

    Raises UsageError (`map_invalid`) where that cannot be.
    """

    filters: Tensor | None

    def __init__(self, layer_map: LayerMap, mentee: Shape, target: Shape) -> None:
        super().__init__()
        _check_ranks(layer_map, target, mentee)
        self.rank = len(mentee)
        self.size = _common_size(target, mentee)
        filters = layer_map.mentee_filters
        channels = len(filters) if filters is not None else _channels(mentee)
        self.register_buffer("filters", _indices(filters, _channels(mentee)), persistent=False)
        self.layer: nn.Module = nn.Identity()
        if layer_map.adapter is Adapter.LEARNED:
            of_image = self.rank == _IMAGE
            self.layer = (
                nn.Conv2d(channels, _channels(target), 1)
                if of_image
                else nn.Linear(channels, _channels(target))
            )
            channels = _channels(target)
        got = _resized(mentee, channels, self.size)
        if got != target:
            raise _misfit(
                f"{layer_map.name!r:.80} to give both sides one shape, got {got} of the mentee and "
                f"{target} of the mentor"
            )

    def forward(self, representation: Tensor) -> Tensor:
        chosen = _chosen(_averaged(representation, self.size), self.filters, self.rank)
        adapted: Tensor = self.layer(chosen)
        return adapted


def _channels(shape: Shape) -> int:
    return shape[-1] if len(shape) == 2 else shape[0]


def _resized(shape: Shape, channels: int, size: tuple[int, int] | None) -> Shape:
    if len(shape) == _IMAGE:
        return (channels, *(size or shape[1:]))
    return (*shape[:-1], channels)


def _common_size(one: Shape, other: Shape) -> tuple[int, int] | None:
    """The smaller height and width of two images."""
    if len(one) != _IMAGE:
        return None
    return min(one[1], other[1]), min(one[2], other[2])


def _averaged(representation: Tensor, size: tuple[int, int] | None) -> Tensor:
    if size is None or tuple(representation.shape[2:]) == size:
        return representation
    return nn.functional.adaptive_avg_pool2d(representation, size)


def _chosen(representation: Tensor, filters: Tensor | None, rank: int) -> Tensor:
    if filters is None:
        return representation
    return representation.index_select(2 if rank == 2 else 1, filters)


def _indices(filters: Sequence[int] | None, channels: int) -> Tensor | None:
    if filters is None:
        return None
    if not filters or min(filters) < 0 or max(filters) >= channels:
        raise _misfit(f"filters of 0..{channels - 1}, got {list(filters)!r:.60}")
    return torch.tensor(filters, dtype=torch.int64)


def _check_ranks(layer_map: LayerMap, mentor: Shape, mentee: Shape) -> None:
    if len(mentor) != len(mentee) or not 1 <= len(mentor) <= _IMAGE:
        raise _misfit(
            f"two vectors, sequences or images in {layer_map.name!r:.80}, got {mentor} of the "
            f"mentor and {mentee} of the mentee"
        )


def _misfit(expected: str) -> UsageError:
    return UsageError(
        f"Expected {expected}.",
        code="map_invalid",
        hint="Map layers of one kind; adapter 'learned' joins any two numbers of channels.",
    )
