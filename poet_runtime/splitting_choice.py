"""Whether the large ops of a step are traced in parts, and which ops are large.

    a size ("300MiB", or bytes)   ops that need more at once
    "off", None                   no op
    "auto"                        where a plan is made here for a budget that keep-everything does
                                  not fit, and an op alone needs more than 60% of it, or no plan
                                  without parts is found: ops that need more than a third of it

Near the floor an op leaves no room for what comes before and after it, so every transfer is waited
for; three ops of a third of the budget can overlap. Else ops stay whole: parts make a step longer
and a plan harder. Invariant: what is split is exact (see `StepOptions.split_above_bytes`), so the
choice changes memory and time, never a bit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.errors import BudgetError, PlanError, PlanningError, UsageError
from poet_core.plan import Plan, Problem
from poet_core.simulate import Judgement
from poet_core.units import format_bytes, parse_bytes
from poet_runtime.plan_source import PlanSource
from poet_runtime.program import Program

AUTO: Literal["auto"] = "auto"
NEAR_FLOOR_PERCENT = 60
"""Of the budget: an op that alone needs more than this is near enough to the floor."""
PARTS_OF_BUDGET = 3

Split = int | Literal["auto"] | None
Planned = tuple[Program, Plan, Judgement]


def parse_split(split: str | int | None) -> Split:
    """What a user wrote. Raises UsageError (`split_invalid`, `size_invalid`)."""
    if split is None or split == "off":
        return None
    if isinstance(split, str):
        return AUTO if split == AUTO else parse_bytes(split)
    if isinstance(split, bool) or split < 0:
        raise UsageError(
            f"Expected split to be 'auto', 'off' or a size, got {split!r}.", code="split_invalid"
        )
    return split


def traced_and_planned(
    trace: Callable[[int | None], Program], source: PlanSource, split: Split
) -> Planned:
    """A program, split as chosen, with its plan. `trace` takes StepOptions' `split_above_bytes`.

    Raises what tracer, planner and judge raise; a budget below the floor after splitting is a
    BudgetError (`ram_below_floor`) with that floor and the op that sets it.
    """
    if split != AUTO:
        program = trace(split)
        return program, *_planned(source, program)
    program = trace(None)
    problem = source.problem_of(program)
    if problem is None or _everything_fits(problem):
        return program, *_planned(source, program)
    failure: BudgetError | PlanningError | None = None
    if not _is_near_floor(problem):
        try:
            return program, *_planned(source, program)
        except (BudgetError, PlanningError) as error:
            failure = error
    parts = trace(problem.budget.ram_bytes // PARTS_OF_BUDGET)
    if parts.graph != program.graph:
        return parts, *_planned(source, parts)
    if failure is not None:
        raise failure
    return program, *_planned(source, program)


def _everything_fits(problem: Problem) -> bool:
    budget = problem.budget
    kept = judge_keep_everything(
        problem.graph,
        problem.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    )
    return kept.peak_bytes <= budget.ram_bytes


def _is_near_floor(problem: Problem) -> bool:
    floor = ram_floor(problem.graph, problem.budget, paging=problem.allowed.page)
    return floor.floor_bytes * 100 > problem.budget.ram_bytes * NEAR_FLOOR_PERCENT


def _planned(source: PlanSource, program: Program) -> tuple[Plan, Judgement]:
    """The plan; errors say what they have to do with splitting."""
    above = program.options.split_above_bytes
    try:
        return source.plan_for(program)
    except BudgetError as error:
        if above is None or error.code != "ram_below_floor":
            raise
        hint = (
            f"Ops above {format_bytes(above)} have been split as far as they can be. {error.hint}"
        )
        raise BudgetError(
            error.message, code=error.code, hint=hint, details=error.details
        ) from None
    except PlanError as error:
        if error.code != "plan_for_other_graph":
            raise
        split = "with no op split" if above is None else f"with split={above}"
        hint = f"{error.hint} This step was traced {split}; the plan's graph may not have been."
        raise PlanError(error.message, code=error.code, hint=hint, details=error.details) from None
