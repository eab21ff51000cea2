"""The jobs of the planner benchmark: each a process's worth of work that ends in one record.

    table        one point, one seed, reordering allowed as in the table
    proof        one point in the given order, seed 0
    greedy       greedy alone at every budget of an instance, with the time it took
    alternative  one alternative at every budget of an instance
    readme       POET's README instance
    scale        a whole step of a deep network
    frontier     RAM against energy, warm-started from point to point

Invariant: every figure is the judge's; a record of a plan that was not found says why.
"""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.alternatives import Alternatives
from benchmarks.instances import FLOOR_PLUS, Instance, load_instance
from benchmarks.planner_points import PROTOTYPE, greedy_limit_seconds
from benchmarks.published_optima import load_graph
from poet_core.errors import PoetError
from poet_core.plan import Problem
from poet_core.simulate import simulate
from poet_solvers.backends import BackendName, SolveLimits
from poet_solvers.evict import best_evict_schedule, judged_cost
from poet_solvers.frontier import frontier
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.portfolio import solve
from poet_solvers.published_problem import published_problem
from poet_solvers.solution import Solution
from poet_solvers.values import value_table

Job = dict[str, Any]
Record = dict[str, Any]

README_GRAPH, README_TIME_RATIO = "resnet18_cifar-a72", 7.6
README_RAM_BYTES = (3_000_000, 1_000_000)
# Where the deep step comes from: (layers) -> Problem. It lives with the tests, which plan it too.
SCALE_MODULE, SCALE_LAYERS, SCALE_SECONDS = "tests.solvers.gpt_step", 96, 60.0
FRONTIER_INSTANCE, FRONTIER_POINTS = "BERT-base, m4", 12

# An incumbent counts as near the end when its overhead is at most this much above the last one's.
_NEAR = 1.01
_THREADS = 2
# Greedy is timed this often, and the median counts: the first time, modules are loaded.
_REPEATS = 3


def run_job(job: Job) -> Record:
    """Do one job; its record carries the job."""
    works: dict[str, Callable[[Job], Record]] = {
        "table": _solve_point,
        "proof": _solve_point,
        "greedy": _greedy,
        "alternative": _alternative,
        "readme": _readme,
        "scale": _scale,
        "frontier": _frontier,
    }
    began = time.perf_counter()
    record = works[job["part"]](job)
    return {"job": job, "job_seconds": round(time.perf_counter() - began, 3), **record}


def budgets_of(name: str) -> tuple[str, ...]:
    """The budgets of an instance's row in the table; VGG-16 on the m4 is in no table."""
    return tuple(PROTOTYPE.get(name, PROTOTYPE["VGG-16, a72"]))


def _instance(job: Job) -> Instance:
    instance = load_instance(job["instance"])
    if instance is None:
        raise FileNotFoundError(f"No file of {job['instance']} under POET_INSTANCES.")
    return instance


def _limits(job: Job) -> SolveLimits:
    return SolveLimits(wall_seconds=job["seconds"], seed=job.get("seed", 0), threads=_THREADS)


def _solve_point(job: Job) -> Record:
    instance = _instance(job)
    problem = instance.problem(job["budget"], reorder=job["part"] == "table")
    share = problem.budget.ram_bytes / instance.peak_bytes
    return {"ram_percent": 100 * share, **_solved(problem, _limits(job), job["backend"])}


def _solved(problem: Problem, limits: SolveLimits, backend: BackendName) -> Record:
    began = time.perf_counter()
    try:
        solution = solve(problem, limits, backend=backend)
    except PoetError as error:
        return {
            "ram_bytes": problem.budget.ram_bytes,
            "error": f"{error.code}: {error}",
            "wall_seconds": time.perf_counter() - began,
        }
    return {"ram_bytes": problem.budget.ram_bytes, **_figures(solution)}


def _figures(solution: Solution) -> Record:
    base, last = solution.base_cost, solution.cost
    near = base + _NEAR * (last - base)
    to_near = [one.seconds for one in solution.history if one.cost <= near]
    return {
        "ops": len(solution.problem.graph.ops),
        "base": base,
        "cost": last,
        "overhead_percent": 100 * solution.overhead,
        "found_by": solution.found_by,
        "first_plan_seconds": solution.history[0].seconds if solution.history else None,
        "near_seconds": to_near[0] if to_near else solution.wall_seconds,
        "final_seconds": solution.history[-1].seconds if solution.history else None,
        "bound": solution.bound.value,
        "bound_percent": 100 * (solution.bound.value / base - 1) if base else 0.0,
        "holds_for": str(solution.bound.holds_for),
        "bound_by": solution.bound.by,
        "gap_percent": 100 * solution.gap,
        "overhead_gap_percent": 100 * solution.overhead_gap,
        "ending": solution.ending.name,
        "proven": solution.ending.proven,
        "peak_bytes": solution.judgement.peak_bytes,
        "wall_seconds": solution.wall_seconds,
        "history": [
            [round(one.seconds, 3), 100 * (one.cost / base - 1) if base else 0.0, one.by]
            for one in solution.history
        ][-40:],
    }


def _greedy(job: Job) -> Record:
    """Greedy alone; where it finds nothing and paging is allowed, eviction is what is left."""
    instance, rows = _instance(job), []
    for budget in dict.fromkeys((*budgets_of(job["instance"]), FLOOR_PLUS)):
        problem = instance.problem(budget)
        sequence, seconds = None, []
        for _ in range(_REPEATS):
            began = time.perf_counter()
            sequence = best_greedy_sequence(problem, stop=lambda: False)
            seconds.append(time.perf_counter() - began)
        cost = None
        if sequence is not None:
            cost = judged_cost(problem, sequence_schedule(step_model(problem), sequence))
        evict = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
        evicted = None if evict is None else judged_cost(problem, evict)
        rows.append(
            {
                "budget": budget,
                "seconds": median(seconds),
                "overhead_percent": _percent(cost, problem),
                "evict_overhead_percent": _percent(evicted, problem),
            }
        )
    ops = len(instance.graph.ops)
    return {
        "ops": ops,
        "paging": instance.paging,
        "limit_seconds": greedy_limit_seconds(ops),
        "rows": rows,
    }


def _percent(cost: float | None, problem: Problem) -> float | None:
    return None if cost is None else 100 * (cost / problem.costs.base_joules - 1)


def _alternative(job: Job) -> Record:
    instance, rows = _instance(job), []
    alternatives = Alternatives(instance)
    for budget in budgets_of(job["instance"]):
        problem = instance.problem(budget)
        schedule = alternatives.schedule(job["alternative"], problem)
        cost = None
        if schedule is not None:
            judged = simulate(
                problem.graph, problem.costs, problem.budget, schedule, problem.allowed
            )
            cost = judged.energy_joules
        share = problem.budget.ram_bytes / instance.peak_bytes
        rows.append(
            {
                "budget": budget,
                "ram_percent": 100 * share,
                "overhead_percent": _percent(cost, problem),
            }
        )
    return {"rows": rows}


def _readme(job: Job) -> Record:
    graph = load_graph(README_GRAPH)
    if graph is None:
        return {"error": f"{README_GRAPH} is not here"}
    problem = published_problem(
        graph, ram_bytes=job["ram_bytes"], time_ratio=README_TIME_RATIO, name=README_GRAPH
    )
    return _solved(problem, _limits(job), job["backend"])


def scale_missing() -> str | None:
    """Why there is no deep step here, in a sentence."""
    try:
        found = importlib.util.find_spec(SCALE_MODULE) is not None
    except ModuleNotFoundError:
        found = False
    return None if found else f"{SCALE_MODULE}, which makes the step, is not in this tree."


def _scale(job: Job) -> Record:
    missing = scale_missing()
    if missing is not None:
        return {"error": missing}
    problem = importlib.import_module(SCALE_MODULE).gpt_problem(job["layers"])
    return _solved(problem, _limits(job), job["backend"])


def _frontier(job: Job) -> Record:
    instance = _instance(job)
    found = frontier(
        instance.problem("90"),
        points=job["points"],
        limits=_limits(job),
        backend=job["backend"],
    )
    rows = []
    for point in found.points:
        plan = point.plan
        bound = None if plan is None or plan.bound is None else plan.bound.value
        rows.append(
            {
                "ram_bytes": point.ram_bytes,
                "ram_percent": 100 * point.ram_bytes / instance.peak_bytes,
                "overhead_percent": None
                if plan is None
                else 100 * (plan.objective_value / instance.costs.base_joules - 1),
                "bound_percent": None
                if bound is None
                else 100 * (bound / instance.costs.base_joules - 1),
                "found_by": point.found_by,
                "error": point.error,
            }
        )
    return {"rows": rows, "wall_seconds": found.wall_seconds}
