"""`frontier`: RAM against energy and time, one judged plan for each of some RAM budgets.

    budgets, loosest first    b0  b1  b2  b3  b4 ...
    on their own              b0      b2      b4      as many side by side as asked for
    from the next tighter         b1      b3          a plan for less RAM is a plan to begin with
    dearer than a tighter one     b1                  once more, from that one's plan
    then                      every plan offered to looser budgets, every bound to tighter ones

Invariant: who works on the points, and in which order they end, changes nothing where
`limits.moves` is set and time suffices. Every plan was judged in this process for its own budget.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path

from poet_core.bounds import RamFloor, ram_floor
from poet_core.errors import UsageError
from poet_core.plan import Problem
from poet_core.plan_request import BackendChoice
from poet_core.simulate import Judgement
from poet_core.verify import verify
from poet_solvers.backends import SolveLimits
from poet_solvers.frontier_points import (
    FrontierPoint,
    PointEnding,
    default_budgets,
    dominated,
    everything_kept,
    is_dearer,
    monotone,
    with_ram,
)
from poet_solvers.frontier_store import FrontierStore, StoredPoint, planner_name
from poet_solvers.frontier_work import Here, PointAnswer, PointTask, Wanted, solve_point
from poet_solvers.portfolio import PlannerName

_LOOK_SECONDS = 0.1
_LEAST_SECONDS = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Frontier:
    """`points`: every budget, loosest first. `keep`: keep-everything, the base of percentages.

    `warnings`: what was skipped in the store. `cancelled`: it was stopped before its end.
    """

    problem: Problem
    points: tuple[FrontierPoint, ...]
    keep: Judgement
    floor: RamFloor
    warnings: tuple[str, ...]
    cancelled: bool
    wall_seconds: float

    @property
    def dominated(self) -> frozenset[int]:
        """The RAM budgets whose plan another plan beats in RAM, joules and seconds."""
        return dominated(self.points)

    @property
    def front(self) -> tuple[FrontierPoint, ...]:
        """The planned points that no other one beats, loosest first."""
        beaten = self.dominated
        return tuple(
            point
            for point in self.points
            if point.plan is not None and point.ram_bytes not in beaten
        )


def frontier(
    problem: Problem,
    *,
    points: int = 12,
    ram_bytes: Sequence[int] | None = None,
    limits: SolveLimits | None = None,
    total_seconds: float | None = None,
    backend: BackendChoice = "auto",
    planner: PlannerName = "portfolio",
    executor: Executor | None = None,
    jobs: int = 1,
    store: Path | None = None,
    resume: bool = False,
    on_point: Callable[[FrontierPoint], None] | None = None,
    cancel: threading.Event | None = None,
) -> Frontier:
    """Plans of `problem` under the budgets `ram_bytes`, or under `points` budgets from
    keep-everything's peak to the RAM floor; the problem's own RAM budget is not looked at.

    `limits` are those of each point; `total_seconds` of all together, shared among those left.
    `executor` gets `jobs` points at a time; without one they are solved here. `store` keeps each
    finished point; with `resume`, points in it are judged again and not planned. `on_point` hears of
    each point as it is finished (and again where a second turn made it cheaper), before the points
    are compared. After `cancel` those in work end with the best that they have. Raises UsageError.
    """
    budgets = _checked(problem, points, ram_bytes, jobs)
    limits = limits or SolveLimits()
    file = None
    if store is not None:
        file = FrontierStore(store, problem, planner_name(planner, backend, limits))
        file.check()
    began = time.monotonic()
    work = _Work(
        task=PointTask(problem=problem, limits=limits, backend=backend, planner=planner),
        budgets=budgets,
        ends=None if total_seconds is None else began + total_seconds,
        jobs=jobs,
        store=file,
        on_point=on_point or _nobody,
        cancel=cancel or threading.Event(),
    )
    work.begin(resume=resume)
    work.run(executor)
    return Frontier(
        problem=problem,
        points=monotone(problem, [work.points[budget] for budget in budgets]),
        keep=everything_kept(problem),
        floor=ram_floor(problem.graph, problem.budget, paging=problem.allowed.page),
        warnings=tuple(file.warnings) if file else (),
        cancelled=work.cancel.is_set(),
        wall_seconds=time.monotonic() - began,
    )


def _nobody(_point: FrontierPoint) -> None:
    pass


def _checked(
    problem: Problem, points: int, ram_bytes: Sequence[int] | None, jobs: int
) -> tuple[int, ...]:
    """The budgets, loosest first, each once."""
    if jobs < 1:
        raise UsageError(f"Expected at least 1 point at a time, got {jobs}.", code="jobs_invalid")
    if ram_bytes is not None:
        if not ram_bytes or min(ram_bytes) < 1:
            raise UsageError(
                "Expected RAM budgets of at least 1 byte.",
                code="size_invalid",
                hint="Name one or more, or leave them out for evenly spaced ones.",
            )
        return tuple(sorted(set(ram_bytes), reverse=True))
    if points < 1:
        raise UsageError(f"Expected at least 1 point, got {points}.", code="points_invalid")
    return default_budgets(problem, points)


def _submitted(executor: Executor, task: PointTask) -> Future[PointAnswer]:
    """The future of a task; a broken executor's says so as a broken worker's does."""
    try:
        return executor.submit(solve_point, task)
    except BrokenExecutor as error:
        future: Future[PointAnswer] = Future()
        future.set_exception(error)
        return future


class _Work:
    """The points that are done, by budget, and what has to happen for the others."""

    def __init__(
        self,
        task: PointTask,
        budgets: tuple[int, ...],
        ends: float | None,
        jobs: int,
        store: FrontierStore | None,
        on_point: Callable[[FrontierPoint], None],
        cancel: threading.Event,
    ) -> None:
        self._task, self._ends, self._jobs = task, ends, jobs
        self._store, self._on_point, self.cancel = store, on_point, cancel
        self.points: dict[int, FrontierPoint] = {}
        # Every other budget on its own, then those between them, each from the next tighter one.
        self._starts_from = dict(zip(budgets[1::2], budgets[2::2], strict=False))
        self._waiting = [*budgets[0::2], *budgets[1::2]]
        self._broken = False  # a worker died, and the executor with it
        self._share = self._seconds_of_a_point(in_work=0)

    def begin(self, *, resume: bool) -> None:
        """Open the store; take from it what needs no more work."""
        if self._store is None:
            return
        if not resume:
            self._store.clear()
            return
        stored = self._store.load()
        for budget in list(self._waiting):
            found = stored.get(budget)
            if found and (found.settled or found.limit_seconds >= self._share * (1 - 1e-6)):
                self._waiting.remove(budget)
                self._finish(
                    FrontierPoint(
                        ram_bytes=budget, ending=PointEnding.PLANNED, plan=found.plan, resumed=True
                    )
                )

    def run(self, executor: Executor | None) -> None:
        """Every point, or what there is when it was cancelled or the time is up."""
        with Wanted() as wanted:
            task = self._task if executor is None else replace(self._task, wanted_file=wanted.name)
            executor = executor or Here(self.cancel)
            self._drain(executor, task, wanted)
            self._turn_again()
            self._drain(executor, task, wanted)
        for budget in self._waiting:
            if budget not in self.points:
                self._finish(FrontierPoint(ram_bytes=budget, ending=PointEnding.NOT_TRIED))

    def _drain(self, executor: Executor, task: PointTask, wanted: Wanted) -> None:
        running: dict[Future[PointAnswer], tuple[int, PointTask]] = {}
        while (self._waiting and not self._stopped()) or running:
            if self.cancel.is_set():
                wanted.drop()
            while len(running) < self._jobs and not self._stopped():
                budget = self._next()
                if budget is None:
                    break
                its = self._task_of(task, budget, len(running))
                running[_submitted(executor, its)] = budget, its
            for future in wait(running, _LOOK_SECONDS, return_when=FIRST_COMPLETED).done:
                self._take(future, *running.pop(future))

    def _turn_again(self) -> None:
        """Points that are dearer than a tighter one wait once more, to begin with its plan."""
        if self._stopped():
            return
        best: FrontierPoint | None = None
        for budget, point in sorted(self.points.items()):
            if best is not None and best.plan is not None and is_dearer(point.plan, best.plan):
                self._starts_from[budget] = best.ram_bytes
                self._waiting.append(budget)
            elif point.plan is not None:
                best = point

    def _stopped(self) -> bool:
        late = self._ends is not None and time.monotonic() >= self._ends
        return late or self._broken or self.cancel.is_set()

    def _next(self) -> int | None:
        """A budget that waits for nobody; it waits no more."""
        for budget in self._waiting:
            before = self._starts_from.get(budget)
            if before is None or before in self.points:
                self._waiting.remove(budget)
                return budget
        return None

    def _task_of(self, task: PointTask, budget: int, in_work: int) -> PointTask:
        tighter = self.points.get(self._starts_from.get(budget, 0))
        seconds = self._seconds_of_a_point(in_work)
        return replace(
            task,
            problem=with_ram(task.problem, budget),
            limits=replace(task.limits, wall_seconds=seconds),
            start=None if tighter is None else tighter.plan,
        )

    def _seconds_of_a_point(self, in_work: int) -> float:
        """The point's own limit, or its share of what is left for all where that is less."""
        most = self._task.limits.wall_seconds
        if self._ends is None:
            return most
        left = max(_LEAST_SECONDS, self._ends - time.monotonic())
        rounds = max(1.0, (len(self._waiting) + 1 + in_work) / self._jobs)
        return min(most, left / rounds)

    def _take(self, future: Future[PointAnswer], budget: int, task: PointTask) -> None:
        try:
            answer = future.result()
        except BrokenExecutor as error:
            self._broken = True
            answer = PointAnswer(
                ending=PointEnding.UNDECIDED,
                error=f"The process that planned this point died: {error}",
                error_code="worker_died",
            )
        if answer.plan is not None:
            verify(task.problem.graph, answer.plan)
            if self._store is not None and answer.whole:
                seconds = task.limits.wall_seconds
                self._store.add(
                    StoredPoint(plan=answer.plan, limit_seconds=seconds, settled=answer.settled)
                )
        before = self.points.get(budget)
        if before is not None and (answer.plan is None or not is_dearer(before.plan, answer.plan)):
            return
        self._finish(
            FrontierPoint(
                ram_bytes=budget,
                ending=answer.ending,
                plan=answer.plan,
                error=answer.error,
                error_code=answer.error_code,
            )
        )

    def _finish(self, point: FrontierPoint) -> None:
        self.points[point.ram_bytes] = point
        self._on_point(point)
