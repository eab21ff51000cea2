"""A schedule without second runs as values of the judged model: where a solver may start from.

Values of U and Free are left out; solvers fill them in. A start that a solver cannot use (it breaks
a twin row, say) costs nothing but its offer.
"""

from __future__ import annotations

from poet_core.plan import Do, Schedule
from poet_solvers.milp_model import JudgedModel


def warm_start(model: JudgedModel, schedule: Schedule) -> dict[str, float]:
    """Values of all binaries of `model` that describe `schedule` (of the model's own graph)."""
    reader = _Reader(model, schedule)
    reader.read()
    tables = (model.runs, model.hold, model.page_in, model.page_out)
    chosen = reader.chosen
    for table, storages in (
        (model.start_ram, schedule.start_ram),
        (model.start_flash, schedule.start_flash),
    ):
        chosen |= {table[storage].name for storage in storages if storage in table}
    binaries = [variable for table in tables for variable in table.values()]
    binaries += [*model.start_ram.values(), *model.start_flash.values()]
    return {variable.name: float(variable.name in chosen) for variable in binaries}


class _Reader:
    """Follows the schedule; a gap of a value is held where nothing pages the value in meanwhile."""

    def __init__(self, model: JudgedModel, schedule: Schedule) -> None:
        self._model, self._schedule = model, schedule
        self._current = dict(model.table.first_of)
        self._paged_in: set[int] = set()
        self._last_event = [0] * len(model.table.values)
        self.chosen: set[str] = set()

    def read(self) -> None:
        model = self._model
        for instruction in self._schedule.instructions:
            target = instruction.target
            if instruction.do is Do.COMPUTE:
                for v in model.table.needed[target]:
                    self._touch(v, target)
                for v in model.table.given(target):
                    self._current[model.table.values[v].storage] = v
            elif instruction.do is Do.PAGE_IN:
                self._paged_in.add(self._current[target])
            elif instruction.do is Do.PAGE_OUT:
                out = model.page_out.get((self._current[target], 0))
                self.chosen |= {out.name} if out is not None else set()
        in_ram = set(self._schedule.start_ram)
        in_ram |= {s.id for s in model.problem.graph.storages if s.result}
        for value in model.table.values:
            if value.at_end and value.storage in in_ram:
                self._touch(value.id, model.end)

    def _touch(self, v: int, stage: int) -> None:
        """The value is needed in `stage`: it was held since its last use, or paged in."""
        model = self._model
        index = model.event_at(v, stage)
        if v in self._paged_in:
            self._paged_in.discard(v)
            variable = model.page_in.get((v, index))
            self.chosen |= {variable.name} if variable is not None else set()
        else:
            for gap in range(self._last_event[v], index):
                held = model.hold.get((v, gap))
                self.chosen |= {held.name} if held is not None else set()
        self._last_event[v] = index
