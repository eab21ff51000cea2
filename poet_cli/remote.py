"""A plan from a service, watched, and stopped by Ctrl-C without losing what was found.

    Ctrl-C         the server is asked to stop; its best plan so far is kept
    Ctrl-C again   leaves at once; the job goes on there until its time is up

Invariant: what is returned was judged here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from poet_cli.output import say
from poet_cli.server_options import ServerChoice
from poet_core.errors import PoetError, ServiceError
from poet_core.plan import Objective
from poet_core.units import format_joules, format_seconds

if TYPE_CHECKING:
    from poet_client import Job, JobProgress, PlannerClient
    from poet_core.plan import Plan
    from poet_core.plan_request import PlanRequest

STOPPING = "Stopping; the best plan so far is kept … (Ctrl-C again leaves)"


def plan_at(
    server: ServerChoice, request: PlanRequest, tell: Callable[[str], None]
) -> tuple[Plan, bool] | None:
    """The plan of a service, and whether Ctrl-C cut it short; None: it cannot be had there, and
    planning here is wanted instead. For the main thread. Raises what `PlannerClient.plan` raises,
    and KeyboardInterrupt where Ctrl-C came before there was a plan."""

    def shown(progress: JobProgress) -> None:
        tell(progress_line(progress, request.objective))

    with server.client() as client:
        try:
            job = client.submit(request, on_progress=shown)
            try:
                return job.wait(on_progress=shown), False
            except KeyboardInterrupt:
                return _stopped(job), True
            except ServiceError as error:
                _leave(job, error)
                raise
        except PoetError as error:
            if server.falls_back(error):
                return None
            raise


def _stopped(job: Job) -> Plan:
    say(STOPPING)
    try:
        plan = job.judge(job.stop())
    except KeyboardInterrupt:
        say(f"Left. The job goes on at the server: poet jobs cancel {job.job_id}")
        raise
    if plan is None:
        say("There was no plan yet.")
        raise KeyboardInterrupt
    return plan


def _leave(job: Job, error: ServiceError) -> None:
    """Nobody waits for it any more; a server that cannot be reached cannot be told."""
    if error.code == "server_timeout":
        with contextlib.suppress(PoetError):
            job.discard()


def progress_line(progress: JobProgress, objective: Objective) -> str:
    """The best plan so far, the bound, and what lies between them: the server's word."""
    shown = format_joules if objective is Objective.ENERGY else format_seconds
    parts = [progress.message or str(progress.state)]
    if progress.cost is not None:
        parts.append(f"best {shown(progress.cost)}")
    if progress.bound is not None:
        parts.append(f"bound {shown(progress.bound)}")
    if progress.gap is not None:
        parts.append(f"gap {progress.gap:.2%}")
    if progress.elapsed_seconds is not None:
        parts.append(f"{progress.elapsed_seconds:.0f} s at the server")
    return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class ServerPlanner:
    """Plans at a service until `cancel` is set; see `poet_runtime.planner.Planner`."""

    server: ServerChoice
    cancel: threading.Event = field(default_factory=threading.Event)
    on_progress: Callable[[JobProgress], object] | None = None

    def until(self, cancel: threading.Event) -> ServerPlanner:
        """The same for a thread, which Ctrl-C does not reach."""
        return ServerPlanner(self.server, cancel, self.on_progress)

    def plan(self, request: PlanRequest) -> Plan:
        """See `PlannerClient.plan`. After `cancel`, the best plan so far or ServiceError."""
        try:
            with self.server.client() as client:
                return self._plan(client, request)
        except PoetError as error:
            if not self.server.falls_back(error):
                raise
        from poet_cli.planning import CancellablePlanner

        return CancellablePlanner(self.cancel).plan(request)

    def _plan(self, client: PlannerClient, request: PlanRequest) -> Plan:
        job = client.submit(request, on_progress=self.on_progress)
        with _stopped_on(self.cancel, job):
            try:
                return job.wait(on_progress=self.on_progress)
            except ServiceError as error:
                _leave(job, error)
                raise
            except KeyboardInterrupt:  # in the main thread: nobody wants the plan any more
                with contextlib.suppress(PoetError):
                    job.discard()
                raise


@contextlib.contextmanager
def _stopped_on(cancel: threading.Event, job: Job) -> Iterator[None]:
    """Asks the server to stop once `cancel` is set, from a thread of its own."""
    over = threading.Event()

    def watch() -> None:
        while not over.is_set():
            if cancel.wait(0.1):
                with contextlib.suppress(PoetError):  # who waits for the job hears of it
                    job.stop()
                return

    thread = threading.Thread(target=watch, name="poet-stop")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
