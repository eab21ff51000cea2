"""Every method of POET's experiments, and from which sources its answers come.

Invariant: a method's `sources` name every file of ours whose change could change its answer, so stored
results of other methods stay.
"""

from __future__ import annotations

from benchmarks import poet_experiments_baselines as baselines
from benchmarks.poet_experiments_points import Method, PointContext
from benchmarks.poet_experiments_published import published_schedule
from poet_core.errors import PlanningError
from poet_core.plan import Problem, Schedule

POETS_OPTIMUM = "POET's optimum"

_JUDGED = (
    "poet_core/*.py",
    "solvers/poet_solvers/occurrences.py",
    "solvers/poet_solvers/values.py",
)
_BASELINES = (*_JUDGED, "benchmarks/poet_experiments_baselines.py", "benchmarks/planner_passes.py")
# Of each method that recomputes, what makes its variants.
_RECOMPUTING = {
    baselines.SQRT: ("benchmarks/alternatives.py",),
    baselines.GRIEWANK: (
        "benchmarks/alternatives.py",
        "benchmarks/poet_experiments_griewank.py",
    ),
    baselines.BLOCKS: ("benchmarks/poet_experiments_blocks.py",),
    baselines.PARTITIONER: ("benchmarks/planner_partitioner.py",),
}


def _poets_optimum(problem: Problem, _seconds: float, context: PointContext) -> Schedule:
    if context.published is None:
        raise PlanningError(
            f"POET's model grows with the square of the {len(problem.graph.ops)} ops of a traced "
            "step: it cannot be built for them.",
            code="not_applicable",
        )
    return published_schedule(problem, context.published)


BASELINES: tuple[Method, ...] = (
    *(
        Method(
            name=name,
            sources=(*_BASELINES, "benchmarks/poet_experiments_variants.py", *sources),
            run=baselines.recomputing(name),
        )
        for name, sources in _RECOMPUTING.items()
    ),
    Method(
        name=baselines.PAGE_EVERYTHING,
        sources=(*_BASELINES, "benchmarks/poet_experiments_paging.py"),
        run=baselines.page_everything,
    ),
    Method(
        name=baselines.CAPUCHIN,
        sources=(*_BASELINES, "benchmarks/planner_eviction.py"),
        run=baselines.capuchin,
    ),
    Method(
        name=POETS_OPTIMUM,
        sources=(
            *_JUDGED,
            "benchmarks/poet_experiments_published.py",
            "solvers/poet_solvers/poet_published.py",
            "solvers/poet_solvers/published_*.py",
            "solvers/poet_solvers/backends/*.py",
        ),
        run=_poets_optimum,
    ),
)
