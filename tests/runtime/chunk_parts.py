"""Steps whose updates are cut into chunks of 1000 bytes, for the tests of chunked updates."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poet_core.baseline import keep_everything
from poet_runtime import TrainStep
from poet_runtime.program import Owner, Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import Build, batches, mlp_momentum

CHUNK_BYTES = 1000
OPTIONS = StepOptions(split_above_bytes=0)
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "keep": keep_everything,
    "page": page_everything,
    "random": lambda graph: random_schedule(graph, 3),
}
FUSED: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd fused": lambda p: torch.optim.SGD(
        [{"params": p[:2], "lr": 0.2}, {"params": p[2:], "nesterov": True}],
        lr=0.1, momentum=0.9, weight_decay=1e-3, fused=True,
    ),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.02, fused=True),
    "adamw fused": lambda p: torch.optim.AdamW(
        [{"params": p[:1], "weight_decay": 0.3}, {"params": p[1:]}], lr=0.02, fused=True
    ),
}  # fmt: skip


class WideTiedText(nn.Module):
    """Tied weights wide enough to be cut: 24 rows of 16, in fours."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(24, 16)
        self.out = nn.Linear(16, 24, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.out(torch.tanh(self.embed(tokens)).mean(1))
        return hidden


def wide_tied() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = WideTiedText()
    return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01)


def fused(name: str) -> Build:
    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        return model, loss_fn, FUSED[name](list(model.parameters()))

    return build


def data_for(build: Build, count: int) -> list[tuple[Tensor, Tensor]]:
    if build is not wide_tied:
        return batches(build, count)
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 24, (count, 8, 7), generator=generator)
    return list(zip(tokens, torch.randint(0, 24, (count, 8), generator=generator), strict=True))


def stepping(
    build: Build, folder: Path, kind: str, options: StepOptions = OPTIONS, **more: Any
) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
    model, loss_fn, optimizer = build()
    example = data_for(build, 1)[0]
    program = trace(model, loss_fn, optimizer, example, options=options)
    plan = hand_made_plan(program.graph, SCHEDULES[kind](program.graph))
    step = TrainStep(
        model, loss_fn, optimizer, example, plan=plan, program=program, paging_directory=folder,
        flash_write_bytes=2**40, **more,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


def parts_of(program: Program) -> dict[str, list[tuple[int, int] | None]]:
    found: dict[str, list[tuple[int, int] | None]] = {}
    for binding in program.bindings:
        if binding.owner is Owner.OPTIMIZER:
            found.setdefault(f"{binding.name}.{binding.state_key}", []).append(binding.part)
    return found
