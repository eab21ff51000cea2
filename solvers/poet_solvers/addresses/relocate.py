"""Search for the sweep that moves the fewest bytes: guides are changed at random, and a change that
does not move more is kept. Deterministic for a seed unless the clock stops it. Invariant: every
sweep stays below the same height, so what is searched is moved bytes alone; none moved is a packing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from random import Random

from poet_solvers.addresses.conflicts import Packing
from poet_solvers.addresses.greedy import UNPLACED
from poet_solvers.addresses.search import Effort
from poet_solvers.addresses.sweep import Sweep, Swept

_CHANGES = (1, 1, 2, 4, 8)


def least_moved(
    packing: Packing,
    height: int,
    guides: Iterable[Sequence[int]],
    rng: Random,
    effort: Effort,
) -> Swept | None:
    """The best sweep found below `height`, from the best of `guides` on; None where no guide led
    to one."""
    best: Swept | None = None
    for guide in guides:
        found = _swept(packing, height, guide, best, effort)
        if found and (best is None or found.moved_bytes < best.moved_bytes):
            best = found
        if effort.stopped and best is not None:
            return best
    while best is not None and best.moved_bytes and not effort.stopped:
        best = _swept(packing, height, _changed(packing, height, best, rng), best, effort) or best
    return best


def _swept(
    packing: Packing, height: int, guide: Sequence[int], best: Swept | None, effort: Effort
) -> Swept | None:
    sweep = Sweep(packing, height, guide, None if best is None else best.moved_bytes)
    found = sweep.run()
    effort.spend(sweep.looks)
    return found


def _changed(packing: Packing, height: int, best: Swept, rng: Random) -> list[int]:
    """The guide of `best` with some entries changed, half of them near what moved."""
    guide = list(best.offsets)
    for _ in range(rng.choice(_CHANGES)):
        block = rng.randrange(len(guide))
        if rng.random() < 0.5:
            block = rng.choice(best.relocations).block
            if rng.random() < 0.5 and packing.neighbours[block]:
                block = rng.choice(packing.neighbours[block])
        draw = rng.random()
        if draw < 0.4:
            guide[block] = UNPLACED
        elif draw < 0.5:
            guide[block] = height - packing.sizes[block]
        else:
            guide[block] = rng.choice(guide)
    return guide
