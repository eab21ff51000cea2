"""A unit of work of POET's experiments, in whatever process: what is asked, and what is kept of it.

    trace     a network's whole step with one optimizer, whole or with its ops in parts
    facts     of a series: its size, its floor, keep-everything
    a group   methods that take turns at every budget of a series, tightest first

Invariant: every figure is the judge's, on the problem that was asked.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from functools import lru_cache

from benchmarks.poet_experiments_networks import IN_PARTS, graph_of
from benchmarks.poet_experiments_points import (
    DEVICE,
    Facts,
    Method,
    Outcome,
    Point,
    PointContext,
    Result,
    Scope,
    Series,
    labels_of,
    ram_bytes_of,
)
from benchmarks.published_optima import load_graph
from poet_core.baseline import judge_keep_everything
from poet_core.bounds import RamFloor, check_above_floor, ram_floor
from poet_core.devices import load_device
from poet_core.errors import BudgetError, PlanError, PoetError
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Objective, Plan, Problem, Schedule
from poet_core.problem import make_problem
from poet_core.simulate import Judgement, simulate
from poet_solvers.published_graph import PublishedGraph
from poet_solvers.published_problem import published_problem

PUBLISHED_PREFIX = "poet/"
NOT_APPLICABLE = "not_applicable"
"""The code of a PlanningError that says that a method has no way to express a problem."""

_ANY_RAM_BYTES = 2**62
_SAID_LENGTH = 160


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A series as a problem whose RAM is yet to be set."""

    series: Series
    problem: Problem
    graph_sha256: str
    published: PublishedGraph | None


@lru_cache(maxsize=2)
def question_of(series: Series) -> Question:
    """The problem of a series; its graph is traced first where it is not there yet."""
    if series.scope is Scope.PUBLISHED:
        published = load_graph(series.network.removeprefix(PUBLISHED_PREFIX))
        if published is None:
            raise FileNotFoundError(f"No file of {series.network} under POET_INSTANCES.")
        problem = published_problem(published, ram_bytes=_ANY_RAM_BYTES, name=series.network)
    else:
        published, graph = None, graph_of(series.network, series.scope)
        problem = make_problem(graph, load_device(series.device), ram_bytes=_ANY_RAM_BYTES)
    return Question(
        series=series,
        problem=problem,
        graph_sha256=graph_sha256(problem.graph),
        published=published,
    )


# -- facts ------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def facts_of(series: Series) -> Facts:
    """What is true of a series whatever the method."""
    question = question_of(series)
    problem, graph = question.problem, question.problem.graph
    keep, floor = _keep(problem), ram_floor(graph, problem.budget)
    by_role: dict[str, int] = {}
    for storage in graph.storages:
        by_role[str(storage.role)] = by_role.get(str(storage.role), 0) + storage.size_bytes
    facts = Facts(
        series=series,
        ops=len(graph.ops),
        storages=len(graph.storages),
        device_ram_bytes=None if question.published else load_device(series.device).ram_bytes,
        keep_bytes=keep.peak_bytes,
        keep_seconds=keep.step_seconds,
        keep_joules=keep.energy_joules,
        floor_bytes=floor.floor_bytes,
        floor_set_by=floor.set_by,
        floor_op=_floor_op(graph, floor),
        bytes_by_role=by_role,
    )
    whole = question.published is None and not series.network.endswith(IN_PARTS)
    return _with_split(facts, problem) if whole else facts


def _with_split(facts: Facts, problem: Problem) -> Facts:
    series = facts.series
    graph = graph_of(series.network, series.scope, split=True)
    parts = make_problem(graph, load_device(series.device), ram_bytes=_ANY_RAM_BYTES)
    floor = ram_floor(graph, problem.budget)
    return replace(
        facts,
        split_ops=len(graph.ops),
        split_floor_bytes=floor.floor_bytes,
        split_floor_set_by=floor.set_by,
        split_floor_op=_floor_op(graph, floor),
        split_keep_bytes=_keep(parts).peak_bytes,
    )


def _keep(problem: Problem) -> Judgement:
    budget = problem.budget
    return judge_keep_everything(
        problem.graph,
        problem.costs,
        reserved_bytes=budget.reserved_bytes,
        alignment_bytes=budget.alignment_bytes,
    )


def _floor_op(graph: TrainingGraph, floor: RamFloor) -> str:
    """The op for people: its kind, and the module that it is of."""
    if floor.op_id is None:
        return floor.set_by
    op = graph.ops[floor.op_id]
    return f"{op.kind} of {op.module or op.name}"


# -- points -----------------------------------------------------------------------------------


def points_of(facts: Facts) -> tuple[Point, ...]:
    """The budgets of a series, tightest first, no two of them equal."""
    wanted = {
        label: ram_bytes_of(
            label,
            keep_bytes=facts.keep_bytes,
            floor_bytes=facts.floor_bytes,
            device_bytes=facts.device_ram_bytes or 0,
        )
        for label in labels_of(facts.series)
    }
    taken: dict[int, str] = {}
    for label, ram_bytes in wanted.items():
        # The device's own RAM is asked whatever it is; else a budget has one name.
        if ram_bytes is not None and (ram_bytes not in taken or label == DEVICE):
            taken[ram_bytes] = label
    return tuple(
        Point(series=facts.series, label=label, ram_bytes=ram_bytes)
        for ram_bytes, label in sorted(taken.items())
    )


def run_group(series: Series, methods: tuple[Method, ...], seconds: float) -> list[Result]:
    """Methods that share what they know, at every budget of a series."""
    question, points = question_of(series), points_of(facts_of(series))
    device = None if question.published else load_device(series.device)
    budgets = tuple(point.ram_bytes for point in points)
    found: list[Result] = []
    shared: dict[str, object] = {}
    for point in points:
        context = PointContext(
            point=point,
            budgets_bytes=budgets,
            device=device,
            published=question.published,
            graph_sha256=question.graph_sha256,
            shared=shared,
        )
        budget = replace(question.problem.budget, ram_bytes=point.ram_bytes)
        problem = replace(question.problem, budget=budget)
        found += [_answered(method, problem, seconds, context) for method in methods]
    return found


def _answered(method: Method, problem: Problem, seconds: float, context: PointContext) -> Result:
    began = time.perf_counter()
    outcome, said, answer = _asked(method, problem, seconds, context)
    took = time.perf_counter() - began
    point = context.point
    result = Result(
        series=point.series,
        label=point.label,
        ram_bytes=point.ram_bytes,
        method=method.name,
        outcome=outcome,
        given_seconds=seconds,
        planner_seconds=took,
        said=said,
    )
    if answer is None:
        return result
    schedule = answer.schedule if isinstance(answer, Plan) else answer
    try:
        return _judged(result, problem, schedule, answer if isinstance(answer, Plan) else None)
    except PlanError as error:
        return replace(result, outcome=Outcome.REFUSED, said=_said(error))


def _asked(
    method: Method, problem: Problem, seconds: float, context: PointContext
) -> tuple[Outcome, str | None, Plan | Schedule | None]:
    try:
        # Nobody is asked for what cannot be; methods with less to work with find their own limits.
        check_above_floor(problem.graph, problem.budget)
        answer = method.run(problem, seconds, context)
    except BudgetError as error:
        return Outcome.IMPOSSIBLE, _said(error), None
    except PoetError as error:
        strange = error.code == NOT_APPLICABLE
        return Outcome.NOT_APPLICABLE if strange else Outcome.NOT_FOUND, _said(error), None
    except Exception as error:  # noqa: BLE001  One method's fault must not cost a night's results.
        return Outcome.FAILED, f"{type(error).__name__}: {error}"[:_SAID_LENGTH], None
    return (Outcome.NOT_FOUND if answer is None else Outcome.PLANNED), None, answer


def _said(error: PoetError) -> str:
    return f"{error.code}: {error.message}"[:_SAID_LENGTH]


def _judged(result: Result, problem: Problem, schedule: Schedule, plan: Plan | None) -> Result:
    """The judge's figures, beside a clock on which transfers wait for compute, too."""
    judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    blocking = replace(problem.budget, overlap=False, step_seconds=None)
    alone = simulate(problem.graph, problem.costs, blocking, schedule, problem.allowed)
    bound = None if plan is None else plan.bound
    for_energy = plan is None or plan.objective is Objective.ENERGY
    return replace(
        result,
        energy_joules=judged.energy_joules,
        step_seconds=judged.step_seconds,
        blocking_seconds=alone.step_seconds,
        peak_bytes=judged.peak_bytes,
        flash_bytes_written=judged.flash_bytes_written,
        flash_peak_bytes=judged.flash_peak_bytes,
        recomputed_ops=judged.compute_runs - len(problem.graph.ops),
        transfers=judged.transfer_count,
        bound_joules=bound.value if bound is not None and for_energy else None,
        bound_seconds=bound.value if bound is not None and not for_energy else None,
        bound_holds_for=None if bound is None else str(bound.holds_for),
        found_by=None if plan is None else plan.planned_by.formulation,
    )
