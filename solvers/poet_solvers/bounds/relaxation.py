"""The first-run relaxation of a problem as it will be solved: where RAM is counted, and what for.

`Grid` says where: at first runs (checkpoints) and, of second runs, at those named in `inside`. Any
grid is valid; refinement starts from a few checkpoints and adds what a decoded plan broke.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.plan import HoldsFor, Problem
from poet_solvers.bounds.checkpoints import choose_checkpoints, over_budget_bytes
from poet_solvers.bounds.first_run import FirstRun, first_run_relaxation
from poet_solvers.bounds.inside import count_second_run
from poet_solvers.bounds.limits import count_limits
from poet_solvers.bounds.prices import Prices, least_prices
from poet_solvers.bounds.rows import Rows
from poet_solvers.bounds.segments import Segments, lay_out
from poet_solvers.values import ValueTable, value_table

# Measured on 2 cores: an LP of this many columns takes HiGHS a second or two.
MOST_COLUMNS = 20_000
MOST_CHECKPOINTS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """`checkpoints`: ops at whose first run RAM is counted, ascending. `inside`: pairs (first run,
    op): where the op runs again between two checkpoints, before that first run or right after it."""

    checkpoints: tuple[int, ...]
    inside: frozenset[tuple[int, int]] = frozenset()

    def union(self, other: Grid) -> Grid:
        """Where either counts."""
        return Grid(
            checkpoints=tuple(sorted({*self.checkpoints, *other.checkpoints})),
            inside=self.inside | other.inside,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """The rows of a problem on a grid. `chains`: second runs need their inputs."""

    problem: Problem
    table: ValueTable
    prices: Prices
    grid: Grid
    segments: Segments
    first_run: FirstRun
    holds_for: HoldsFor = HoldsFor.GIVEN_ORDER

    @property
    def rows(self) -> Rows:
        """What a solver gets."""
        return self.first_run.rows

    @property
    def name(self) -> str:
        """What a bound says of it."""
        kind = "first-run relaxation" if self.segments.chains else "cover relaxation"
        return f"{kind} at {len(self.segments.checkpoints)} checkpoints"


def worst_positions(problem: Problem, most: int) -> Grid:
    """A grid of at most so many checkpoints: the worst of each stretch over the budget."""
    excess = over_budget_bytes(problem, value_table(problem.graph, problem.budget))
    return Grid(checkpoints=choose_checkpoints(excess, most))


def relax(
    problem: Problem,
    *,
    chains: bool,
    most_checkpoints: int = MOST_CHECKPOINTS,
    most_columns: int = MOST_COLUMNS,
    holds_for: HoldsFor = HoldsFor.GIVEN_ORDER,
) -> Relaxation:
    """The relaxation of `problem` at as many checkpoints as about `most_columns` columns allow.

    With `chains` a second run needs its inputs, without (the cover) it needs nothing.
    """
    table, prices = value_table(problem.graph, problem.budget), least_prices(problem)
    excess = over_budget_bytes(problem, table)
    most = most_checkpoints
    while True:
        checkpoints = choose_checkpoints(excess, most)
        segments = lay_out(problem, table, prices, checkpoints, chains=chains)
        if segments.columns <= most_columns or len(checkpoints) <= 1:
            break
        most = len(checkpoints) // 2
    return relax_on(problem, Grid(checkpoints=checkpoints), chains=chains, holds_for=holds_for)


def columns_on(problem: Problem, grid: Grid) -> int:
    """Nearly how many columns the relaxation on a grid has."""
    table, prices = value_table(problem.graph, problem.budget), least_prices(problem)
    return lay_out(problem, table, prices, grid.checkpoints, chains=True).columns


def relax_on(
    problem: Problem,
    grid: Grid,
    *,
    chains: bool = True,
    holds_for: HoldsFor = HoldsFor.GIVEN_ORDER,
) -> Relaxation:
    """The relaxation of `problem` on a grid."""
    table, prices = value_table(problem.graph, problem.budget), least_prices(problem)
    segments = lay_out(problem, table, prices, grid.checkpoints, chains=chains)
    first_run = first_run_relaxation(problem, table, prices, segments)
    for first, again in sorted(grid.inside):
        count_second_run(problem, table, segments, first_run, segments.of_op[first], again)
    count_limits(problem, table, segments, first_run)
    return Relaxation(
        problem=problem,
        table=table,
        prices=prices,
        grid=grid,
        segments=segments,
        first_run=first_run,
        holds_for=holds_for,
    )
