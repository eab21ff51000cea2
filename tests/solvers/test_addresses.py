"""Addresses of judged plans: random schedules, planted faults, and the steps of real nets."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from poet_core.baseline import keep_everything
from poet_core.costs import Costs
from poet_core.errors import PlanError, PlanningError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import (
    Allowed,
    Budget,
    Do,
    Instruction,
    Objective,
    Plan,
    PlannedBy,
    Schedule,
)
from poet_core.simulate import Judgement, simulate
from poet_solvers.addresses import Addresses, Holds, Placed, place
from poet_solvers.addresses.check import check_addresses
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph, random_walk

C, OUT, IN, FREE = Do.COMPUTE, Do.PAGE_OUT, Do.PAGE_IN, Do.FREE
LOOKS = 200_000


def free_costs(graph: TrainingGraph) -> Costs:
    ops, storages = (0.0,) * len(graph.ops), (0.0,) * len(graph.storages)
    return Costs(
        op_seconds=ops,
        op_joules=ops,
        page_in_seconds=storages,
        page_in_joules=storages,
        page_out_seconds=storages,
        page_out_joules=storages,
    )


def plan_of(
    graph: TrainingGraph, schedule: Schedule, budget: Budget, costs: Costs | None = None
) -> Plan:
    """The plan with this schedule; raises PlanError where the judge refuses it."""
    costs = costs or free_costs(graph)
    judgement = simulate(graph, costs, budget, schedule)
    return Plan(
        graph_sha256=graph_sha256(graph),
        device_name="test",
        budget=budget,
        objective=Objective.ENERGY,
        allowed=Allowed(),
        costs=costs,
        schedule=schedule,
        claims=judgement.claims,
        planned_by=PlannedBy(formulation="test", solver="none", status="given", wall_seconds=0.0),
    )


def judged(graph: TrainingGraph, plan: Plan) -> Judgement:
    return simulate(graph, plan.costs, plan.budget, plan.schedule)


def spans(addresses: Addresses, holds: Holds, target: int) -> list[tuple[int, int, int]]:
    """(first, last, offset) of what holds `target`."""
    return [
        (item.first, item.last, item.offset_bytes)
        for item in addresses.placed
        if item.holds is holds and item.target == target
    ]


def storage(number: int, size: int, role: Role, **more: bool) -> Storage:
    return Storage(id=number, name=f"s{number}", size_bytes=size, role=role, **more)


def op(number: int, **more: object) -> Op:
    return Op(id=number, name=f"o{number}", kind="t", phase=Phase.FORWARD, **more)  # type: ignore[arg-type]


def schedule_of(start_ram: tuple[int, ...], *steps: tuple[Do, int]) -> Schedule:
    instructions = tuple(Instruction(do, target) for do, target in steps)
    return Schedule(start_ram=start_ram, start_flash=(), instructions=instructions)


def weight_graph(*, writes: bool) -> TrainingGraph:
    """A weight of 4 bytes, an activation of 4; op 1 writes (or mutates) the weight."""
    return TrainingGraph(
        storages=(
            storage(0, 4, Role.PARAMETER, persistent=True),
            storage(1, 4, Role.ACTIVATION),
        ),
        ops=(
            op(0, reads=(0,), writes=(1,)),
            op(1, reads=(1,), writes=(0,)) if writes else op(1, reads=(1,), mutates=(0,)),
        ),
    )


ROOMY = Budget(ram_bytes=10**6)


def test_every_residence_has_its_own_span_and_a_weight_comes_back_to_its_address() -> None:
    graph = weight_graph(writes=False)
    steps = [(C, 0), (OUT, 0), (FREE, 0), (IN, 0), (C, 1), (FREE, 1)]
    addresses = place(graph, plan_of(graph, schedule_of((0,), *steps), ROOMY))
    assert [span[:2] for span in spans(addresses, Holds.STORAGE, 0)] == [(-1, 1), (3, 5)]
    assert len({offset for *_, offset in spans(addresses, Holds.STORAGE, 0)}) == 1
    assert [span[:2] for span in spans(addresses, Holds.STORAGE, 1)] == [(0, 4)]
    assert (addresses.arena_bytes, addresses.peak_bytes, addresses.ratio) == (8, 8, 1.0)


def test_a_mutation_keeps_its_span() -> None:
    graph = weight_graph(writes=False)
    steps = [(C, 0), (C, 1), (FREE, 1)]
    addresses = place(graph, plan_of(graph, schedule_of((0,), *steps), ROOMY))
    assert [span[:2] for span in spans(addresses, Holds.STORAGE, 0)] == [(-1, 2)]


def test_a_write_onto_a_weight_must_end_where_it_began_so_it_writes_over_the_old_copy() -> None:
    graph = weight_graph(writes=True)
    steps = [(C, 0), (C, 1), (FREE, 1)]
    addresses = place(graph, plan_of(graph, schedule_of((0,), *steps), ROOMY))
    assert [span[:2] for span in spans(addresses, Holds.STORAGE, 0)] == [(-1, 2)]
    assert (addresses.arena_bytes, addresses.peak_bytes) == (8, 12)


def test_a_write_onto_an_activation_is_a_second_copy_beside_the_first() -> None:
    graph = TrainingGraph(
        storages=(storage(0, 4, Role.ACTIVATION),), ops=(op(0, writes=(0,)), op(1, writes=(0,)))
    )
    addresses = place(graph, plan_of(graph, schedule_of((), (C, 0), (C, 1), (FREE, 0)), ROOMY))
    first, second = spans(addresses, Holds.STORAGE, 0)
    assert (first[:2], second[:2]) == ((0, 1), (1, 1))
    assert first[2] != second[2]
    assert addresses.arena_bytes == addresses.peak_bytes == 8


def test_workspace_generator_states_and_alignment_are_placed_as_the_judge_counts_them() -> None:
    graph = TrainingGraph(
        storages=(storage(0, 3, Role.ACTIVATION), storage(1, 3, Role.ACTIVATION)),
        ops=(op(0, writes=(0,), random=True, workspace_bytes=5), op(1, reads=(0,), writes=(1,))),
        rng_state_bytes=2,
    )
    steps = [(C, 0), (FREE, 0), (C, 0), (C, 1), (FREE, 0), (FREE, 1)]
    budget = Budget(ram_bytes=1000, reserved_bytes=100, alignment_bytes=4)
    addresses = place(graph, plan_of(graph, schedule_of((), *steps), budget))
    assert [span[:2] for span in spans(addresses, Holds.WORKSPACE, 0)] == [(0, 0), (2, 2)]
    assert [span[:2] for span in spans(addresses, Holds.GENERATOR, 0)] == [(0, 2)]
    assert all(item.offset_bytes % 4 == 0 for item in addresses.placed)
    assert addresses.arena_bytes == addresses.peak_bytes == 8 + 4 + 4


def test_inputs_are_there_before_the_first_instruction_and_zero_bytes_have_no_address() -> None:
    graph = TrainingGraph(
        storages=(storage(0, 4, Role.INPUT), storage(1, 0, Role.ACTIVATION)),
        ops=(op(0, reads=(0,), writes=(1,)),),
    )
    addresses = place(graph, plan_of(graph, schedule_of((), (C, 0), (FREE, 0)), ROOMY))
    assert [(i.target, i.first, i.last) for i in addresses.placed] == [(0, -1, 0)]


def test_a_plan_that_the_judge_refuses_gets_no_addresses() -> None:
    graph = weight_graph(writes=False)
    plan = plan_of(graph, schedule_of((0,), (C, 0), (C, 1), (FREE, 1)), ROOMY)
    broken = replace(plan, schedule=schedule_of((0,), (C, 0), (FREE, 1), (C, 1)))
    with pytest.raises(PlanError) as refused:
        place(graph, broken)
    assert refused.value.code == "not_resident"
    with pytest.raises(PlanError) as lied:
        place(graph, replace(plan, claims=replace(plan.claims, peak_bytes=7)))
    assert lied.value.code == "claim_mismatch"


SHAPE = Shape(most_ops=9, most_persistent=4, most_bytes=9)


def random_plans(cases: int) -> list[tuple[TrainingGraph, Plan]]:
    """Judged plans that page, recompute, reorder and overwrite at random."""
    plans = []
    for seed in range(cases):
        rng = Random(seed)
        graph = random_graph(rng, SHAPE)
        schedule = random_walk(rng, graph)
        if schedule is None:
            continue
        budget = random_budget(rng, 10**6)
        try:
            plans.append((graph, plan_of(graph, schedule, budget, random_costs(rng, graph))))
        except PlanError:
            continue  # a walk may come out invalid
    return plans


@pytest.fixture(scope="module")
def placed_plans() -> list[tuple[TrainingGraph, Plan, Addresses]]:
    return [(graph, plan, place(graph, plan, looks=LOOKS)) for graph, plan in random_plans(700)]


Cases = list[tuple[TrainingGraph, Plan, Addresses]]


def bytes_over_time(placed: tuple[Placed, ...]) -> set[tuple[int, int]]:
    """(instruction, byte) of everything; fewer than the sum of sizes where two overlap."""
    return {
        (position, byte)
        for item in placed
        for position in range(item.first, item.last + 1)
        for byte in range(item.offset_bytes, item.offset_bytes + item.size_bytes)
    }


def volume(placed: tuple[Placed, ...]) -> int:
    return sum((item.last - item.first + 1) * item.size_bytes for item in placed)


def test_random_plans_get_addresses_in_which_no_byte_is_used_twice(placed_plans: Cases) -> None:
    assert len(placed_plans) > 300
    ratios = []
    for graph, plan, addresses in placed_plans:
        assert len(bytes_over_time(addresses.placed)) == volume(addresses.placed)
        ratios.append(addresses.ratio)
        for number in plan.schedule.start_ram:
            own = spans(addresses, Holds.STORAGE, number)
            assert own[0][0] == -1
            assert own[0][2] == max(own, key=lambda s: (s[1], s[0]))[2], graph.storages[number]
    assert sum(ratio <= 1 for ratio in ratios) > 0.97 * len(ratios)
    assert any(ratio < 1 for ratio in ratios), "no case writes over a copy in its place"


def test_the_check_catches_every_planted_overlap(placed_plans: Cases) -> None:
    planted = 0
    for number, (graph, plan, addresses) in enumerate(placed_plans):
        rng = Random(number)
        items = list(addresses.placed)
        if len(items) < 2:
            continue
        moved = rng.randrange(len(items))
        item = items[moved]
        offset = rng.randrange(0, addresses.arena_bytes - item.size_bytes + 1)
        items[moved] = replace(item, offset_bytes=offset - offset % plan.budget.alignment_bytes)
        wrong = replace(addresses, placed=tuple(items))
        if len(bytes_over_time(wrong.placed)) == volume(wrong.placed):
            continue
        planted += 1
        with pytest.raises(PlanningError) as caught:
            check_addresses(graph, wrong, plan.schedule, plan.budget, judged(graph, plan))
        assert caught.value.code == "addresses_overlap"
    assert planted > 100


def test_the_check_catches_what_is_forgotten_cut_short_moved_or_outside(
    placed_plans: Cases,
) -> None:
    caught: set[str] = set()

    def refuse(graph: TrainingGraph, plan: Plan, addresses: Addresses) -> str:
        with pytest.raises(PlanningError) as refused:
            check_addresses(graph, addresses, plan.schedule, plan.budget, judged(graph, plan))
        caught.add(refused.value.code)
        return refused.value.code

    for graph, plan, addresses in placed_plans:
        if not addresses.placed:
            continue
        items = addresses.placed
        assert refuse(graph, plan, replace(addresses, placed=items[1:])) == "addresses_incomplete"
        for shorter in (n for n, item in enumerate(items) if item.first < item.last):
            cut = replace(items[shorter], last=items[shorter].last - 1)
            refuse(
                graph,
                plan,
                replace(addresses, placed=(*items[:shorter], cut, *items[shorter + 1 :])),
            )
        assert refuse(graph, plan, replace(addresses, arena_bytes=addresses.arena_bytes - 1)) == (
            "addresses_outside"
        )
        # A second arena on top of the first: no overlap, but a storage that does not come back.
        for number in plan.schedule.start_ram:
            own = [i for i in items if i.holds is Holds.STORAGE and i.target == number]
            if len(own) > 1:
                end = max(own, key=lambda i: (i.last, i.first))
                up = replace(end, offset_bytes=end.offset_bytes + addresses.arena_bytes)
                others = tuple(i for i in items if i is not end)
                moved = replace(
                    addresses, placed=(*others, up), arena_bytes=3 * addresses.arena_bytes
                )
                assert refuse(graph, plan, moved) == "addresses_not_back"
    assert caught == {"addresses_incomplete", "addresses_outside", "addresses_not_back"}


def test_keep_everything_of_a_graph_that_overwrites_its_state_has_addresses() -> None:
    graph = weight_graph(writes=True)
    addresses = place(graph, plan_of(graph, keep_everything(graph), ROOMY))
    assert addresses.ratio < 1
