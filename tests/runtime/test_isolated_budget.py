"""The plan's budget from a cap: inverse to the least cap, and true of a worker under that cap."""

from __future__ import annotations

import pytest
import torch

from examples import resnet
from poet_core.devices import load_device
from poet_core.errors import BudgetError, ReplayError
from poet_core.problem import make_problem
from poet_runtime.isolated import budget as isolated_budget
from poet_runtime.isolated.budget import (
    MIB,
    WorkerCost,
    least_cap_bytes,
    plan_budget_bytes,
    worker_cost,
)
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.memory.cgroup import find_hierarchy
from poet_runtime.planner import unconstrained_plan
from poet_runtime.tracing.trace import trace
from tests.runtime.native_arena import arena_library


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> None:
    cost = WorkerCost(base_bytes=150 * MIB, op_bytes=14_000.5)
    monkeypatch.setattr(isolated_budget, "worker_cost", lambda: cost)


@pytest.mark.usefixtures("known")
@pytest.mark.parametrize("ops", [0, 17, 950])
@pytest.mark.parametrize("plan_bytes", [1, 12_345_678, 311 * MIB, 5 << 30])
def test_the_least_cap_has_room_for_its_plan_and_a_smaller_one_has_not(
    plan_bytes: int, ops: int
) -> None:
    least = least_cap_bytes(plan_bytes, ops=ops)
    assert least % MIB == 0
    assert plan_budget_bytes(least, ops=ops) >= plan_bytes
    # A whole MiB less is too little, or leaves nothing at all.
    try:
        smaller = plan_budget_bytes(least - 2 * MIB, ops=ops)
    except BudgetError:
        smaller = 0
    assert smaller < plan_bytes


@pytest.mark.usefixtures("known")
def test_a_cap_that_is_all_the_workers_is_refused() -> None:
    with pytest.raises(BudgetError) as caught:
        plan_budget_bytes(160 * MIB, ops=950)
    assert caught.value.code == "cap_below_worker"
    needed = caught.value.details["worker_bytes"]
    assert isinstance(needed, int)
    assert plan_budget_bytes(needed + 2 * MIB, ops=950) > MIB


@pytest.mark.alone
def test_planned_and_worker_are_what_the_kernel_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """ResNet-18 on small images, everything kept, under the least cap that its plan has."""
    try:
        find_hierarchy()
    except ReplayError as error:
        pytest.skip(error.message)
    library = arena_library()
    monkeypatch.setattr("poet_runtime.memory.arena.library_path", lambda: library)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model, loss_fn, optimizer, batch = resnet.step_small()
        program = trace(model, loss_fn, optimizer, batch)
        host = load_device("host")
        plan = unconstrained_plan(make_problem(program.graph, host, ram_bytes=host.ram_bytes))
        ops = len(program.graph.ops)
        assert worker_cost() is worker_cost()  # measured once
        assert 0 < worker_cost().op_bytes < 100_000
        cap = least_cap_bytes(plan.claims.peak_bytes, ops=ops)
        with IsolatedStep(model, optimizer, program, plan, batch, cap_bytes=cap) as step:
            for _ in range(4):
                step(*batch)
            memory = step.memory()
            step.discard()
    finally:
        torch.set_num_threads(threads)
    assert memory.group_bytes is not None
    assert memory.group_bytes <= cap
    assert memory.group_bytes == pytest.approx(cap, rel=0.02)
