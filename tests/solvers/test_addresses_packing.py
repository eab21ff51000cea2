"""The packing algorithm against brute force, and its promises: determinism and limits."""

from __future__ import annotations

from collections import Counter
from itertools import count
from random import Random

import pytest

from poet_solvers.addresses.blocks import Block, Holds
from poet_solvers.addresses.conflicts import packing_of
from poet_solvers.addresses.greedy import arena_of, orders, packed
from poet_solvers.addresses.placement import pack
from poet_solvers.addresses.search import Effort, fit_within
from tests.solvers.address_cases import alive, least_arena, most_live, overlaps, random_blocks

CASES = 2000


def effort(looks: int = 200_000) -> Effort:
    return Effort(looks=looks, out_of_time=lambda: False)


def arena(blocks: list[Block], offsets: list[int]) -> int:
    return max(o + b.size_bytes for o, b in zip(offsets, blocks, strict=True))


def packed_by_all(blocks: list[Block], seed: int = 0, looks: int = 200_000) -> list[int]:
    offsets, _ = pack(blocks, whole=(-1, 5), rng=Random(seed), effort=effort(looks))
    return offsets


def short_lived(rng: Random) -> list[Block]:
    """40 blocks of 1 to 9 bytes that live up to 8 of 30 positions: harder than long-lived ones."""
    blocks = []
    for number in range(40):
        first = rng.randrange(23)
        span = (first, first + rng.randrange(8))
        blocks.append(Block(Holds.STORAGE, number, rng.randint(1, 9), (span,)))
    return blocks


def test_the_arena_is_the_brute_force_optimum_on_thousands_of_small_cases() -> None:
    found: Counter[str] = Counter()
    for seed in range(CASES):
        blocks = random_blocks(Random(seed))
        offsets = packed_by_all(blocks)
        assert not overlaps(blocks, offsets), seed
        optimum = least_arena(blocks)
        assert arena(blocks, offsets) >= optimum, seed
        found["optimal"] += arena(blocks, offsets) == optimum
        found["optimum above the live bytes"] += optimum > most_live(blocks)
    assert found["optimal"] == CASES, found
    assert found["optimum above the live bytes"] > 0, "too easy: no case needs more than its peak"


def test_greedy_alone_is_not_always_optimal_so_the_search_is_needed() -> None:
    worse = searched = 0
    for seed in range(60):
        blocks = short_lived(Random(seed))
        packing = packing_of(blocks)
        greedy = min(arena_of(packing, packed(packing, order)) for _, order in orders(packing))
        offsets, _ = pack(blocks, whole=(-1, 29), rng=Random(0), effort=effort())
        worse += greedy > packing.lower_bound_bytes
        searched += arena(blocks, offsets) < greedy
    assert searched > 0.8 * worse > 8, (searched, worse)


def test_neighbours_bounds_and_breadths_are_those_of_the_definition() -> None:
    for seed in range(200):
        blocks = random_blocks(Random(seed), most=9, positions=9)
        packing = packing_of(blocks)
        assert packing.lower_bound_bytes == most_live(blocks)
        for number, block in enumerate(blocks):
            at = [p for p in range(-1, 9) if alive(block, p)]
            assert packing.durations[number] == len(at)
            others = {
                n for n, b in enumerate(blocks) if n != number and any(alive(b, p) for p in at)
            }
            assert set(packing.neighbours[number]) == others
            loads = (sum(b.size_bytes for b in blocks if alive(b, p)) for p in at)
            assert packing.breadths[number] == max(loads)


@pytest.mark.parametrize("best_fit", [False, True])
def test_every_greedy_order_gives_a_valid_packing(best_fit: bool) -> None:
    for seed in range(100):
        blocks = random_blocks(Random(seed), most=12, positions=10)
        packing = packing_of(blocks)
        for name, order in orders(packing):
            assert not overlaps(blocks, packed(packing, order, best_fit=best_fit)), name


def test_best_fit_takes_the_tighter_gap_and_first_fit_the_lower_one() -> None:
    # Bytes 0-3 and 4-6 become free at position 1 between blocks that stay; 3 bytes arrive.
    sizes_and_spans = [(4, (0, 0)), (1, (0, 1)), (3, (0, 0)), (1, (0, 1)), (3, (1, 1))]
    blocks = [Block(Holds.STORAGE, n, s, (span,)) for n, (s, span) in enumerate(sizes_and_spans)]
    packing = packing_of(blocks)
    assert packed(packing, range(5)) == [0, 4, 5, 8, 0]
    assert packed(packing, range(5), best_fit=True) == [0, 4, 5, 8, 5]


def test_the_same_seed_gives_the_same_offsets() -> None:
    blocks = random_blocks(Random(5), most=60, positions=40, most_bytes=9)
    first = packed_by_all(blocks, seed=3)
    assert packed_by_all(blocks, seed=3) == first


def test_a_target_below_the_live_bytes_ends_without_an_answer() -> None:
    blocks = [Block(Holds.STORAGE, n, 2, ((0, 1),)) for n in range(3)]
    packing = packing_of(blocks)
    assert fit_within(packing, 5, [0, 2, 4], Random(0), effort(50_000)) is None
    assert fit_within(packing, 6, [0, 2, 4], Random(0), effort(50_000)) == [0, 2, 4]


def test_the_clock_stops_the_search_and_the_packing_stays_valid() -> None:
    blocks = random_blocks(Random(1), most=300, positions=60, most_bytes=30)
    ticks = count()
    limited = Effort(looks=10**9, out_of_time=lambda: next(ticks) >= 3)
    offsets, found_by = pack(blocks, whole=(-1, 59), rng=Random(0), effort=limited)
    assert not overlaps(blocks, offsets)
    assert next(ticks) < 10
    assert found_by.startswith("greedy")


def test_offsets_are_multiples_of_what_all_sizes_are_multiples_of() -> None:
    for seed in range(60):
        small = random_blocks(Random(seed), most=14, positions=12)
        blocks = [Block(b.holds, b.target, 64 * b.size_bytes, b.spans) for b in small]
        offsets, _ = pack(blocks, whole=(-1, 11), rng=Random(0), effort=effort())
        assert all(offset % 64 == 0 for offset in offsets)


def test_blocks_of_the_whole_step_lie_at_the_bottom() -> None:
    blocks = [
        Block(Holds.STORAGE, 0, 3, ((0, 2),)),
        Block(Holds.STORAGE, 1, 2, ((-1, 5),)),
        Block(Holds.STORAGE, 2, 1, ((-1, 5),)),
    ]
    assert packed_by_all(blocks) == [3, 0, 2]


def test_nothing_to_place_is_an_empty_arena() -> None:
    assert packed_by_all([]) == []
