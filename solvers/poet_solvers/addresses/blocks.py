"""What is placed: blocks of bytes with their lifetimes, and the addresses that they get.

Positions count instructions from 0; -1 is the moment before the first. A *span* (first, last) has
both ends included. A *block* is what must have one address: nearly always one span, and two for a
storage of `start.ram` that leaves and comes back, because a step is a cycle. Invariant: blocks that
exist have at least one byte, and their spans are ascending and disjoint.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

Span = tuple[int, int]


class Holds(StrEnum):
    """What the bytes of a block hold."""

    STORAGE = "storage"  # one residence of a storage; `target` is its id
    WORKSPACE = "workspace"  # the scratch bytes of one run of an op; `target` is the op
    GENERATOR = "generator"  # the generator's state for the reruns of a random op: the op


@dataclass(frozen=True, slots=True)
class Block:
    """Bytes that live during `spans` at one address; `size_bytes` is rounded to the alignment."""

    holds: Holds
    target: int
    size_bytes: int
    spans: tuple[Span, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """One span with its address: bytes [offset, offset + size) from `first` to `last` instruction."""

    holds: Holds
    target: int
    first: int
    last: int
    offset_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A copy inside the arena (its source and target may overlap) right before the instruction
    `before`; before the number of instructions, it is after the last."""

    before: int
    holds: Holds
    target: int
    from_bytes: int
    to_bytes: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Addresses:
    """An address for every span of a plan, in one arena.

    `peak_bytes` is the judge's peak without the reserved bytes; the arena is smaller only where an
    op writes over an old copy that the judge counts beside the new one. `found_by` names the
    heuristic. `placed` is sorted by first instruction, then by address; a residence that is moved
    has one entry for each address. `moves` are in the order in which they are carried out.
    """

    arena_bytes: int
    peak_bytes: int
    placed: tuple[Placed, ...]
    found_by: str
    moves: tuple[Move, ...] = ()

    @property
    def ratio(self) -> float:
        """Arena over peak."""
        return self.arena_bytes / self.peak_bytes if self.peak_bytes else 1.0

    @property
    def moved_bytes(self) -> int:
        """Bytes that are copied inside the arena in a step."""
        return sum(move.size_bytes for move in self.moves)
