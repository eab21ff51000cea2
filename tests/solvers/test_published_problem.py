"""POET's graphs as problems: the conversion, and every published optimum by the portfolio."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks.published_optima import agrees, row_problem, solve_by_portfolio
from benchmarks.published_rows import ROWS, PublishedRow, load_graph
from poet_core.baseline import keep_everything
from poet_core.errors import BudgetError, UsageError
from poet_core.plan import Do, Instruction, Schedule
from poet_core.simulate import simulate
from poet_solvers.backends import SolveLimits
from poet_solvers.portfolio import solve
from poet_solvers.published_graph import unit_chain
from poet_solvers.published_problem import published_problem
from poet_solvers.solution import Ending

LIMITS = SolveLimits(wall_seconds=60, threads=1)
# What is neither trivial nor nearly another row; every row is among the slow tests.
FAST_CHAINS = {
    ("unit-chain-3-5.0", 3, "both"),
    ("unit-chain-3-5.0", 3, "neither"),
    ("unit-chain-4-5.0", 3, "remat only"),
    ("unit-chain-5-5.0", 3, "page only"),
    ("unit-chain-5-5.0", 4, "both"),
    ("unit-chain-5-0.6", 3, "both"),
    ("unit-chain-6-0.6", 4, "both"),
}


def is_fast(row: PublishedRow) -> bool:
    if row.graph.startswith("unit-chain"):
        return (row.graph, row.ram_bytes, row.mode) in FAST_CHAINS
    return row.graph != "linear-m0"


def check(row: PublishedRow, backend: str) -> None:
    graph = load_graph(row.graph)
    if graph is None:
        pytest.skip(f"{row.graph} is not here: set POET_INSTANCES")
    answer = solve_by_portfolio(row, graph, backend=backend, limits=LIMITS)
    assert agrees(row, answer), (row.optimum_joules, answer)
    assert answer.peak_bytes is None or answer.peak_bytes <= row.ram_bytes


@pytest.mark.parametrize("row", [row for row in ROWS if is_fast(row)], ids=lambda row: row.title)
def test_the_portfolio_proves_a_published_optimum(row: PublishedRow) -> None:
    check(row, "highs")


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cbc", "highs"])
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_portfolio_proves_every_published_optimum(row: PublishedRow, backend: str) -> None:
    check(row, backend)


def test_poets_readme_example_keeps_everything() -> None:
    """ResNet-18 for CIFAR in 3,000,000 bytes: POET's program gave no answer with CBC in 115 s."""
    row = next(row for row in ROWS if row.graph == "resnet18_cifar-a72")
    graph = load_graph(row.graph)
    if graph is None:
        pytest.skip("resnet18_cifar-a72 is not here: set POET_INSTANCES")
    solution = solve(row_problem(row, graph), LIMITS)
    assert solution.ending is Ending.FITS
    assert solution.cost == pytest.approx(row.optimum_joules, rel=1e-6)


def test_poets_readme_example_in_a_third_of_the_memory() -> None:
    """The least energy for 1,000,000 bytes, where POET's own model has no plan after a minute."""
    graph = load_graph("resnet18_cifar-a72")
    if graph is None:
        pytest.skip("resnet18_cifar-a72 is not here: set POET_INSTANCES")
    problem = published_problem(graph, ram_bytes=1_000_000, time_ratio=7.6)
    solution = solve(problem, replace(LIMITS, threads=2), backend="highs")
    assert solution.ending.proven
    assert solution.cost == pytest.approx(7.90030271, rel=1e-8)


def test_a_solver_without_memory_leaves_the_plan_of_the_others() -> None:
    graph = load_graph("transformer-a72")
    assert graph is not None
    problem = published_problem(graph, ram_bytes=31457280, time_ratio=2.0)
    limits = replace(LIMITS, wall_seconds=5, moves=100_000, memory_bytes=12_000_000)
    assert solve(problem, limits).cost == pytest.approx(119.424346, rel=1e-6)


def test_the_judge_counts_as_the_design_notes_do() -> None:
    """n = 2, RAM 3, transfers of 0.4: C0 | out0 C1 free0 | C2 | C3 free1 free2 | in0 C4, 5.8 J."""
    problem = published_problem(unit_chain(2, page_joules=0.4), ram_bytes=3)
    steps = [
        (Do.COMPUTE, 0), (Do.PAGE_OUT, 0), (Do.COMPUTE, 1), (Do.FREE, 0), (Do.COMPUTE, 2),
        (Do.COMPUTE, 3), (Do.FREE, 1), (Do.FREE, 2), (Do.PAGE_IN, 0), (Do.COMPUTE, 4),
        (Do.FREE, 0), (Do.FREE, 3),
    ]  # fmt: skip
    schedule = Schedule(
        start_ram=(),
        start_flash=(),
        instructions=tuple(Instruction(do, target) for do, target in steps),
    )
    judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    assert judged.energy_joules == pytest.approx(5.8)
    assert (judged.peak_bytes, judged.step_seconds) == (3, 0.0)


def test_time_order_and_modes_are_carried_over() -> None:
    graph = load_graph("linear-a72")
    assert graph is not None
    problem = published_problem(graph, ram_bytes=3256, time_ratio=2.0, paging=False)
    assert problem.budget.step_seconds == 2.0 * graph.total_seconds
    assert problem.budget.alignment_bytes == 1
    allowed = problem.allowed
    assert (allowed.page, allowed.rematerialize, allowed.reorder) == (False, True, False)
    assert problem.costs.base_joules == pytest.approx(0.00658942492)
    assert [storage.id for storage in problem.graph.storages if storage.result] == [26]
    judged = simulate(
        problem.graph, problem.costs, published_problem(graph, ram_bytes=10**9).budget,
        keep_everything(problem.graph),
    )  # fmt: skip
    assert judged.step_seconds == pytest.approx(graph.total_seconds)


def test_what_makes_no_sense_is_refused() -> None:
    chain = unit_chain(1, page_joules=1.0)
    with pytest.raises(BudgetError):
        published_problem(chain, ram_bytes=-1)
    for ratio in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            published_problem(chain, ram_bytes=3, time_ratio=ratio)
