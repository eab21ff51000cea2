"""The alternatives on a chain whose answers are worked out by hand, and against the planner's bound."""

from __future__ import annotations

import pytest

from benchmarks.alternatives import (
    ALTERNATIVES,
    CHECKPOINTING,
    EVICTION,
    PAGE_EVERYTHING,
    PARTITIONER,
    Alternatives,
)
from benchmarks.instances import Instance, load_instance
from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Budget, Problem
from poet_core.simulate import simulate
from poet_solvers.backends import SolveLimits
from poet_solvers.portfolio import solve

PAGE_IN, PAGE_OUT = 0.25, 0.5


def chain(layers: int, *, paging: bool = True, cheap: int | None = None) -> Instance:
    """Forward ops 0 .. n-1 and a loss, then backward ops n-1 .. 0: each reads the gradient before it
    and its layer's output. Every storage has a byte, every op costs 1."""
    ops = []
    for layer in range(layers):
        reads = (layer - 1,) if layer else ()
        ops.append((f"forward {layer}", Phase.FORWARD, reads))
    for layer in reversed(range(layers)):
        before = () if layer == layers - 1 else (len(ops) - 1,)
        ops.append((f"backward {layer}", Phase.BACKWARD, (*sorted((*before, layer)),)))
    graph = TrainingGraph(
        name="chain",
        storages=tuple(
            Storage(id=number, name=name, size_bytes=1, role=Role.ACTIVATION)
            for number, (name, _phase, _reads) in enumerate(ops)
        ),
        ops=tuple(
            Op(
                id=number,
                name=name,
                kind="node",
                phase=phase,
                reads=reads,
                writes=(number,),
                flops=1 if number == cheap else 5,
            )
            for number, (name, phase, reads) in enumerate(ops)
        ),
    )
    count = len(ops)
    costs = Costs(
        op_seconds=(0.0,) * count,
        op_joules=(1.0,) * count,
        page_in_seconds=(0.0,) * count,
        page_in_joules=(PAGE_IN,) * count,
        page_out_seconds=(0.0,) * count,
        page_out_joules=(PAGE_OUT,) * count,
    )
    return Instance("chain", graph, costs, paging=paging)


def extra(instance: Instance, name: str, ram_bytes: int) -> float | None:
    """What the alternative costs beyond every op once; None where it has no plan."""
    problem = with_ram(instance, ram_bytes)
    schedule = Alternatives(instance).schedule(name, problem)
    if schedule is None:
        return None
    judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    return judged.energy_joules - instance.costs.base_joules


def with_ram(instance: Instance, ram_bytes: int) -> Problem:
    problem = instance.problem("100", reorder=False)
    return Problem(
        graph=problem.graph,
        costs=problem.costs,
        budget=Budget(ram_bytes=ram_bytes),
        allowed=problem.allowed,
    )


def test_the_chain_keeps_every_output_into_the_backward_pass() -> None:
    assert chain(6).peak_bytes == 7


def test_checkpointing_runs_the_inner_ops_of_dropped_segments_once_more() -> None:
    # Segments 0-2 and 3-5: outputs 0 and 1 go, 2 crosses, the last segment stays: 5 bytes before the
    # backward pass, 4 in use at its first op + its own output.
    assert extra(chain(6), CHECKPOINTING, 5) == pytest.approx(2.0)
    assert extra(chain(6), CHECKPOINTING, 7) == pytest.approx(0.0)


def test_checkpointing_gives_up_below_what_any_number_of_segments_needs() -> None:
    assert extra(chain(6), CHECKPOINTING, 3) is None


def test_the_partitioner_saves_all_where_the_budget_is_all_and_runs_the_cheapest_again() -> None:
    assert extra(chain(6), PARTITIONER, 7) == pytest.approx(0.0)
    assert extra(chain(6, cheap=1), PARTITIONER, 6) == pytest.approx(1.0)


def test_the_partitioner_counts_what_is_saved_and_not_the_peak() -> None:
    # Of equals it drops the last: they come back all at once, before the backward pass has begun.
    assert extra(chain(6), PARTITIONER, 6) is None


def test_paging_everything_costs_a_page_out_and_a_page_in_for_each_saved_output() -> None:
    assert extra(chain(6), PAGE_EVERYTHING, 3) == pytest.approx(6 * (PAGE_IN + PAGE_OUT))
    assert extra(chain(6, paging=False), PAGE_EVERYTHING, 7) is None


def test_eviction_takes_the_cheaper_way_back_and_no_more_than_needed() -> None:
    assert extra(chain(6), EVICTION, 7) == pytest.approx(0.0)
    assert extra(chain(6), EVICTION, 6) == pytest.approx(PAGE_IN + PAGE_OUT)
    assert extra(chain(6, paging=False), EVICTION, 6) == pytest.approx(1.0)


@pytest.mark.parametrize("name", ALTERNATIVES)
@pytest.mark.parametrize("paging", [True, False])
def test_no_alternative_is_cheaper_than_the_bound(name: str, paging: bool) -> None:
    instance, found = chain(5, paging=paging), 0
    for ram_bytes in range(3, 7):
        cost = extra(instance, name, ram_bytes)
        if cost is None:
            continue
        found += 1
        solution = solve(with_ram(instance, ram_bytes), SolveLimits(wall_seconds=5, moves=2000))
        assert solution.bound.value <= (instance.costs.base_joules + cost) * (1 + 1e-9)
    assert found or (name == PAGE_EVERYTHING and not paging)


@pytest.mark.parametrize("name", ["CM1", "ResNet-18, a72"])
def test_on_published_graphs_the_judge_accepts_what_is_answered(name: str) -> None:
    instance = load_instance(name)
    if instance is None:
        pytest.skip("the instance files are not on this machine (POET_INSTANCES)")
    alternatives, problem, found = Alternatives(instance), instance.problem("80"), 0
    for alternative in ALTERNATIVES:
        schedule = alternatives.schedule(alternative, problem)
        if schedule is not None:
            found += 1
            judged = simulate(
                problem.graph, problem.costs, problem.budget, schedule, problem.allowed
            )
            assert judged.energy_joules >= instance.costs.base_joules
    assert found >= 3


def test_a_graph_without_a_backward_pass_has_no_checkpointing() -> None:
    instance = load_instance("RL1")
    if instance is None:
        pytest.skip("the instance files are not on this machine (POET_INSTANCES)")
    assert Alternatives(instance).schedule(CHECKPOINTING, instance.problem("90")) is None
