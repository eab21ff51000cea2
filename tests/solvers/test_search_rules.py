"""The search and the finer rules: the two-lane clock, limits, generators, updates, zero bytes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Objective, Problem, Schedule
from poet_core.simulate import INSTRUCTIONS_PER_OP, Judgement, simulate
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from tests.solvers.search_cases import anything, checked_search, without_limits

pytestmark = pytest.mark.skipif(native_missing() is not None, reason=str(native_missing()))


def judged(problem: Problem, schedule: Schedule) -> Judgement:
    return simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)


def objective_of(problem: Problem, figures: Judgement) -> float:
    energy = problem.objective is Objective.ENERGY
    return figures.energy_joules if energy else figures.step_seconds


def runs_of(schedule: Schedule) -> list[int]:
    return [one.target for one in schedule.instructions if one.do is Do.COMPUTE]


def test_what_it_says_is_what_the_judge_says_whatever_the_problem() -> None:
    """Memory, versions, copies, both clocks and every limit: the core has its own account of all."""
    seen: Counter[str] = Counter()
    for seed in range(2500):
        problem = anything(seed, most_ops=12)
        cost, found = checked_search(problem, moves=1_000, seed=seed)
        if found is None:
            seen["none"] += 1
            continue
        schedule = sequence_schedule(step_model(problem), found)
        if len(schedule.instructions) > INSTRUCTIONS_PER_OP * len(problem.graph.ops):
            continue
        figures = judged(problem, schedule)
        assert cost == pytest.approx(objective_of(problem, figures), rel=1e-9, abs=1e-9), seed
        runs = Counter(runs_of(schedule))
        seen["page_in issued early"] += any(use != before for _, use, before in found.early)
        seen["freed late"] += bool(found.late)
        seen["random op again"] += any(
            problem.graph.ops[op].random and count > 1 for op, count in runs.items()
        )
        loose = _loose(problem, seed)
        try:
            seen["loose"] += loose is not None and bool(judged(problem, loose).peak_bytes)
        except PlanError as error:
            seen[error.code] += 1
    for what in ("page_in issued early", "freed late", "random op again"):
        assert seen[what] >= 3, seen
    for code in ("time_exceeded", "energy_exceeded", "flash_exceeded", "flash_writes_exceeded"):
        assert seen[code] >= 1, seen  # a limit that changes nothing tests nothing


def _loose(problem: Problem, seed: int) -> Schedule | None:
    """What is found with RAM as the only limit."""
    free = without_limits(problem)
    _, found = checked_search(free, moves=300, seed=seed)
    return None if found is None else sequence_schedule(step_model(free), found)


def chain_with_pages(*, overlap: bool) -> Problem:
    """Forward and backward over six layers: every activation is wanted again, RAM for half of them."""
    layers = 6
    storages = [
        Storage(id=i, name=f"a{i}", size_bytes=4, role=Role.ACTIVATION) for i in range(layers)
    ]
    storages += [
        Storage(id=layers + i, name=f"g{i}", size_bytes=4, role=Role.GRADIENT)
        for i in range(layers)
    ]
    ops = [
        Op(
            id=i, name=f"f{i}", kind="test", phase=Phase.FORWARD,
            reads=(i - 1,) if i else (), writes=(i,), recomputable=False,
        )
        for i in range(layers)
    ]  # fmt: skip
    for i in range(layers):
        layer = layers - 1 - i
        gradient = (layers + i - 1,) if i else ()
        ops.append(
            Op(
                id=layers + i, name=f"b{layer}", kind="test", phase=Phase.BACKWARD,
                reads=(layer, *gradient), writes=(layers + i,), recomputable=False,
            )
        )  # fmt: skip
    count = 2 * layers
    return Problem(
        graph=TrainingGraph(storages=tuple(storages), ops=tuple(ops)),
        costs=Costs(
            op_seconds=(1.0,) * count, op_joules=(1.0,) * count,
            page_in_seconds=(0.75,) * count, page_in_joules=(0.5,) * count,
            page_out_seconds=(0.75,) * count, page_out_joules=(0.5,) * count,
        ),
        budget=Budget(ram_bytes=20, overlap=overlap),
        objective=Objective.TIME,
        allowed=Allowed(reorder=False),
    )  # fmt: skip


def test_transfers_run_beside_compute_where_the_clock_lets_them() -> None:
    hidden, serial = chain_with_pages(overlap=True), chain_with_pages(overlap=False)
    limits = SearchLimits(moves=40_000)
    with_clock, without = (
        search_schedule(hidden, limits=limits),
        search_schedule(serial, limits=limits),
    )
    assert with_clock is not None
    assert without is not None
    assert judged(hidden, without).step_seconds > 12.5
    assert judged(hidden, with_clock).step_seconds == hidden.costs.base_seconds


def updated_before_it_is_read_again(*, reorder: bool) -> Problem:
    """a = f(w) is wanted at the end, does not fit beside op 3, and w is updated in between."""
    storages = (
        Storage(id=0, name="w", size_bytes=2, role=Role.PARAMETER, persistent=True),
        Storage(id=1, name="x", size_bytes=1, role=Role.INPUT),
        Storage(id=2, name="a", size_bytes=4, role=Role.ACTIVATION),
        Storage(id=3, name="g", size_bytes=1, role=Role.GRADIENT),
        Storage(id=4, name="h", size_bytes=1, role=Role.ACTIVATION),
        Storage(id=5, name="out", size_bytes=1, role=Role.RESULT, result=True),
    )
    forward, update = Phase.FORWARD, Phase.UPDATE
    ops = (
        Op(id=0, name="f", kind="test", phase=forward, reads=(0, 1), writes=(2,)),
        Op(id=1, name="loss", kind="test", phase=forward, reads=(2,), writes=(3,)),
        Op(id=2, name="sgd", kind="test", phase=update, reads=(3,), mutates=(0,)),
        Op(
            id=3, name="big", kind="test", phase=forward, reads=(3,), writes=(4,), workspace_bytes=4
        ),
        Op(id=4, name="last", kind="test", phase=forward, reads=(2, 4), writes=(5,)),
    )
    nothing = (0.0,) * len(storages)
    return Problem(
        graph=TrainingGraph(storages=storages, ops=ops),
        costs=Costs(
            op_seconds=(1.0,) * 5, op_joules=(1.0,) * 5, page_in_seconds=nothing,
            page_in_joules=nothing, page_out_seconds=nothing, page_out_joules=nothing,
        ),
        budget=Budget(ram_bytes=9),
        allowed=Allowed(page=False, reorder=reorder),
    )  # fmt: skip


def test_an_update_is_placed_later_so_that_a_second_run_reads_the_old_version() -> None:
    problem = updated_before_it_is_read_again(reorder=True)
    schedule = search_schedule(problem, limits=SearchLimits(moves=20_000))
    assert schedule is not None
    runs = runs_of(schedule)
    assert judged(problem, schedule).energy_joules == 6
    assert runs.count(0) == 2
    assert runs.index(2) > len(runs) - 1 - runs[::-1].index(0)
    fixed = updated_before_it_is_read_again(reorder=False)
    assert search_schedule(fixed, limits=SearchLimits(moves=20_000)) is None


def dropout_again(rng_state_bytes: int, ram_bytes: int) -> Problem:
    """A random op's output is wanted again and does not fit beside op 2."""
    storages = tuple(
        Storage(id=i, name=f"s{i}", size_bytes=size, role=Role.ACTIVATION, result=i == 3)
        for i, size in enumerate((6, 1, 1, 1))
    )
    ops = (
        Op(id=0, name="drop", kind="test", phase=Phase.FORWARD, writes=(0,), random=True),
        Op(id=1, name="use", kind="test", phase=Phase.FORWARD, reads=(0,), writes=(1,)),
        Op(id=2, name="big", kind="test", phase=Phase.FORWARD, reads=(1,), writes=(2,),
           workspace_bytes=6),
        Op(id=3, name="last", kind="test", phase=Phase.BACKWARD, reads=(0, 2), writes=(3,)),
    )  # fmt: skip
    nothing = (0.0,) * 4
    return Problem(
        graph=TrainingGraph(storages=storages, ops=ops, rng_state_bytes=rng_state_bytes),
        costs=Costs(
            op_seconds=(1.0,) * 4, op_joules=(1.0,) * 4, page_in_seconds=nothing,
            page_in_joules=nothing, page_out_seconds=nothing, page_out_joules=nothing,
        ),
        budget=Budget(ram_bytes=ram_bytes, alignment_bytes=2),
        allowed=Allowed(page=False, reorder=False),
    )  # fmt: skip


def test_a_random_op_runs_again_with_its_generator_state_held() -> None:
    """Big needs 2 + 2 + 6 bytes, and the state of the generator 4 more, rounded up."""
    limits = SearchLimits(moves=5_000)
    schedule = search_schedule(dropout_again(3, 14), limits=limits)
    assert schedule is not None
    assert runs_of(schedule) == [0, 1, 2, 0, 3]
    assert search_schedule(dropout_again(3, 12), limits=limits) is None
    assert search_schedule(dropout_again(1, 12), limits=limits) is not None


def test_a_cap_on_flash_writes_is_kept_where_second_runs_can_do_without() -> None:
    problem = replace(dropout_again(0, 14), allowed=Allowed(reorder=False))
    problem = replace(
        problem, budget=Budget(ram_bytes=12), costs=replace(problem.costs, op_joules=(9.0,) * 4)
    )
    limits = SearchLimits(moves=5_000)
    paged = search_schedule(problem, limits=limits)
    assert paged is not None
    assert judged(problem, paged).flash_bytes_written == 6
    capped = replace(problem, budget=replace(problem.budget, flash_write_bytes=5))
    again = search_schedule(capped, limits=limits)
    assert again is not None
    assert judged(capped, again).flash_bytes_written == 0
    full = replace(problem, budget=replace(problem.budget, flash_bytes=5))
    assert search_schedule(full, limits=limits) is not None
