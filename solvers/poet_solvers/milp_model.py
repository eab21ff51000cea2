"""The judged model's variables and its words for them; the rows are in `milp_rows`, `milp_memory`.

Stage t ends with the first run of op t; stage n, after the last op, is the end of the step. The
*events* of a value are its first production (event 0, before the step for what exists then) and
every later stage in which it may be touched. Gap i lies between event i and event i + 1: nothing
can happen to the value there that helps, so POET's S_ram[t, v] is one variable for a whole gap.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import pulp

from poet_core.plan import Problem
from poet_solvers.values import BEFORE_STEP, Value, ValueTable
from poet_solvers.windows import Windows

Variable: TypeAlias = pulp.LpVariable
Terms: TypeAlias = list[tuple[Variable, float]]
_SENSES = {
    "<=": pulp.LpConstraintLE,
    ">=": pulp.LpConstraintGE,
    "==": pulp.LpConstraintEQ,
}


@dataclass(slots=True, kw_only=True)
class JudgedModel:
    """The PuLP model and its variables; a missing key is a constant (0, or what rules fix).

    runs[t, o], o < t: op o runs again in stage t (R; R[t, t] = 1 has no variable).
    hold[v, i]: value v stays in RAM through its gap i (S_ram inside the gap).
    page_in[v, i]: v is paged in at the boundary before its event i (M_in).
    page_out[v, i]: v is paged out in the stage of its event i (M_out).
    start_ram[s], start_flash[s]: where persistent storage s begins and ends.
    `contradiction`: a row that no choice can satisfy, found while building.
    """

    problem: Problem
    table: ValueTable
    windows: Windows
    margin_bytes: int = 0
    pulp_model: pulp.LpProblem = field(
        default_factory=lambda: pulp.LpProblem("poet_judged", pulp.LpMinimize)
    )
    runs: dict[tuple[int, int], Variable] = field(default_factory=dict)
    hold: dict[tuple[int, int], Variable] = field(default_factory=dict)
    page_in: dict[tuple[int, int], Variable] = field(default_factory=dict)
    page_out: dict[tuple[int, int], Variable] = field(default_factory=dict)
    start_ram: dict[int, Variable] = field(default_factory=dict)
    start_flash: dict[int, Variable] = field(default_factory=dict)
    contradiction: str | None = None
    _event_index: tuple[dict[int, int], ...] = ()

    def __post_init__(self) -> None:
        self._event_index = tuple(
            {stage: index for index, stage in enumerate(self.events(value))}
            for value in self.table.values
        )

    @property
    def end(self) -> int:
        """The stage after the last op."""
        return len(self.problem.graph.ops)

    @property
    def decisions(self) -> int:
        """How many binaries the solver has."""
        tables = (self.runs, self.hold, self.page_in, self.page_out)
        return sum(map(len, tables)) + len(self.start_ram) + len(self.start_flash)

    def events(self, value: Value) -> tuple[int, ...]:
        """Stage of the first production, then the stages that may touch the value."""
        return (value.producer, *self.windows.events[value.id])

    def event_at(self, v: int, stage: int) -> int:
        """Index of the event of value v in `stage`."""
        return self._event_index[v][stage]

    def binary(self, name: str) -> Variable:
        """A new 0-1 variable."""
        return self.pulp_model.add_variable(name, 0, 1, pulp.LpBinary)

    def continuous(self, name: str, most: float | None = 1.0) -> Variable:
        """A new variable from 0 to `most`."""
        return self.pulp_model.add_variable(name, 0, most)

    def row(self, terms: Terms, sense: str, constant: float, name: str) -> None:
        """terms `sense` constant; a variable may occur in several terms."""
        if not terms:
            holds = {"<=": constant >= 0, ">=": constant <= 0, "==": constant == 0}[sense]
            if not holds and self.contradiction is None:
                self.contradiction = name
            return
        expression = pulp.LpAffineExpression()
        for variable, weight in terms:
            expression.addterm(variable, weight)
        self.pulp_model.addConstraint(
            pulp.LpConstraint(expression, _SENSES[sense], rhs=constant), name
        )

    def again(self, stage: int, op_id: int) -> Terms:
        """R[stage, op] of an op whose own stage is another one."""
        variable = self.runs.get((stage, op_id)) if op_id != BEFORE_STEP else None
        return [] if variable is None else [(variable, 1.0)]

    def present(self, value: Value, index: int) -> Terms:
        """S_ram at event `index` (1 or more), page-ins at the boundary before it included."""
        found = (self.hold.get((value.id, index - 1)), self.page_in.get((value.id, index)))
        return [(variable, 1.0) for variable in found if variable is not None]

    def resident(self, value: Value, stage: int) -> Terms:
        """S_ram at the start of any stage."""
        events = self.events(value)
        if not events[0] < stage <= events[-1]:
            return []
        index = self._event_index[value.id].get(stage)
        if index is not None:
            return self.present(value, index)
        gap = sum(event < stage for event in events) - 1
        return [(self.hold[value.id, gap], 1.0)]

    def held_after(self, value: Value, stage: int) -> Terms:
        """S_ram in the gap after the event in `stage`."""
        variable = self.hold.get((value.id, self.event_at(value.id, stage)))
        return [] if variable is None else [(variable, 1.0)]


def negative(terms: Terms) -> Terms:
    """The terms with their signs turned."""
    return [(variable, -weight) for variable, weight in terms]


def scaled(terms: Terms, factor: float) -> Terms:
    """The terms times a factor."""
    return [(variable, weight * factor) for variable, weight in terms]
