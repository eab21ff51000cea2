"""One point of a frontier, in whatever process or thread an executor has.

Tasks and answers can be pickled. A process cannot hear a `threading.Event` of another one, so the
caller keeps a small file as long as answers are wanted: when it goes, every worker that watches it
stops within a second and answers with its best plan so far.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Plan, Problem
from poet_core.plan_request import BackendChoice
from poet_solvers.backends import SolveLimits
from poet_solvers.frontier_points import PointEnding
from poet_solvers.portfolio import PlannerName, solve
from poet_solvers.solution import Ending

_LOOK_SECONDS = 0.1
_LAST_SECONDS = 3.0
# Endings that more time would not change.
_SETTLED = frozenset({Ending.FITS, Ending.PROVEN, Ending.EXHAUSTED})


@dataclass(frozen=True, slots=True, kw_only=True)
class PointTask:
    """A problem with its budget, and how to look for its plan. `start`: one for less RAM."""

    problem: Problem
    limits: SolveLimits
    backend: BackendChoice
    planner: PlannerName
    start: Plan | None = None
    wanted_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PointAnswer:
    """What came of a task. `whole`: it had all the time of its limits or needed no more;
    `settled`: it needed no more."""

    ending: PointEnding
    plan: Plan | None = None
    error: str = ""
    error_code: str = ""
    whole: bool = True
    settled: bool = False


def _watching(
    wanted_file: str | None, cancel: threading.Event
) -> contextlib.AbstractContextManager[None]:
    if wanted_file is None:
        return contextlib.nullcontext()
    path, parent = Path(wanted_file), multiprocessing.parent_process()

    def over() -> bool:
        return not path.exists() or (parent is not None and not parent.is_alive())

    return stopping_when(over, cancel)


def solve_point(task: PointTask, cancel: threading.Event | None = None) -> PointAnswer:
    """Solve a task here. What a planner may say instead of a plan becomes part of the answer."""
    cancel = cancel or threading.Event()
    with _watching(task.wanted_file, cancel):
        try:
            solution = solve(
                task.problem,
                task.limits,
                cancel=cancel,
                backend=task.backend,
                planner=task.planner,
                start=None if task.start is None else task.start.schedule,
            )
        except BudgetError as error:
            return PointAnswer(
                ending=PointEnding.IMPOSSIBLE,
                error=error.message,
                error_code=error.code,
                settled=True,
            )
        except PlanningError as error:
            return PointAnswer(
                ending=PointEnding.NOT_TRIED
                if error.code == "cancelled"
                else PointEnding.UNDECIDED,
                error=error.message,
                error_code=error.code,
                whole=not cancel.is_set(),
            )
    settled = solution.ending in _SETTLED
    return PointAnswer(
        ending=PointEnding.PLANNED,
        plan=_named(solution.plan(), task.start),
        whole=settled or not cancel.is_set(),
        settled=settled,
    )


def _named(plan: Plan, start: Plan | None) -> Plan:
    """The plan; whoever found the start found it, where nothing cheaper was."""
    if start is None or plan.schedule != start.schedule:
        return plan
    found_by = start.planned_by.formulation
    return replace(plan, planned_by=replace(plan.planned_by, formulation=found_by))


class Wanted:
    """The file that says that answers are wanted; `drop` takes it away."""

    def __init__(self) -> None:
        number, self.name = tempfile.mkstemp(prefix="poet-frontier-", suffix=".wanted")
        os.close(number)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.drop()

    def drop(self) -> None:
        """Tell every worker to come to its end."""
        with contextlib.suppress(OSError):
            Path(self.name).unlink()


@contextlib.contextmanager
def stopping_when(over: Callable[[], bool], cancel: threading.Event) -> Iterator[None]:
    """Sets `cancel` as soon as `over` says so; it is asked ten times a second."""
    if over():
        cancel.set()
    left = threading.Event()

    def watch() -> None:
        while not left.wait(_LOOK_SECONDS):
            if over():
                cancel.set()
                return

    thread = threading.Thread(target=watch, name="poet-stop-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        left.set()
        thread.join()


@contextlib.contextmanager
def process_pool(processes: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that leave Ctrl-C to this one, and end soon after it where it dies."""
    pool = ProcessPoolExecutor(
        processes,
        # A fork of a process with threads may hang; a fresh one cannot.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )
    with pool:
        yield pool


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="poet-parent-watch", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    time.sleep(_LAST_SECONDS)  # the solve stops meanwhile, and its solver with it
    os._exit(1)


class Here(Executor):
    """The executor of one who gave none: each task is done when `submit` returns."""

    def __init__(self, cancel: threading.Event) -> None:
        self._cancel = cancel

    def submit(self, work: Any, /, *arguments: Any, **named: Any) -> Future[Any]:
        """Do the work now; its exceptions are raised here."""
        future: Future[Any] = Future()
        future.set_result(work(*arguments, cancel=self._cancel, **named))
        return future
