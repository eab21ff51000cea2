"""How a problem is put before the solver: as it is, grouped, or further restricted.

A model with few decisions is solved as it is. A larger one is grouped; if that is not enough, small
storages are kept in RAM and second runs allowed only in stages that use what they give. Invariant:
a schedule of the scaled problem, brought back by `expand`, is one of the problem itself.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from poet_core.bounds import ram_floor
from poet_core.plan import Budget, Problem, Schedule
from poet_solvers.grouping import GroupedProblem, Grouper, group_problem
from poet_solvers.values import ValueTable, value_table
from poet_solvers.windows import Windows, possible_runs

# Measured on 2 cores: up to this many decisions CBC proves the optimum in seconds; the joint
# training step of 69 ops loses nothing by being grouped down to it.
EASY_DECISIONS = 400
# What a solver still improves in a minute; past it the model is restricted further.
MOST_DECISIONS = 2000
_GROUP_COUNTS = (64, 48, 40, 32, 28, 24, 20, 16)
# Storages below this fraction of the budget are kept where the model is too large even so.
_SMALL_SHARE = 0.0005
# A group may need this share of the RAM: what is left is for keeping things across it.
_NEED_SHARE = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """The problem as the model sees it, and the way back."""

    grouped: GroupedProblem | None
    problem: Problem
    table: ValueTable
    windows: Windows
    pinned: frozenset[int] = frozenset()

    @property
    def formulation(self) -> str:
        """What `PlannedBy` calls it."""
        parts = ["poet-milp/judged"]
        if self.grouped is not None:
            parts.append(
                f"{len(self.grouped.groups)} groups of {len(self._original.graph.ops)} ops"
            )
        if self.pinned:
            parts.append("small storages kept")
        return ", ".join(parts)

    @property
    def exact(self) -> bool:
        """Whether nothing was restricted beyond the model's own rules."""
        return self.grouped is None and not self.pinned

    @property
    def decisions(self) -> int:
        """How many binaries the model will have, nearly."""
        events = self.windows.events
        gaps = sum(len(events[v.id]) for v in self.table.values if v.id not in self.pinned)
        moves = 2 * gaps + len(self.table.values) if self.problem.allowed.page else gaps
        return self.windows.extra_runs + moves

    @property
    def _original(self) -> Problem:
        return self.problem if self.grouped is None else self.grouped.original

    def expand(self, schedule: Schedule) -> Schedule:
        """A schedule of the scaled problem as one of the problem itself."""
        return schedule if self.grouped is None else self.grouped.expand(schedule)


def scale_problem(problem: Problem) -> Scale:
    """The least restricted scale whose model is easy, else the smallest that there is."""
    problem = without_loose_limits(problem)
    op_count = len(problem.graph.ops)
    # An op brings a decision at least: a larger model need not be counted to be too large.
    scale = _as_it_is(problem) if op_count <= EASY_DECISIONS else None
    grouper = Grouper(problem)
    for count in _GROUP_COUNTS:
        if scale is not None and scale.decisions <= EASY_DECISIONS:
            return scale
        if count < op_count:
            scale = _grouped(problem, grouper, count) or scale
    scale = scale or _as_it_is(problem)
    return scale if scale.decisions <= MOST_DECISIONS else _restricted(scale)


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


def _as_it_is(problem: Problem) -> Scale:
    table = value_table(problem.graph, problem.budget)
    return Scale(grouped=None, problem=problem, table=table, windows=possible_runs(problem, table))


def _grouped(problem: Problem, grouper: Grouper, count: int) -> Scale | None:
    """At most about `count` groups, none of which needs more RAM than there is."""
    budget, paging = problem.budget, problem.allowed.page
    available = budget.ram_bytes - budget.reserved_bytes
    floor = ram_floor(problem.graph, budget, paging=paging).floor_bytes - budget.reserved_bytes
    for share in (_NEED_SHARE, _NEED_SHARE / 2, _NEED_SHARE / 4):
        most_need = max(floor, int(share * available)) if paging else int(share * available)
        grouped = group_problem(problem, grouper.choose(count, most_need))
        if _floor_of(grouped.problem, budget) <= budget.ram_bytes:
            inner = _as_it_is(grouped.problem)
            return replace(inner, grouped=grouped)
    return None


def _floor_of(problem: Problem, budget: Budget) -> int:
    return ram_floor(problem.graph, budget, paging=problem.allowed.page).floor_bytes


def _restricted(scale: Scale) -> Scale:
    """Keep small storages and narrow the windows, as far as the RAM above the floor allows."""
    problem, budget = scale.problem, scale.problem.budget
    room = budget.ram_bytes - _floor_of(problem, budget)
    small: set[int] = set()
    for storage in sorted(problem.graph.storages, key=lambda item: item.size_bytes):
        size = budget.rounded(storage.size_bytes)
        if size > _SMALL_SHARE * budget.ram_bytes or size > room:
            break
        room -= size
        small.add(storage.id)
    pinned = frozenset(v.id for v in scale.table.values if v.storage in small)
    windows = possible_runs(problem, scale.table, unwanted=pinned, near_use_only=True)
    return replace(scale, windows=windows, pinned=pinned)
