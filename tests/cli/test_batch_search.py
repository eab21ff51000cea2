"""Which batch size is tried next: every answer is as narrow as what can be decided, in few tries."""

import random

import pytest

from poet_cli.batch_search import Outcome, brackets, next_size

FITS, TOO_LARGE, UNDECIDED = Outcome.FITS, Outcome.TOO_LARGE, Outcome.UNDECIDED


def tried(decide, floor, most, ram_bytes):
    known, floors = {}, {}
    while (size := next_size(known, most, floors, ram_bytes)) is not None:
        assert size not in known
        assert 1 <= size <= most
        known[size], floors[size] = decide(size), floor(size)
        assert len(known) <= 60
    return known


@pytest.mark.parametrize("part", range(4))
def test_the_answer_is_as_narrow_as_can_be(part):
    for seed in range(500):
        chance = random.Random(500 * part + seed)
        base, early = chance.randrange(1, 10**6), chance.choice([0, 1, 5, 1000])
        late, bend = chance.choice([1, 7, 100, 5000]), chance.randrange(3000)
        ram_bytes = chance.randrange(1, 10**7)
        most = chance.choice([1, 7, 64, 4096, 1 << 20])
        harder = chance.choice([1, 1, 1.2, 2])  # than the floor says
        otherwise = chance.choice([TOO_LARGE, UNDECIDED])

        def floor(size, base=base, early=early, late=late, bend=bend):
            return max(base + early * size, base // 2 + late * max(0, size - bend))

        def decide(size, floor=floor, ram=ram_bytes, harder=harder, otherwise=otherwise):
            if floor(size) > ram:
                return TOO_LARGE
            return FITS if floor(size) * harder <= ram else otherwise

        now = brackets(tried(decide, floor, most, ram_bytes))
        assert now.fits == most or decide(now.fits + 1) is not FITS
        assert (
            now.too_large is None
            or now.too_large == 1
            or decide(now.too_large - 1) is not TOO_LARGE
        )
        assert now.too_large is not None or decide(most) is not TOO_LARGE


def test_floors_on_a_line_need_few_tries():
    known = tried(
        lambda size: FITS if 1000 + 10 * size <= 50_000 else TOO_LARGE,
        lambda size: 1000 + 10 * size, 1 << 20, 50_000,
    )  # fmt: skip
    assert brackets(known).fits == 4900
    assert len(known) <= 10


def test_nothing_traced_is_plain_doubling_and_halving():
    known = {}
    while (size := next_size(known, 4096, {}, 1)) is not None:
        known[size] = FITS if size <= 11 else TOO_LARGE
    assert list(known) == [1, 2, 4, 8, 16, 12, 10, 11]


def test_undecided_sizes_bound_neither_side():
    known = {}
    while (size := next_size(known, 64, {}, 1)) is not None:
        known[size] = FITS if size <= 3 else UNDECIDED if size <= 20 else TOO_LARGE
    now = brackets(known)
    assert (now.fits, now.too_large, now.between) == (3, 21, 17)
    assert now.undecided[0] == 4
    assert now.undecided[-1] == 20


def test_nobody_knows_how_many_where_nothing_is_too_large():
    now = brackets({1: FITS, 2: UNDECIDED})
    assert (now.fits, now.too_large, now.between) == (1, None, None)
