"""A solver's answer as instructions: stage by stage, as `docs/formulation.md` lays out.

stage t:  free what is not kept | page_ins of the boundary | page_outs of what is there |
          the stage's ops in document order, each followed by page_outs of what it gives and by
          frees of what neither the stage nor its successors want
"""

from __future__ import annotations

from collections.abc import Mapping

from poet_core.plan import Do, Instruction, Schedule
from poet_solvers.milp_model import JudgedModel, Variable
from poet_solvers.values import BEFORE_STEP, Value


def decode(model: JudgedModel, answer: Mapping[str, float]) -> Schedule:
    """The schedule of an answer (variable name -> value)."""
    return _Decoder(model, answer).schedule()


class _Decoder:
    """Walks the stages, keeping which value is in RAM by storage."""

    def __init__(self, model: JudgedModel, answer: Mapping[str, float]) -> None:
        self._model, self._answer = model, answer
        self._values = model.table.values
        self._out: list[Instruction] = []
        self._done: set[int] = set()
        self._ram: dict[int, int] = {}
        self._paged_in = {v for (v, i), var in model.page_in.items() if self._is_one(var)}

    def _is_one(self, variable: Variable | None) -> bool:
        return variable is not None and self._answer[variable.name] > 0.5

    def schedule(self) -> Schedule:
        model = self._model
        persistent = [v for v in self._values if v.persistent and v.starts_step]
        start_ram = [v for v in persistent if self._starts(model.start_ram, v.storage, True)]
        start_flash = [
            v
            for v in persistent
            if self._starts(model.start_flash, v.storage, False)
            and (v.id in self._paged_in or v not in start_ram)
        ]
        self._flash_at_end = {value.storage for value in start_flash}
        for value in self._values:
            if value.starts_step and (not value.persistent or value in start_ram):
                self._ram[value.storage] = value.id
        self._page_outs(BEFORE_STEP)
        for stage in range(model.end):
            self._boundary(stage)
            for op_id in model.windows.stages[stage]:
                if op_id == stage or self._is_one(model.runs.get((stage, op_id))):
                    self._run(stage, op_id)
        self._boundary(model.end)
        return Schedule(
            start_ram=tuple(value.storage for value in start_ram),
            start_flash=tuple(value.storage for value in start_flash),
            instructions=tuple(self._out),
        )

    def _starts(self, variables: Mapping[int, Variable], storage: int, default: bool) -> bool:
        return self._is_one(variables[storage]) if storage in variables else default

    def _boundary(self, stage: int) -> None:
        """Frees, then page_ins, then page_outs of what is now in RAM."""
        model = self._model
        for v in sorted(self._ram.values()):
            if not self._resident(self._values[v], stage):
                self._free(v)
        for (v, index), variable in model.page_in.items():
            if self._is_one(variable) and model.events(self._values[v])[index] == stage:
                self._out.append(Instruction(Do.PAGE_IN, self._values[v].storage))
                self._ram[self._values[v].storage] = v
        self._page_outs(stage)

    def _resident(self, value: Value, stage: int) -> bool:
        """Whether RAM holds the value at the start of a stage without a page_in there."""
        events = self._model.events(value)
        if not events[0] < stage <= events[-1]:
            return False
        gap = sum(event < stage for event in events) - 1
        return self._is_one(self._model.hold.get((value.id, gap)))

    def _page_outs(self, stage: int) -> None:
        """Page out what is in RAM and has a page_out in this stage that is not done yet."""
        for (v, index), variable in self._model.page_out.items():
            value = self._values[v]
            if (
                self._model.events(value)[index] == stage
                and self._ram.get(value.storage) == v
                and self._is_one(variable)
                and (v in self._paged_in or (value.at_end and value.storage in self._flash_at_end))
                and v not in self._done
            ):
                self._done.add(v)
                self._out.append(Instruction(Do.PAGE_OUT, value.storage))

    def _run(self, stage: int, op_id: int) -> None:
        table = self._model.table
        for v in table.written[op_id]:
            old = self._ram.get(self._values[v].storage)
            if old is not None and old != v:
                self._free(old)
        self._out.append(Instruction(Do.COMPUTE, op_id))
        for v in table.given(op_id):
            self._ram[self._values[v].storage] = v
        self._page_outs(stage)
        for v in table.needed[op_id] + table.given(op_id):
            if self._ram.get(self._values[v].storage) == v and not self._wanted(v, stage, op_id):
                self._free(v)

    def _wanted(self, v: int, stage: int, op_id: int) -> bool:
        """Whether a later op of the stage or a later stage wants a value that op_id touched."""
        users = self._model.windows.users_at[v].get(stage, ())
        later = (user for user in users if user > op_id)
        if any(u == stage or self._is_one(self._model.runs.get((stage, u))) for u in later):
            return True
        return self._resident(self._values[v], stage + 1)

    def _free(self, v: int) -> None:
        self._out.append(Instruction(Do.FREE, self._values[v].storage))
        del self._ram[self._values[v].storage]
