"""How a solve ends, from how its child ended."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest

from poet_core.documents import parse_json
from poet_service.execution.judging import JudgedPlan
from poet_service.execution.supervisor import ChildEnd
from poet_service.execution.verdict import Attempted, Outcome, verdict
from tests.service.execution.cases import request_bytes
from tests.service.execution.odd_child import plans

_DEAR, _CHEAP = (
    JudgedPlan(plan=plan, cost=plan.objective_value, bound=None)
    for plan in plans(parse_json(request_bytes("answer")), 2)
)
_ERROR = {"code": "not_found_in_time", "detail": "", "hint": "", "kind": "planning"}
_TRIED = Attempted(
    end=ChildEnd.ANSWERED,
    losses=0,
    best=None,
    final=None,
    error=None,
    stopped=False,
    leaving=False,
)


@pytest.mark.parametrize(
    ("changed", "outcome"),
    [
        ({"final": _CHEAP}, Outcome.FINISH),
        ({"final": _CHEAP, "leaving": True}, Outcome.FINISH),
        ({"final": _CHEAP, "end": ChildEnd.LOST}, Outcome.FINISH),
        ({"error": _ERROR}, Outcome.FAIL),
        ({"error": _ERROR, "leaving": True}, Outcome.FAIL),
        ({"error": _ERROR, "best": _DEAR}, Outcome.FINISH),
        ({"stopped": True}, Outcome.STOP),
        ({"stopped": True, "final": _CHEAP}, Outcome.STOP),
        ({"stopped": True, "error": _ERROR}, Outcome.STOP),
        ({"end": ChildEnd.KILLED, "leaving": True}, Outcome.RELEASE),
        ({"end": ChildEnd.KILLED, "leaving": True, "best": _DEAR}, Outcome.RELEASE),
        ({"end": ChildEnd.LOST}, Outcome.LOSE),
        ({"end": ChildEnd.LOST, "best": _DEAR}, Outcome.LOSE),
        ({"end": ChildEnd.LOST, "losses": 1}, Outcome.LOSE),
        ({"end": ChildEnd.LOST, "losses": 1, "best": _DEAR}, Outcome.FINISH),
        ({"end": ChildEnd.CRASHED}, Outcome.FAIL),
        ({"end": ChildEnd.CRASHED, "best": _DEAR}, Outcome.FINISH),
    ],
)
def test_outcomes(changed: dict[str, object], outcome: Outcome) -> None:
    decided = verdict(replace(_TRIED, **changed))
    assert decided.outcome is outcome
    if outcome is Outcome.FINISH:
        assert decided.plan is not None
    if outcome is Outcome.FAIL:
        assert decided.error is not None


def test_the_cheaper_plan_is_the_answer() -> None:
    assert verdict(replace(_TRIED, final=_CHEAP, best=_DEAR)).plan is _CHEAP
    odd = verdict(replace(_TRIED, final=_DEAR, best=_CHEAP))
    assert odd.plan is not None
    assert odd.plan.cost == _CHEAP.cost
    assert "dearer" in odd.plan.plan.planned_by.status


def test_every_end_has_an_outcome_whatever_else_there_is() -> None:
    for end, plan, stopped, leaving in itertools.product(
        ChildEnd, (None, _DEAR), (False, True), (False, True)
    ):
        decided = verdict(replace(_TRIED, end=end, best=plan, stopped=stopped, leaving=leaving))
        if decided.outcome is Outcome.FAIL:
            assert decided.error is not None
            assert {"code", "detail", "hint", "kind"} <= decided.error.keys()
        if plan is not None:  # a judged plan is never thrown away
            assert decided.plan is not None
