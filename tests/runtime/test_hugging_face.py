"""Hugging Face models from random configurations: traced, planned, and replayed to eager's bits."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_runtime import TrainStep
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.hugging_face_parts import KINDS, Batch
from tests.runtime.replay_parts import hand_made_plan, page_everything
from tests.runtime.step_parts import Outcome, outcome

transformers = pytest.importorskip(
    "transformers", reason="Hugging Face transformers is not installed: pip install transformers"
)

STEPS = 3
CLIP_NORM = 0.5


def made(kind: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = KINDS[kind].model(transformers).train()
    decayed = [p for p in model.parameters() if p.dim() > 1]
    rest = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    return model, torch.optim.AdamW(groups, lr=1e-3)


@cache
def data(kind: str) -> list[Batch]:
    generator = torch.Generator().manual_seed(3)
    return [KINDS[kind].batch(generator) for _ in range(STEPS)]


def eager(kind: str, around: Callable[[], Any] = nullcontext, clip: float | None = None) -> Outcome:
    model, optimizer = made(kind)
    torch.manual_seed(1)
    losses = []
    for batch in data(kind):
        optimizer.zero_grad()
        with around():
            loss = model(**batch).loss
        loss.backward()
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        losses.append(loss.item().hex())
    return outcome(model, optimizer, losses)


def replayed(kind: str, program: Program, folder: Path, **options: Any) -> tuple[Outcome, int]:
    """What the steps leave, and the peak that the judge found."""
    model, optimizer = made(kind)
    with TrainStep(
        model, None, optimizer, data(kind)[0], program=program, paging_directory=folder, **options
    ) as step:
        torch.manual_seed(1)
        losses = [step(batch).item().hex() for batch in data(kind)]
        return outcome(model, optimizer, losses), step.judgement.peak_bytes


@pytest.mark.parametrize("kind", KINDS)
def test_at_60_percent_of_keep_everything(kind: str, tmp_path: Path) -> None:
    model, optimizer = made(kind)
    program = trace(model, None, optimizer, data(kind)[0])
    expected = eager(kind)
    kept, keep_bytes = replayed(kind, program, tmp_path)
    assert kept == expected
    budget = keep_bytes * 60 // 100
    found, peak_bytes = replayed(
        kind, program, tmp_path, device="raspberry-pi-4b", ram=budget, wall_seconds=2
    )
    assert peak_bytes <= budget
    assert found == expected


@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_and_clipped_with_everything_paged(kind: str, tmp_path: Path) -> None:
    model, optimizer = made(kind)
    options = StepOptions(autocast=torch.bfloat16, clip_norm=CLIP_NORM)
    program = trace(model, None, optimizer, data(kind)[0], options=options)
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    found, _ = replayed(kind, program, tmp_path, plan=plan, flash_write_bytes=2**40)

    def around() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    assert found == eager(kind, around, CLIP_NORM)
    assert found != eager(kind, around)
