"""Models and training loops for the tests of TrainStep."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from poet_runtime import TrainStep
from poet_runtime.fingerprint import state_digests
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything

Build = Callable[[], tuple[nn.Module, Any, torch.optim.Optimizer]]
Batch = tuple[Tensor, Tensor]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Every bit that a training run leaves: losses, state tensors and the generator."""

    losses: tuple[str, ...]
    state: dict[str, str]
    generator: bytes


class TiedText(nn.Module):
    """An embedding whose weight is also the output layer's: a gradient in two parts."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(11, 6)
        self.mix = nn.Linear(6, 6)
        self.out = nn.Linear(6, 11, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.out(torch.tanh(self.mix(self.embed(tokens))).mean(1))
        return hidden


def mlp_momentum() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 32), nn.ReLU(), nn.Linear(32, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    return model, nn.functional.cross_entropy, optimizer


def norm_and_dropout() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(20, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.2),
        nn.Linear(32, 24), nn.Dropout(0.3), nn.Linear(24, 10),
    )  # fmt: skip
    return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters())


def convolution() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Unflatten(1, (1, 4, 5)), nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    return model, nn.functional.cross_entropy, torch.optim.AdamW(model.parameters(), lr=0.01)


def tied() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = TiedText()
    return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01)


def batches(build: Build, count: int, rows: int = 8) -> list[Batch]:
    generator = torch.Generator().manual_seed(5)
    labels = torch.randint(0, 10, (count, rows), generator=generator)
    if build is tied:
        inputs = torch.randint(0, 11, (count, rows, 7), generator=generator)
    else:
        inputs = torch.randn(count, rows, 20, generator=generator)
    return list(zip(inputs, labels, strict=True))


def outcome(model: nn.Module, optimizer: torch.optim.Optimizer, losses: Iterable[str]) -> Outcome:
    state = state_digests(model, optimizer)
    return Outcome(tuple(losses), state, torch.get_rng_state().numpy().tobytes())


def eager(
    build: Build,
    data: Iterable[Batch],
    after: Callable[..., None] | None = None,
    clip: Callable[[nn.Module], object] = lambda _model: None,
) -> Outcome:
    model, loss_fn, optimizer = build()
    torch.manual_seed(1)
    losses = []
    for number, (inputs, labels) in enumerate(data):
        optimizer.zero_grad()
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        clip(model)
        optimizer.step()
        losses.append(loss.item().hex())
        if after is not None:
            after(number, model, optimizer)
    return outcome(model, optimizer, losses)


def trained(step: TrainStep, data: Iterable[Batch]) -> list[str]:
    return [step(*batch).item().hex() for batch in data]


def paged(
    build: Build, batch: tuple[Any, ...], folder: Path, options: StepOptions | None = None
) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
    """A step whose every storage leaves RAM after every op: a stale copy shows in the next steps."""
    model, loss_fn, optimizer = build()
    program = trace(model, loss_fn, optimizer, batch, options=options)
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    step = TrainStep(
        model, loss_fn, optimizer, batch, plan=plan, program=program, paging_directory=folder,
        flash_write_bytes=2**40,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer
