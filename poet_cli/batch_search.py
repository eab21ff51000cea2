"""Which batch size to try next: growing until one is proven not to fit, then closing the gap.

Assumed, and said to the user: a larger batch needs no less RAM, time and energy. So what fits bounds
from below, what is proven not to fit from above, and an undecided size bounds neither. The RAM floors
of sizes that were traced say where the next try decides most; what they say is a guess, never a proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

_MOST_GROWTH = 8  # times the largest size so far, where floors say that it is far to go


class Outcome(Enum):
    """What is known of one batch size. Each member's value is its sentence."""

    FITS = "A judged plan is within every limit."
    TOO_LARGE = "It is proven that no plan is within every limit."
    UNDECIDED = "Neither a plan nor a proof was found."


@dataclass(frozen=True, slots=True, kw_only=True)
class Brackets:
    """`fits`: the largest size known to fit, 0 for none. `too_large`: the smallest proven not to,
    None for none. `undecided`: sizes tried between them."""

    fits: int
    too_large: int | None
    undecided: tuple[int, ...]

    @property
    def between(self) -> int | None:
        """How many sizes are neither known to fit nor proven not to; None: nobody knows how many."""
        return None if self.too_large is None else max(0, self.too_large - self.fits - 1)


def brackets(known: Mapping[int, Outcome]) -> Brackets:
    """What the tries say together."""
    fits = max((size for size, found in known.items() if found is Outcome.FITS), default=0)
    large = [size for size, found in known.items() if found is Outcome.TOO_LARGE]
    rest = (size for size, found in known.items() if found is Outcome.UNDECIDED and size > fits)
    return Brackets(fits=fits, too_large=min(large, default=None), undecided=tuple(sorted(rest)))


def next_size(
    known: Mapping[int, Outcome], most: int, floors: Mapping[int, int], ram_bytes: int
) -> int | None:
    """The size to try next, at most `most`; None where trying decides no more.

    `floors`: the RAM floors of sizes that were traced. First sizes grow until one is proven too
    large, past undecided ones too: a proof by the floor is quick. Then the gap above the largest
    that fits is closed, then the gap below the smallest that is proven not to.
    """
    if not known:
        return 1
    now = brackets(known)
    if now.too_large is None and max(known) < most:
        return min(_grown(max(known), floors, ram_bytes), most)
    ends = [size for size in (*now.undecided, now.too_large) if size is not None]
    if ends and ends[0] - now.fits > 1:
        return _within(now.fits, ends[0], known, floors, ram_bytes)
    if now.too_large is not None:
        below = max((now.fits, *now.undecided))
        if now.too_large - below > 1:
            return _within(below, now.too_large, known, floors, ram_bytes)
    return None


def _grown(size: int, floors: Mapping[int, int], ram_bytes: int) -> int:
    """Twice the size, or further where floors grow so slowly that much more should fit."""
    if len(floors) < 2:
        return 2 * size
    before, last = sorted(floors)[-2:]
    growth = floors[last] - floors[before]
    if growth <= 0:
        return _MOST_GROWTH * size
    reached = last + (ram_bytes - floors[last]) * (last - before) // growth + 1
    return max(2 * size, min(reached, _MOST_GROWTH * size))


def _within(
    low: int, high: int, known: Mapping[int, Outcome], floors: Mapping[int, int], ram_bytes: int
) -> int:
    """A size between: by a line through the floors of both ends, the last whose floor should fit, or
    the first that should not. Every other time, and where such a guess was wrong, the middle: floors
    may bend."""
    middle = (low + high) // 2
    if low not in floors or high not in floors or not floors[low] <= ram_bytes < floors[high]:
        return middle
    reached = low + (ram_bytes - floors[low]) * (high - low) // (floors[high] - floors[low])
    if reached in (low, high - 1):
        guessed_wrong = low - 1 in known or high + 1 in known
        return middle if guessed_wrong else min(max(reached, low + 1), high - 1)
    return middle if len(known) % 2 else reached
