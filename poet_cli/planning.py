"""Plans for a worker, made in a thread, so that Ctrl-C ends the solvers and not the process amid one.

Invariant: a plan that was interrupted is not used: the interrupt goes on once the solvers have ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from poet_cli.interruptible import interruptible

if TYPE_CHECKING:
    from poet_core.plan import Plan
    from poet_core.plan_request import PlanRequest
    from poet_runtime.program import Program

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class CancellablePlanner:
    """Plans in this process until `cancel` is set; see `poet_runtime.planner.Planner`."""

    cancel: threading.Event

    def plan(self, request: PlanRequest) -> Plan:
        """See `poet_solvers.plan`."""
        from poet_solvers import plan
        from poet_solvers.backends import SolveLimits

        return plan(
            request.problem(),
            backend=request.backend,
            planner=request.planner,
            limits=SolveLimits(
                wall_seconds=request.wall_seconds, patience_seconds=request.patience_seconds
            ),
            cancel=self.cancel,
        )


class InterruptiblePlanner:
    """Plans in this process, in a thread: Ctrl-C ends the solvers first, and then goes on."""

    def plan(self, request: PlanRequest) -> Plan:
        """See `poet_solvers.plan`. Raises KeyboardInterrupt too."""
        return interrupted(lambda cancel: self.until(cancel).plan(request))

    def until(self, cancel: threading.Event) -> CancellablePlanner:
        """The same where somebody else waits for Ctrl-C."""
        return CancellablePlanner(cancel)


def planned_for_time(
    program: Program,
    budget_bytes: int,
    wall_seconds: float,
    paging_directory: Path | None = None,
) -> Plan:
    """The fastest plan within a budget that is found on this machine in the time, with its flash
    as it is measured where the paging file will be. Raises what `calibrated_host` and
    `poet_runtime.planner.obtain_plan` do."""
    from poet_core.plan import Objective
    from poet_core.plan_request import PlanRequest
    from poet_runtime.flash.calibrate import calibrated_host
    from poet_runtime.planner import obtain_plan

    request = PlanRequest(
        graph=program.graph,
        device=calibrated_host(paging_directory),
        ram_bytes=budget_bytes,
        objective=Objective.TIME,
        wall_seconds=wall_seconds,
    )
    return interrupted(lambda cancel: obtain_plan(request, CancellablePlanner(cancel))[0])


def interrupted(work: Callable[[threading.Event], _Result]) -> _Result:
    """What `work` returns. Raises KeyboardInterrupt where Ctrl-C came meanwhile."""
    found, cancelled = interruptible(work, "Stopping …")
    if cancelled:
        raise KeyboardInterrupt
    return found
