"""Stored plans, judged when this process first reads them back.

A row may have been damaged, written by another version, or by somebody else. A plan leaves the
service only after the judge has accepted it, in this process, for the very problem that was asked;
then it is remembered in the form in which replies carry it.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.documents import parse_json
from poet_core.errors import PlanError, PoetError, ServiceError
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.plan_request import PlanRequest, request_from_document
from poet_core.simulate import Judgement
from poet_core.summary import summarize
from poet_core.verify import verify
from poet_service import logs
from poet_service.database.store import Store
from poet_service.jobs.records import SolveRecord
from poet_service.jobs.remembered import Remembered
from poet_service.jobs.states import SolveState
from poet_service.problems import json_bytes

# A reply that is remembered takes its bytes and about so many more.
_OVERHEAD_BYTES = 400
# A plan in memory is about so many times its text.
_MEMORY_PER_BYTE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A judged plan and its summary, as JSON texts."""

    plan: bytes
    summary: bytes


def stored_plan_invalid() -> ServiceError:
    """What is said of a stored plan that the judge refuses."""
    return ServiceError(
        "The stored plan does not pass the judge any more: the database was damaged or changed.",
        code="stored_plan_invalid",
        hint="Post the request again; it is planned anew.",
    )


def check_same_problem(plan: Plan, problem: Problem) -> None:
    """Raise PlanError (`plan_for_other_problem`) where a plan answers another question."""
    asked = (problem.budget, problem.costs, problem.allowed, problem.objective, problem.device_name)
    answered = (plan.budget, plan.costs, plan.allowed, plan.objective, plan.device_name)
    if answered != asked:
        raise PlanError("The plan answers another problem.", code="plan_for_other_problem")


def read_stored_request(text: bytes) -> PlanRequest:
    """A request that the service itself has stored."""
    return request_from_document(parse_json(text), most_wall_seconds=float("inf"))


def judge_stored(problem: Problem, text: bytes) -> tuple[Plan, Judgement]:
    """The plan in a stored text and its judgement. Raises PoetError where it is not to be shown."""
    plan = plan_from_document(parse_json(text))
    check_same_problem(plan, problem)
    return plan, verify(problem.graph, plan)


class JudgedPlans:
    """Reads plans back from the store. Every method blocks: call it in a work thread."""

    def __init__(self, store: Store, *, most_bytes: int) -> None:
        self._store = store
        self._answers: Remembered[object, Answer] = Remembered(most=most_bytes * 3 // 4)
        self._plans: Remembered[object, Plan] = Remembered(most=most_bytes // 4)

    def known(self, solve: SolveRecord) -> Answer | None:
        """The answer of a solve if it is remembered; never blocks."""
        return self._answers.get(_name(solve))

    def of_solve(self, solve: SolveRecord) -> Answer | None:
        """The plan that a solve has: its last one, or the best so far; None where there is none.

        Raises ServiceError (`stored_plan_invalid`), and then the solve has failed.
        """
        if not solve.has_plan:
            return None
        return self.known(solve) or self._answer(_name(solve), solve, self._store.plan(solve.id))

    def plan_of(self, solve: SolveRecord) -> Plan | None:
        """The same as a plan. Raises as `of_solve` does."""
        name = _name(solve)
        known = self._plans.get(name) if solve.has_plan else None
        if known is not None or not solve.has_plan:
            return known
        text = self._store.plan(solve.id)
        if text is None:
            return None
        _, plan, _ = self._judge(solve, text)
        self._plans.put(name, plan, weight=_MEMORY_PER_BYTE * len(text))
        return plan

    def of_job(self, job_id: str, solve: SolveRecord) -> Answer | None:
        """The plan that was the best when a job left its solve. Raises as `of_solve` does."""
        name = ("job", job_id)
        return self._answers.get(name) or self._answer(name, solve, self._store.job_plan(job_id))

    def _answer(self, name: object, solve: SolveRecord, text: bytes | None) -> Answer | None:
        if text is None:
            return None
        problem, plan, judgement = self._judge(solve, text)
        summary = summarize(problem.graph, plan, judgement)
        answer = Answer(
            plan=json_bytes(plan_to_document(plan)),
            summary=json_bytes(summary.to_document() | {"line": summary.line()}),
        )
        weight = len(answer.plan) + len(answer.summary) + _OVERHEAD_BYTES
        self._answers.put(name, answer, weight=weight)
        return answer

    def _judge(self, solve: SolveRecord, text: bytes) -> tuple[Problem, Plan, Judgement]:
        request = self._store.request(solve.id)
        try:
            problem = read_stored_request(request).stated_problem()
            return problem, *judge_stored(problem, text)
        except PoetError as error:
            logs.event("stored_plan_invalid", error=error.code, solve_id=solve.id)
            if solve.state is SolveState.FINISHED:
                self._store.corrupt(solve.id)
            raise stored_plan_invalid() from error


def _name(solve: SolveRecord) -> object:
    """What a stored plan is remembered by: a solve that has ended keeps its plan."""
    if solve.state.ended:
        return (solve.id, "last")
    return (solve.id, solve.attempt, solve.elapsed_seconds, solve.cost, solve.plan_bytes)
