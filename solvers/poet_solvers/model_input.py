"""What the judged model is built from, and its size before anything is built.

    Problem -> limits that bind -> values -> windows -> ModelInput

Invariant: every value, every stage and every second run that the model has is in it, or nothing: a
model with more decisions than asked for is refused in time and memory of its graph, not of itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poet_core.errors import PlanningError
from poet_core.plan import Problem
from poet_solvers.values import ValueTable, value_table
from poet_solvers.windows import Windows, possible_runs, second_run_count

FORMULATION = "poet-milp/judged"

# Measured: a decision takes 9 KB from its rows in PuLP to the solver's text; 60,000 take half a
# gigabyte and seconds, and no solver here closed a model of a tenth of that in minutes.
MAX_DECISIONS = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelInput:
    """A problem whose limits can bind, its values and the stages that they may be touched in."""

    problem: Problem
    table: ValueTable
    windows: Windows

    @property
    def decisions(self) -> int:
        """How many binaries the model will have, nearly."""
        gaps = sum(map(len, self.windows.events))
        moves = 2 * gaps + len(self.table.values) if self.problem.allowed.page else gaps
        return self.windows.extra_runs + moves


def model_input(problem: Problem, most_decisions: int = MAX_DECISIONS) -> ModelInput:
    """The input of the model of `problem`; PlanningError `model_too_large` above `most_decisions`."""
    problem = without_loose_limits(problem)
    table = value_table(problem.graph, problem.budget)
    second_runs = second_run_count(problem, table)
    if second_runs > most_decisions:
        raise _too_large(problem, second_runs, most_decisions)
    found = ModelInput(problem=problem, table=table, windows=possible_runs(problem, table))
    if found.decisions > most_decisions:
        raise _too_large(problem, found.decisions, most_decisions)
    return found


def _too_large(problem: Problem, decisions: int, most_decisions: int) -> PlanningError:
    op_count = len(problem.graph.ops)
    return PlanningError(
        f"POET's model of these {op_count} ops has at least {decisions} decisions; "
        f"at most {most_decisions} are built.",
        code="model_too_large",
        hint="It grows with the square of the ops: use the portfolio, or forbid rematerialization.",
        details={"ops": op_count, "decisions": decisions, "max_decisions": most_decisions},
    )


def without_loose_limits(problem: Problem) -> Problem:
    """The problem without flash limits that no schedule of the model can reach."""
    budget = problem.budget
    table = value_table(problem.graph, budget)
    written = sum(v.flash_bytes for v in table.values if not (v.persistent and v.starts_step))
    alive = sum(v.flash_bytes for v in table.values if not v.persistent or v.starts_step)
    loose_capacity = budget.flash_bytes is not None and alive <= budget.flash_bytes
    loose_writes = budget.flash_write_bytes is not None and written <= budget.flash_write_bytes
    return replace(
        problem,
        budget=replace(
            budget,
            flash_bytes=None if loose_capacity else budget.flash_bytes,
            flash_write_bytes=None if loose_writes else budget.flash_write_bytes,
        ),
    )
