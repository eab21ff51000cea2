"""The RAM floor against its definition, and keep-everything against the judge and the floor."""

from dataclasses import replace
from random import Random

import pytest

from poet_core.baseline import judge_keep_everything, keep_everything
from poet_core.bounds import check_above_floor, ram_floor
from poet_core.errors import BudgetError, PlanError
from poet_core.graph import Role, TrainingGraph
from poet_core.plan import Budget, Do
from poet_core.simulate import simulate
from tests.core.training_step import COSTS, GRAPH, LAYER1
from tests.oracles.generate import random_budget, random_costs, random_graph, random_walk
from tests.oracles.shortest_path import TooLarge, least_energy


def floor_by_definition(graph: TrainingGraph, budget: Budget, paging: bool) -> int:
    """Reads, writes, mutates, workspace and reserved bytes of the worst op; the inputs at the
    start; the results at the end; without paging every persistent storage beside them."""
    grain = budget.alignment_bytes

    def block(size: int) -> int:
        while size % grain:
            size += 1
        return size

    def total(ids: set[int]) -> int:
        always = set() if paging else {s.id for s in graph.storages if s.persistent}
        return budget.reserved_bytes + sum(
            block(graph.storages[i].size_bytes) for i in ids | always
        )

    moments = [
        total({s.id for s in graph.storages if s.role is Role.INPUT and not s.persistent}),
        total({s.id for s in graph.storages if s.result}),
    ]
    for op in graph.ops:
        touched = {*op.reads, *op.writes, *op.mutates}
        moments.append(total(touched) + block(op.workspace_bytes))
    return max(moments)


def test_the_floor_is_its_definition() -> None:
    rng = Random(1)
    for _ in range(2000):
        graph, budget = random_graph(rng), random_budget(rng, 0)
        for paging in (True, False):
            floor = ram_floor(graph, budget, paging=paging)
            assert floor.floor_bytes == floor_by_definition(graph, budget, paging)
            if floor.op_id is not None:
                assert f"op {floor.op_id} " in floor.set_by


def test_no_schedule_is_below_the_floor() -> None:
    rng = Random(2)
    reached = below = 0
    for _ in range(3000):
        graph, budget = random_graph(rng), random_budget(rng, 10**6)
        costs = random_costs(rng, graph)
        walk = random_walk(rng, graph)
        if walk is None:
            continue
        try:
            peak = simulate(graph, costs, budget, walk).peak_bytes
        except PlanError:
            continue
        paging = bool(walk.start_flash) or any(
            one.do in (Do.PAGE_IN, Do.PAGE_OUT) for one in walk.instructions
        )
        floor = ram_floor(graph, budget, paging=paging).floor_bytes
        below += peak < floor
        reached += peak == floor
    assert below == 0
    assert reached > 50


def test_nothing_fits_under_the_floor_and_the_floor_is_often_enough() -> None:
    rng = Random(3)
    fits = 0
    for _ in range(150):
        graph = random_graph(rng)
        costs = random_costs(rng, graph)
        budget = replace(random_budget(rng, 0), overlap=False)
        floor = ram_floor(graph, budget).floor_bytes
        try:
            under = replace(budget, ram_bytes=floor - 1)
            assert least_energy(graph, costs, under, most_states=1000) is None
            at_floor = replace(budget, ram_bytes=floor)
            fits += least_energy(graph, costs, at_floor, most_states=1000) is not None
        except TooLarge:
            continue
    assert fits > 100


def test_a_budget_below_the_floor_is_refused_with_the_op_and_the_bytes() -> None:
    floor = ram_floor(GRAPH, Budget(ram_bytes=0))
    # layer1: x 8, w1 6, mask1 1, h1 4.
    assert (floor.floor_bytes, floor.op_id) == (19, LAYER1)
    with pytest.raises(BudgetError) as caught:
        check_above_floor(GRAPH, Budget(ram_bytes=18))
    error = caught.value
    assert error.code == "ram_below_floor"
    assert error.details["op"] == LAYER1
    assert error.details["floor_bytes"] == 19
    assert "19 bytes" in error.hint
    assert check_above_floor(GRAPH, Budget(ram_bytes=19)).floor_bytes == 19


def test_without_paging_the_persistent_storages_are_part_of_the_floor() -> None:
    assert ram_floor(GRAPH, Budget(ram_bytes=0), paging=False).floor_bytes == 19 + 22
    with pytest.raises(BudgetError, match="allow paging"):
        check_above_floor(GRAPH, Budget(ram_bytes=40), paging=False)


def test_keep_everything_is_document_order_and_frees_after_the_last_use() -> None:
    rng = Random(4)
    for _ in range(500):
        graph = random_graph(rng)
        schedule = keep_everything(graph)
        runs = [one.target for one in schedule.instructions if one.do is Do.COMPUTE]
        assert runs == list(range(len(graph.ops)))
        assert not schedule.start_flash
        last = -1
        freed: set[int] = set()
        for one in schedule.instructions:
            if one.do is Do.COMPUTE:
                last = one.target
                continue
            assert one.do is Do.FREE
            freed.add(one.target)
            users = [op.id for op in graph.ops if one.target in op.touches]
            assert max(users, default=-1) == last
        assert freed == {
            s.id for s in graph.storages if s.size_bytes and not s.persistent and not s.result
        }


def test_keep_everything_is_judged_and_costs_what_the_base_says() -> None:
    rng = Random(5)
    for _ in range(500):
        graph = random_graph(rng)
        costs = random_costs(rng, graph)
        judged = judge_keep_everything(graph, costs, reserved_bytes=3, alignment_bytes=2)
        assert judged.step_seconds == costs.base_seconds
        assert judged.energy_joules == costs.base_joules
        budget = Budget(ram_bytes=0, reserved_bytes=3, alignment_bytes=2)
        assert judged.peak_bytes >= ram_floor(graph, budget, paging=False).floor_bytes


def test_the_peak_of_keep_everything_by_hand() -> None:
    """See test_judge_refusals: 22 persistent, x 8, masks 2, h1 4, loss 1, g2 3, gw2 5."""
    assert judge_keep_everything(GRAPH, COSTS).peak_bytes == 45
