"""TrainStep with a planner at an address: a real service in another process answers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from examples.demo_parts import planning_service
from poet_core.errors import BudgetError, PoetError
from poet_runtime import TrainStep
from poet_runtime.fingerprint import fingerprint

_RAM = "300KiB"


def _joint() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.Linear(128, 4))
    return model, torch.optim.Adam(model.parameters(), lr=1e-3)


def _batches() -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    return [
        (
            torch.randn(32, 64, generator=generator),
            torch.randint(0, 4, (32,), generator=generator),
        )
        for _ in range(4)
    ]


def test_a_plan_from_a_service_trains_to_eagers_bits() -> None:
    batches = _batches()
    model, optimizer = _joint()
    for inputs, target in batches:
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(nn.functional.cross_entropy(model(inputs), target))
        optimizer.step()
    expected = fingerprint(model, optimizer)

    model, optimizer = _joint()
    with planning_service(None) as server:
        step = TrainStep(
            model,
            nn.functional.cross_entropy,
            optimizer,
            batches[0],
            device="raspberry-pi-4b",
            ram=_RAM,
            planner=server,
        )
        with pytest.raises(PoetError) as refused:
            TrainStep(
                *(model, nn.functional.cross_entropy, optimizer, batches[0]),
                device="raspberry-pi-4b",
                ram="100KiB",
                planner=server,
            )
        assert refused.value.code == "ram_below_floor"
        assert isinstance(refused.value, BudgetError)
    with step:
        assert step.judgement.flash_bytes_written > 0
        for inputs, target in batches:
            step(inputs, target)
    assert fingerprint(model, optimizer) == expected
