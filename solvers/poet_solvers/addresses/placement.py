"""The packing portfolio: greedy orders, then the search, until the arena is the lower bound.

Blocks that live all step go to the bottom. What remains is packed greedily in each classical order;
the best packing is then driven towards the lower bound, step by step. Deterministic for a seed unless the clock stops it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import gcd
from random import Random

from poet_solvers.addresses.blocks import Block
from poet_solvers.addresses.conflicts import Packing, packing_of
from poet_solvers.addresses.greedy import arena_of, orders, packed
from poet_solvers.addresses.search import Effort, fit_within

# Measured on paged steps of ResNet-18, VGG-16 and BERT near their floors.
_ROUNDS = 5
_ATTEMPTS = 8  # a round
_LONGEST_STEP = 0.4
_LEAST_LOOKS = 10_000


def pack(
    blocks: Sequence[Block], *, whole: tuple[int, int], rng: Random, effort: Effort
) -> tuple[list[int], str]:
    """Offsets by block, and who found them. `whole` is the span of a block that lives all step."""
    always = [number for number, block in enumerate(blocks) if block.spans == (whole,)]
    resident = frozenset(always)
    others = [number for number in range(len(blocks)) if number not in resident]
    offsets = [0] * len(blocks)
    base = 0
    for number in always:
        offsets[number] = base
        base += blocks[number].size_bytes
    above, found_by = _packed(packing_of([blocks[number] for number in others]), rng, effort)
    for number, offset in zip(others, above, strict=True):
        offsets[number] = base + offset
    return offsets, found_by


def _packed(packing: Packing, rng: Random, effort: Effort) -> tuple[list[int], str]:
    bound = packing.lower_bound_bytes
    looks = sum(map(len, packing.neighbours)) + len(packing.sizes)
    best, found_by, arena = [0] * len(packing.sizes), "nothing to place", -1
    for name, order in orders(packing):
        for best_fit in (False, True):
            offsets = packed(packing, order, best_fit=best_fit)
            reached = arena_of(packing, offsets)
            if arena < 0 or reached < arena:
                best, arena = offsets, reached
                found_by = f"greedy by {name}, {'best' if best_fit else 'first'} fit"
            if arena == bound or not effort.spend(looks):
                return best, found_by
    found = _best_search(packing, best, rng, effort)
    return (found, "ejection search") if arena_of(packing, found) < arena else (best, found_by)


def _best_search(packing: Packing, greedy: list[int], rng: Random, effort: Effort) -> list[int]:
    """The best of some searches that all begin at the greedy packing: their luck differs more than
    a longer search gains."""
    share = effort.looks // _ROUNDS
    best, arena = greedy, arena_of(packing, greedy)
    for _ in range(_ROUNDS):
        part = Effort(looks=share, out_of_time=effort.out_of_time)
        found = _searched(packing, greedy, rng, part)
        if arena_of(packing, found) < arena:
            best, arena = found, arena_of(packing, found)
        if arena == packing.lower_bound_bytes or not effort.spend(share - part.looks):
            break
    return best


def _searched(packing: Packing, best: list[int], rng: Random, effort: Effort) -> list[int]:
    """Lower the target step by step: a success takes longer steps, a failure shorter ones.

    Targets are multiples of what all sizes are multiples of, so offsets stay aligned.
    """
    unit = gcd(*packing.sizes)
    low, high = packing.lower_bound_bytes // unit, arena_of(packing, best) // unit
    looks = max(effort.looks // _ATTEMPTS, _LEAST_LOOKS)
    step = 1.0  # share of the way to the lower bound: the bound itself is tried first
    equal_worth = False
    while low < high and not effort.stopped:
        target = min(high - 1, high - int(step * (high - low)))
        attempt = Effort(looks=looks, out_of_time=effort.out_of_time)
        found = fit_within(packing, target * unit, best, rng, attempt, equal_worth=equal_worth)
        effort.spend(looks - attempt.looks)
        if found is None:
            step = min(step / 2, _LONGEST_STEP)
            equal_worth = not equal_worth  # neither is better everywhere, both are on average
        else:
            best = _settled(packing, found)
            high = arena_of(packing, best) // unit
            step = min(2 * step, _LONGEST_STEP)
    return best


def _settled(packing: Packing, offsets: list[int]) -> list[int]:
    """Each block lowered onto what lies below it, from the bottom up: no block rises."""
    return packed(packing, sorted(range(len(offsets)), key=lambda block: offsets[block]))
