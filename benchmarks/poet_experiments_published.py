"""POET's own optimum at a point, where its formulation can be solved: as a plan that the judge takes.

    POET's list of layers -> its published model -> HiGHS -> cells -> instructions -> the judge

Stage by stage: page_outs first, then the stage's computations, each output freed as soon as the stage
needs it no more and the next does not keep it, then the page_ins, which the model counts from the next
stage on. Invariant: what POET's model keeps within its budget is within it here, moment by moment.
"""

from __future__ import annotations

from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Do, Instruction, Problem, Schedule
from poet_solvers.backends import SolveLimits, SolveStatus
from poet_solvers.poet_published import PublishedSolution, solve_published
from poet_solvers.published_graph import PublishedGraph

MOST_NODES = 50
"""Above it HiGHS does not end in minutes: the model's size grows with the square of the nodes."""

SECONDS = 30.0
"""What one solve may take: far more than our planner gets, for this is what it is compared with."""


def published_schedule(
    problem: Problem, graph: PublishedGraph, seconds: float = SECONDS
) -> Schedule:
    """The schedule of POET's optimum, or of the best that was found in the time.

    Raises PlanningError (`not_applicable`) for a list that is too long, (`not_found`) where the time
    was too short, and BudgetError where POET's model has no solution.
    """
    if len(graph.nodes) > MOST_NODES:
        raise PlanningError(
            f"HiGHS does not solve POET's model of {len(graph.nodes)} nodes in minutes.",
            code="not_applicable",
        )
    limit = problem.budget.step_seconds
    solution = solve_published(
        graph,
        ram_bytes=problem.budget.ram_bytes,
        time_ratio=None if limit is None else limit / graph.total_seconds,
        paging=problem.allowed.page,
        rematerialization=problem.allowed.rematerialize,
        backend="highs",
        limits=SolveLimits(wall_seconds=seconds, threads=1),
    )
    if solution.status is SolveStatus.INFEASIBLE:
        raise BudgetError("POET's model has no solution within this budget.", code="infeasible")
    if solution.energy_joules is None:
        raise PlanningError(f"POET's model: {solution.status.sentence}", code="not_found")
    return schedule_of(graph, solution)


def schedule_of(graph: PublishedGraph, solution: PublishedSolution) -> Schedule:
    """The cells of POET's model as instructions."""
    readers: dict[int, list[int]] = {node: [] for node in range(len(graph.nodes))}
    for source, target in graph.edges:
        readers[source].append(target)
    return Schedule(
        start_ram=(), start_flash=(), instructions=tuple(_Cells(graph, solution, readers).written())
    )


class _Cells:
    """`resident`, `stored`: what RAM and flash hold; outputs without bytes are in neither."""

    def __init__(
        self, graph: PublishedGraph, solution: PublishedSolution, readers: dict[int, list[int]]
    ) -> None:
        self._graph, self._solution, self._readers = graph, solution, readers
        self._out: list[Instruction] = []
        self._resident: set[int] = set()
        self._stored: set[int] = set()

    def written(self) -> list[Instruction]:
        """Every stage."""
        last = len(self._graph.nodes) - 1
        for stage in range(last + 1):
            runs = [k for k in range(stage + 1) if (stage, k) in self._solution.computed]
            kept = {i for i in range(stage + 1) if (stage + 1, i) in self._solution.in_ram}
            kept |= {last} if stage == last else set()
            self._page_out(stage)
            self._free_unread(runs, kept)
            for place, k in enumerate(runs):
                self._compute(k)
                self._free_unread(runs[place + 1 :], kept)
            self._page_in(stage, kept)
        return self._out

    def _compute(self, k: int) -> None:
        self._out.append(Instruction(Do.COMPUTE, k))
        if self._graph.nodes[k].bytes:
            self._resident.add(k)

    def _page_out(self, stage: int) -> None:
        for i in sorted(self._resident - self._stored):
            if (stage, i) in self._solution.paged_out:
                self._out.append(Instruction(Do.PAGE_OUT, i))
                self._stored.add(i)

    def _page_in(self, stage: int, kept: set[int]) -> None:
        for i in sorted(kept - self._resident):
            if (stage, i) in self._solution.paged_in and i in self._stored:
                self._out.append(Instruction(Do.PAGE_IN, i))
                self._resident.add(i)

    def _free_unread(self, runs: list[int], kept: set[int]) -> None:
        """Frees what no run of the rest of the stage reads and the next stage does not keep."""
        coming = set(runs)
        for i in sorted(self._resident - kept):
            if coming.isdisjoint(self._readers[i]):
                self._out.append(Instruction(Do.FREE, i))
                self._resident.remove(i)
