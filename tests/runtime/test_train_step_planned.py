"""The whole path in one process: trace, plan with the MILP, judge, replay, measure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import poet_client
from examples import mlp
from poet_core.documents import canonical_json
from poet_core.errors import BudgetError, PlanError
from poet_core.plan import Plan
from poet_core.plan_document import plan_to_document, read_plan
from poet_core.plan_request import PlanRequest
from poet_runtime import TrainStep
from poet_runtime.fingerprint import fingerprint
from poet_runtime.memory.measured_peak import measure_step_peak
from poet_runtime.planner import LocalPlanner

Setting = tuple[nn.Module, Any, torch.optim.Optimizer, tuple[torch.Tensor, ...]]


def small() -> Setting:
    return mlp.step(batch_size=32, features=60, hidden=(50, 40), optimizer="adam")


def some_batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    inputs = torch.rand(count, 32, 60, generator=generator)
    labels = torch.randint(0, 10, (count, 32), generator=generator)
    return list(zip(inputs, labels, strict=True))


@pytest.fixture(scope="module")
def unconstrained() -> tuple[int, list[str], str]:
    """Peak of keep-everything, losses and fingerprint after five steps."""
    model, loss_fn, optimizer, batch = small()
    with TrainStep(model, loss_fn, optimizer, batch) as step:
        losses = [step(*one).item().hex() for one in some_batches(5)]
        return step.judgement.peak_bytes, losses, fingerprint(model, optimizer)


def test_inside_60_percent_planned_here(
    unconstrained: tuple[int, list[str], str], tmp_path: Path
) -> None:
    keep_bytes, losses, expected = unconstrained
    budget = keep_bytes * 60 // 100
    model, loss_fn, optimizer, batch = small()
    with TrainStep(
        model, loss_fn, optimizer, batch, device="raspberry-pi-4b", ram=budget,
        paging_directory=tmp_path, wall_seconds=20,
    ) as step:  # fmt: skip
        assert [step(*one).item().hex() for one in some_batches(5)] == losses
        assert fingerprint(model, optimizer) == expected
        found = measure_step_peak(step, some_batches(3))
        assert found.peak_bytes <= step.judgement.peak_bytes <= budget
        plan = step.plan
    # The plan survives its document, and fits a fresh trace in another TrainStep.
    again = read_plan(canonical_json(plan_to_document(plan)))
    model, loss_fn, optimizer, batch = small()
    with TrainStep(
        model, loss_fn, optimizer, batch, plan=again, ram=budget, device="raspberry-pi-4b",
        paging_directory=tmp_path,
    ) as step:  # fmt: skip
        assert [step(*one).item().hex() for one in some_batches(5)] == losses
        with pytest.raises(PlanError) as caught:
            TrainStep(model, loss_fn, optimizer, batch, plan=again, ram=budget - 1)
        assert caught.value.code == "plan_budget_larger"


def test_a_budget_under_the_floor_is_refused_with_the_op() -> None:
    model, loss_fn, optimizer, batch = small()
    with pytest.raises(BudgetError) as caught:
        TrainStep(model, loss_fn, optimizer, batch, device="raspberry-pi-4b", ram="1KiB")
    assert caught.value.code == "ram_below_floor"
    floor = caught.value.details["floor_bytes"]
    assert isinstance(floor, int)
    assert floor > 1024


def test_a_device_alone_is_its_own_budget() -> None:
    model, loss_fn, optimizer, batch = small()
    with TrainStep(model, loss_fn, optimizer, batch, device="raspberry-pi-4b") as step:
        assert step.plan.budget.ram_bytes > 2**30
        assert step.plan.device_name == "raspberry-pi-4b"


def test_an_address_is_asked_through_the_client(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Client:
        def __init__(self, url: str) -> None:
            asked.append(url)

        def answer(self, request: PlanRequest) -> Plan:
            asked.append(request.profile.name)
            return LocalPlanner().plan(request)

    monkeypatch.setattr(poet_client, "PlannerClient", Client)
    model, loss_fn, optimizer, batch = small()
    with TrainStep(
        model, loss_fn, optimizer, batch, device="jetson-tx2", ram="1GiB",
        planner="http://127.0.0.1:9",
    ):  # fmt: skip
        assert asked == ["http://127.0.0.1:9", "jetson-tx2"]
