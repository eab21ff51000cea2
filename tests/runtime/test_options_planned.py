"""Options under a budget: planned by a planner, the peak measured from the allocator's own events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_runtime import TrainStep
from poet_runtime.fingerprint import state_digests
from poet_runtime.memory.measured_peak import measure_step_peak

ROWS, WIDTH = 32, 48
CASES: dict[str, dict[str, Any]] = {
    "clip_norm": {"clip_norm": 0.1},
    "clip_value": {"clip_value": 0.001},
    "accumulate": {"accumulate": 2},
    "accumulate, clip_norm": {"accumulate": 2, "clip_norm": 0.1},
    "autocast": {"autocast": torch.bfloat16},
}


def setting() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    layers = [
        layer
        for _ in range(3)
        for layer in (nn.Linear(WIDTH, WIDTH), nn.LayerNorm(WIDTH), nn.GELU(), nn.Dropout(0.15))
    ]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 10))
    optimizer = torch.optim.RMSprop(model.parameters(), lr=1e-3, momentum=0.9)
    return model, nn.functional.cross_entropy, optimizer


def some_batches(count: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(count, ROWS, WIDTH, generator=generator)
    labels = torch.randint(0, 10, (count, ROWS), generator=generator)
    return list(zip(inputs, labels, strict=True))


@pytest.mark.parametrize("name", CASES)
def test_planned_at_70_percent_the_peak_holds_and_the_bits_agree(name: str, tmp_path: Path) -> None:
    data = some_batches(6)
    model, loss_fn, optimizer = setting()
    with TrainStep(model, loss_fn, optimizer, data[0], **CASES[name]) as kept:
        torch.manual_seed(1)
        losses = [kept(*batch).item().hex() for batch in data]
        expected, keep_bytes = state_digests(model, optimizer), kept.judgement.peak_bytes
    model, loss_fn, optimizer = setting()
    with TrainStep(
        model, loss_fn, optimizer, data[0], device="raspberry-pi-4b", ram=keep_bytes * 7 // 10,
        wall_seconds=1, paging_directory=tmp_path, **CASES[name],
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        assert [step(*batch).item().hex() for batch in data] == losses
        assert state_digests(model, optimizer) == expected
        measured = measure_step_peak(step, some_batches(4))
        assert measured.peak_bytes <= step.judgement.peak_bytes <= keep_bytes * 7 // 10
