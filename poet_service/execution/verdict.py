"""How a solve ends, from how its child ended: one pure function.

asked to stop                     STOP, with the best plan or none
this process leaves               RELEASE: back into the queue, not counted
the warm process is lost          LOSE: back into the queue once (with a plan: FINISH instead)
a final plan that was judged      FINISH
another plan that was judged      FINISH with that one, which says what happened
nothing                           FAIL, with the planner's error or with what became of it
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from poet_core.errors import ServiceError
from poet_service.execution.failures import error_document
from poet_service.execution.judging import JudgedPlan
from poet_service.execution.supervisor import ChildEnd
from poet_service.jobs.states import MOST_ATTEMPTS


class Outcome(Enum):
    """What is to be written. Each member's value is its sentence."""

    FINISH = "The solve has its answer."
    FAIL = "The solve has an error."
    STOP = "The solve was stopped and keeps what it has."
    RELEASE = "The solve is queued again as if it had not been begun."
    LOSE = "The solve lost its process through no fault of its own."


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempted:
    """What became of one attempt. `stopped`: its child was asked to stop, or never begun because of
    that; `error`: the child's own last word, or what was wrong with its plan."""

    end: ChildEnd
    losses: int
    best: JudgedPlan | None
    final: JudgedPlan | None
    error: Mapping[str, Any] | None
    stopped: bool
    leaving: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What is to be written, and a sentence for the solve's events where the end was not a usual one."""

    outcome: Outcome
    plan: JudgedPlan | None = None
    error: Mapping[str, Any] | None = None
    note: str = ""


def verdict(tried: Attempted) -> Verdict:
    """See the module."""
    plan, note = _answer(tried)
    if tried.stopped:
        return Verdict(outcome=Outcome.STOP, plan=plan)
    if tried.leaving and tried.final is None and tried.error is None:
        return Verdict(outcome=Outcome.RELEASE, plan=tried.best)
    lost = tried.end is ChildEnd.LOST and tried.final is None
    if lost and (plan is None or tried.losses + 1 < MOST_ATTEMPTS):
        return Verdict(outcome=Outcome.LOSE, plan=tried.best)
    if plan is not None:
        return Verdict(outcome=Outcome.FINISH, plan=plan, note=note)
    return Verdict(outcome=Outcome.FAIL, error=tried.error or _failure(tried.end), note=note)


def _answer(tried: Attempted) -> tuple[JudgedPlan | None, str]:
    final, best = tried.final, tried.best
    if final is not None and (best is None or final.cost <= best.cost):
        return final, ""
    what = tried.end.value
    if tried.stopped:
        what = "The solve was stopped."
    elif tried.error is not None:
        what = f"The planner ended with an error ({tried.error['code']})."
    elif final is not None:
        what = "The planner ended with a plan that is dearer than one it had."
    if best is None:
        return None, what
    return best.with_status(f"{what} This is the best plan until then."), what


_AGAIN = "Ask again; where it happens again, tell the operator of this service."
_FAILURES = {
    ChildEnd.OUT_OF_MEMORY: (
        "solver_out_of_memory",
        "Ask for a smaller graph (grouped, or a smaller batch), or the operator for more memory.",
    ),
    ChildEnd.OVERRAN: ("solver_overran", "Give more time, or ask for a smaller graph."),
}


def _failure(end: ChildEnd) -> dict[str, Any]:
    code, hint = _FAILURES.get(end, ("solver_crashed", _AGAIN))
    return error_document(ServiceError(end.value, code=code, hint=hint))
