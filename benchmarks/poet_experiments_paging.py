"""Page everything, in four strengths, on any step.

    saved values                what the backward pass needs goes out and comes back (saved-tensor
                                hooks to disk), for each use or once
    and persistent storages     parameters, optimizer state and buffers live in flash as well and come
                                for each use (ZeRO-Infinity's way), or stay between uses of one pass
    everything                  nothing is held between two uses: the least RAM without recomputation

Invariant: nothing is computed twice, ops keep their order.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

from benchmarks.planner_passes import Passes
from poet_solvers.occurrences import Sequence, StepModel

_Paged = set[tuple[int, int]]


def paged_sequences(model: StepModel, passes: Passes | None) -> Iterator[Sequence]:
    """The mildest first. Without passes only the last, which needs to know of none."""
    values = model.table.values
    persistent = [value.id for value in values if value.persistent]
    every_state = _each_use(model, persistent)
    if passes is not None:
        saved = [v for storage in passes.saved for v in _first_values(model, storage)]
        for once in (True, False):
            activations = _across(model, saved, passes.forward_ops, once=once)
            yield _sequence(model, activations, model.persistent)
            if persistent:
                by_pass = _across(model, persistent, passes.forward_ops, once=True)
                yield _sequence(model, activations | by_pass, frozenset())
                yield _sequence(model, activations | every_state, frozenset())
    held = [value.id for value in values if not value.persistent]
    yield _sequence(model, _each_use(model, held) | every_state, frozenset())


def _sequence(model: StepModel, paged: Iterable[tuple[int, int]], ram: frozenset[int]) -> Sequence:
    runs = tuple((op.id, op.id) for op in model.problem.graph.ops)
    return Sequence(runs=runs, paged=frozenset(paged), start_ram=ram)


def _first_values(model: StepModel, storage: int) -> tuple[int, ...]:
    first = model.table.first_of.get(storage)
    return () if first is None else (first,)


def _across(model: StepModel, values: Iterable[int], turn: int, *, once: bool) -> _Paged:
    """Absent from the last use before `turn` to those after it; `once`: then held from the first."""
    paged: _Paged = set()
    for v in values:
        after = [op for op in model.table.values[v].users if op >= turn]
        paged |= {(v, op) for op in (after[:1] if once else after)}
    return paged


def _each_use(model: StepModel, values: Iterable[int]) -> _Paged:
    """Absent between any two touches that are not of neighbouring ops."""
    paged: _Paged = set()
    for v in values:
        value = model.table.values[v]
        touches = [value.producer, *value.users]
        paged |= {(v, later) for earlier, later in pairwise(touches) if later > earlier + 1}
    return paged
