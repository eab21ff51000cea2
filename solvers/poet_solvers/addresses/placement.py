"""The packing portfolio: greedy orders, then two searches, until the arena is the lower bound.

Blocks that live all step go to the bottom. What remains is packed greedily in each classical order;
then sweeps at the lower bound look for one that moves nothing, and an ejection search drives the
best packing towards the lower bound, step by step. Where moves are allowed, the sweep that moves
the fewest bytes comes last: its arena is always the lower bound. Deterministic for a seed unless
the clock stops it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from math import gcd
from random import Random

from poet_solvers.addresses.blocks import Block
from poet_solvers.addresses.conflicts import Packing, packing_of
from poet_solvers.addresses.greedy import arena_of, orders, packed
from poet_solvers.addresses.relocate import least_moved
from poet_solvers.addresses.search import Effort, fit_within
from poet_solvers.addresses.sweep import Swept

# Measured on paged steps of ResNet-18, VGG-16 and BERT near their floors.
_ROUNDS = 5
_ATTEMPTS = 8  # a round
_LONGEST_STEP = 0.4
_LEAST_LOOKS = 10_000
_SWEPT_SHARE = 0.25


def pack(
    blocks: Sequence[Block], *, whole: tuple[int, int], rng: Random, effort: Effort
) -> tuple[list[int], str]:
    """Offsets by block, and who found them. `whole` is the span of a block that lives all step."""
    bottom, others, base = _split(blocks, whole)
    offsets = [bottom.get(number, 0) for number in range(len(blocks))]
    above, found_by = _packed(packing_of([blocks[number] for number in others]), rng, effort)
    for number, offset in zip(others, above, strict=True):
        offsets[number] = base + offset
    return offsets, found_by


def pack_moving(
    blocks: Sequence[Block],
    *,
    whole: tuple[int, int],
    offsets: Sequence[int],
    rng: Random,
    effort: Effort,
) -> Swept | None:
    """The sweep at the lower bound that moves the fewest bytes, sought from the packing `offsets`
    and greedy ones; None where `offsets` reach the bound, or no sweep ends where it began."""
    bottom, others, base = _split(blocks, whole)
    packing = packing_of([blocks[number] for number in others])
    given = [offsets[number] - base for number in others]
    if arena_of(packing, given) <= packing.lower_bound_bytes:
        return None
    guides = chain([given], (guide for _, guide in _greedy(packing)))
    found = least_moved(packing, packing.lower_bound_bytes, guides, rng, effort)
    if found is None:
        return None
    stays = [(others[block], first, last, base + at) for block, first, last, at in found.stays]
    stays += [(number, *whole, offset) for number, offset in bottom.items()]
    relocations = (
        replace(
            move, block=others[move.block], source=base + move.source, target=base + move.target
        )
        for move in found.relocations
    )
    return replace(found, stays=tuple(stays), relocations=tuple(relocations))


def _split(
    blocks: Sequence[Block], whole: tuple[int, int]
) -> tuple[dict[int, int], list[int], int]:
    """The offsets of what lives all step, by block; the other blocks; where those begin."""
    bottom: dict[int, int] = {}
    base = 0
    for number, block in enumerate(blocks):
        if block.spans == (whole,):
            bottom[number] = base
            base += block.size_bytes
    return bottom, [number for number in range(len(blocks)) if number not in bottom], base


def _greedy(packing: Packing) -> Iterator[tuple[str, list[int]]]:
    """Every greedy packing, with its name."""
    for name, order in orders(packing):
        for fit in ("first", "best"):
            offsets = packed(packing, order, best_fit=fit == "best")
            yield f"greedy by {name}, {fit} fit", offsets


def _packed(packing: Packing, rng: Random, effort: Effort) -> tuple[list[int], str]:
    bound = packing.lower_bound_bytes
    looks = sum(map(len, packing.neighbours)) + len(packing.sizes)
    best, found_by, arena = [0] * len(packing.sizes), "nothing to place", -1
    guides = []
    for name, offsets in _greedy(packing):
        guides.append(offsets)
        reached = arena_of(packing, offsets)
        if arena < 0 or reached < arena:
            best, arena, found_by = offsets, reached, name
        if arena == bound or not effort.spend(looks):
            return best, found_by
    part = Effort(looks=int(effort.looks * _SWEPT_SHARE), out_of_time=effort.out_of_time)
    given = part.looks
    swept = least_moved(packing, bound, guides, rng, part)
    if swept is not None and not swept.moved_bytes:
        return list(swept.offsets), "sweep"
    if not effort.spend(given - part.looks):
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
