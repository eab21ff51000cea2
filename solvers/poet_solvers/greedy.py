"""Greedy + prune: a plan in milliseconds, with paging, second runs, or both.

Begin with everything held. At the peak, every value that is held and not touched there could be
brought back just before its next use instead: paged in, or computed again together with what that
needs. The one is taken that costs least for each byte-position it brings under the budget; when the
peak fits, whatever turned out redundant is taken back. First runs keep the order that it begins
with: document order, and where reordering is allowed another one besides.

Invariant: what `greedy_schedule` returns was accepted by the judge for the very problem.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from poet_core.plan import Problem, Schedule
from poet_solvers.evict import judged_cost
from poet_solvers.greedy_choice import Chooser
from poet_solvers.greedy_prune import prune
from poet_solvers.greedy_timeline import Timeline
from poet_solvers.occurrences import Sequence, StepModel, sequence_schedule, step_model
from poet_solvers.reorder import lean_orders

_ROUNDS_PER_OP, _ROUNDS = 6, 64

# Another order is tried where its bytes over the budget are at most that share of document order's.
_WORSE_BEGINNING = 1.1

# From so many ops on what is taken in one block is taken in all blocks like it that want it.
_LARGE = 1000

# Only what is cheaper by more than a rounding is worth leaving document order for: more is proven
# about plans that keep it.
_LESS = 1 - 1e-9


def _never() -> bool:
    return False


def greedy_schedule(problem: Problem, *, stop: Callable[[], bool] = _never) -> Schedule | None:
    """The schedule of `best_greedy_sequence`, if there is one."""
    found = best_greedy_sequence(problem, stop=stop)
    return None if found is None else sequence_schedule(step_model(problem), found)


def best_greedy_sequence(problem: Problem, *, stop: Callable[[], bool] = _never) -> Sequence | None:
    """The cheapest of the greedy sequences that the judge accepts, or None.

    With paging and second runs both allowed it is tried with both and with paging alone; where first
    runs may be reordered, also from another order, if one is not much worse to begin with. `stop` is
    asked between choices; what is finished by then counts.
    """
    model = step_model(problem)
    best: tuple[float, Sequence] | None = None
    for line in _beginnings(model):
        if best is not None and stop():
            break
        found = _descended(line, stop)
        cost = None if found is None else judged_cost(problem, sequence_schedule(model, found))
        if found is not None and cost is not None and (best is None or cost < best[0] * _LESS):
            best = cost, found
    return best[1] if best else None


def _beginnings(model: StepModel) -> Iterator[Timeline]:
    """Where to begin, each with everything held."""
    allowed = model.problem.allowed
    document = Timeline(model)
    excess = _excess(document)
    yield document
    if allowed.page and allowed.rematerialize:
        yield Timeline(without_second_runs(model))
    if allowed.reorder:
        others = [Timeline(model, order) for order in lean_orders(model)]
        leanest = min(others, key=_excess)
        if _excess(leanest) <= _WORSE_BEGINNING * excess:
            yield leanest


def without_second_runs(model: StepModel) -> StepModel:
    """The model where no op may run again."""
    return replace(model, may_rerun=(False,) * len(model.may_rerun))


def greedy_sequence(model: StepModel, *, stop: Callable[[], bool] = _never) -> Sequence | None:
    """The greedy sequence in document order; None where it stands still above the budget."""
    return _descended(Timeline(model), stop)


def _descended(line: Timeline, stop: Callable[[], bool]) -> Sequence | None:
    chooser = Chooser(line, stop)
    if not descend(line, chooser, stop):
        return None
    prune(line, chooser, stop)
    return line.sequence()


def descend(line: Timeline, chooser: Chooser, stop: Callable[[], bool]) -> bool:
    """Bring the peak under the budget; False where no choice does."""
    budget = line.model.problem.budget.ram_bytes
    repeat = line.length >= _LARGE
    for _ in range(_ROUNDS_PER_OP * len(line.model.op_cost) + _ROUNDS):
        at = int(line.memory.argmax())
        peak = int(line.memory[at])
        if peak <= budget:
            return True
        choice = chooser.choose(at, peak)
        if choice is None or stop():
            return False
        chooser.take(choice)
        if repeat:
            for one in chooser.alike(choice):
                chooser.take(one)
    return False


def excess_to_save(model: StepModel) -> int:
    """Bytes over the budget, summed over the positions of a sequence that holds everything."""
    return _excess(Timeline(model))


def _excess(line: Timeline) -> int:
    over = line.memory - line.model.problem.budget.ram_bytes
    return int(over[over > 0].sum())
