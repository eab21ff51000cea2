"""Local search over sequences of runs: better plans within seconds, for energy or time.

The moves are made by `_search`, in C++ (solvers/native), which may not be there: it needs a
compiler when the package is built. `native_missing` says so, `search_schedule` then has nothing.

Invariant: what `search_schedule` returns was accepted by the judge for the very problem. Without a
time limit the answer depends on the problem, the start, the seed and the number of moves alone.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from poet_core.plan import Problem, Schedule
from poet_solvers.evict import judged_cost
from poet_solvers.greedy import best_greedy_sequence, excess_to_save
from poet_solvers.native_problem import native_problem, native_start, sequence_of
from poet_solvers.occurrences import (
    Sequence,
    StepModel,
    hold_everything,
    sequence_schedule,
    step_model,
)

_NATIVE = "poet_solvers._search"

# More than any machine makes in a day: without a number the wall limit decides.
_MOST_MOVES = 10**12


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchLimits:
    """When the search ends: after `moves` (proposals evaluated), and after `wall_seconds` if given."""

    moves: int = _MOST_MOVES
    wall_seconds: float | None = None
    seed: int = 0


def native_missing() -> str | None:
    """Why there is no local search here, in a sentence; None where there is one."""
    if importlib.util.find_spec(_NATIVE) is not None:
        return None
    return (
        "The local search is not built (it needs a C++ compiler when poet-planner is installed); "
        "plans come from greedy and the solver alone."
    )


def search_schedule(
    problem: Problem,
    *,
    limits: SearchLimits,
    start: Sequence | None = None,
    on_incumbent: Callable[[Schedule], None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Schedule | None:
    """The best schedule found from `start` (by default greedy's), if the judge accepts it.

    `on_incumbent` hears of better schedules about 10 times a second at most, and always of the
    last; the judge has not seen them yet. `stop` is asked about 20 times a second. None where
    nothing was found, or no native part.
    """
    if native_missing() is not None or (stop is not None and stop()):
        return None
    model = step_model(problem)
    ends = None if limits.wall_seconds is None else time.monotonic() + limits.wall_seconds
    start = start or best_greedy_sequence(problem, stop=_half_gone(ends, stop))
    told: list[Sequence] = []

    def tell(sequence: Sequence) -> None:
        told[:] = [sequence]
        if on_incumbent is not None:
            on_incumbent(sequence_schedule(model, sequence))

    found = _search(model, start or hold_everything(model), limits, ends, tell, stop)
    if found is None:
        return None
    schedule = sequence_schedule(model, found)
    if judged_cost(problem, schedule) is None:
        return None
    if on_incumbent is not None and told != [found]:
        on_incumbent(schedule)
    return schedule


def _half_gone(ends: float | None, stop: Callable[[], bool] | None) -> Callable[[], bool]:
    """Greedy is for a start: it gets half the time at most."""
    begun = time.monotonic()

    def gone() -> bool:
        late = ends is not None and time.monotonic() > begun + 0.5 * (ends - begun)
        return late or (stop is not None and stop())

    return gone


def _search(
    model: StepModel,
    start: Sequence,
    limits: SearchLimits,
    ends: float | None,
    tell: Callable[[Sequence], None] | None,
    stop: Callable[[], bool] | None,
) -> Sequence | None:
    native = importlib.import_module(_NATIVE)

    def poll(answer: Any, _moves: int) -> bool:
        if tell is not None and answer is not None:
            better = sequence_of(model, answer)
            assert better is not None  # only answers that fit are told
            tell(better)
        return stop is None or not stop()

    answer, _moves = native.search(
        problem=native_problem(native, model),
        **native_start(model, start),
        seed=limits.seed,
        moves=min(limits.moves, _MOST_MOVES),
        seconds=0.0 if ends is None else max(0.01, ends - time.monotonic()),
        price=_price(model, start),
        check=False,
        poll=poll,
    )
    return sequence_of(model, answer)


def _price(model: StepModel, start: Sequence) -> float:
    """What a byte over the budget costs for one position, to begin with: what getting rid of it
    took greedy on average, or (where that is nothing or unknown) a fraction of the base cost."""
    base = sum(model.op_cost)
    runs = [op for _number, op in start.runs]
    overhead = sum(model.op_cost[op] for op in runs) - base
    overhead += sum(model.page_in_cost[v] for v, _number in start.paged)
    excess = max(1, excess_to_save(model))
    return max(overhead, 1e-3 * base, 1e-300) / excess
