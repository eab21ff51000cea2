"""Clipping inside the step: the bits of torch.nn.utils, wherever the gradients are in between."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from poet_core.graph import Phase
from poet_runtime import TrainStep
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, random_schedule
from tests.runtime.step_parts import (
    Build,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    paged,
    tied,
    trained,
)

STEPS = 4
BUILDS: list[Build] = [mlp_momentum, norm_and_dropout, convolution, tied]
SMALL, LARGE = 0.05, 1e6  # a norm that always clips, and one that never does


def by_norm(limit: float, model: nn.Module) -> Tensor:
    return torch.nn.utils.clip_grad_norm_(model.parameters(), limit)


def by_value(limit: float, model: nn.Module) -> None:
    torch.nn.utils.clip_grad_value_(model.parameters(), limit)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
@pytest.mark.parametrize("limit", [SMALL, LARGE])
def test_by_norm(build: Build, limit: float, tmp_path: Path) -> None:
    data = batches(build, STEPS)
    step, model, optimizer = paged(build, data[0], tmp_path, StepOptions(clip_norm=limit))
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data, clip=partial(by_norm, limit))
    assert (found == eager(build, data)) == (limit == LARGE)


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.__name__)
def test_by_value(build: Build, tmp_path: Path) -> None:
    data = batches(build, STEPS)
    step, model, optimizer = paged(build, data[0], tmp_path, StepOptions(clip_value=0.01))
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data, clip=partial(by_value, 0.01))
    assert found != eager(build, data)


def test_by_norm_where_gradients_are_computed_again(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, STEPS)
    model, loss_fn, optimizer = norm_and_dropout()
    options = StepOptions(clip_norm=SMALL)
    program = trace(model, loss_fn, optimizer, data[0], options=options)
    expected = eager(norm_and_dropout, data, clip=partial(by_norm, SMALL))
    for seed in range(3):
        model, loss_fn, optimizer = norm_and_dropout()
        plan = hand_made_plan(program.graph, random_schedule(program.graph, seed))
        with TrainStep(
            model, loss_fn, optimizer, data[0], plan=plan, program=program,
            paging_directory=tmp_path, flash_write_bytes=2**40,
        ) as step:  # fmt: skip
            torch.manual_seed(1)
            assert outcome(model, optimizer, trained(step, data)) == expected


def test_not_a_number_spreads_as_in_eager(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 2)
    data[1][0][0, 0] = torch.inf
    step, model, optimizer = paged(mlp_momentum, data[0], tmp_path, StepOptions(clip_norm=SMALL))
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(mlp_momentum, data, clip=partial(by_norm, SMALL))
    assert any(parameter.isnan().all() for parameter in model.parameters())


class Mixed(nn.Module):
    """Two types of parameters, and one gradient that two parameters have in common."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow = nn.Linear(20, 12).bfloat16()
        self.one = nn.Parameter(torch.randn(12))
        self.two = nn.Parameter(torch.randn(12))
        self.idle = nn.Parameter(torch.randn(3))
        self.last = nn.Linear(12, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        hidden = self.narrow(inputs.bfloat16()).float() + (self.one + self.two)
        result: Tensor = self.last(hidden)
        return result


def mixed() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Mixed()
    return model, nn.functional.cross_entropy, torch.optim.AdamW(model.parameters(), lr=0.1)


@pytest.mark.parametrize("options", [{"clip_norm": SMALL}, {"clip_value": 0.01}], ids=str)
def test_several_types_and_shared_gradients(options: dict[str, float], tmp_path: Path) -> None:
    data = batches(mixed, STEPS)
    step, model, optimizer = paged(mixed, data[0], tmp_path, StepOptions(**options))
    clip = partial(by_norm, SMALL) if "clip_norm" in options else partial(by_value, 0.01)
    with step:
        assert outcome(model, optimizer, trained(step, data)) == eager(mixed, data, clip=clip)


def test_updates_wait_for_the_coefficient_and_clip_in_place() -> None:
    options = StepOptions(clip_norm=1.0)
    program: Program = trace(*mlp_momentum(), batches(mlp_momentum, 1)[0], options=options)
    kinds = [op.kind for op in program.graph.ops]
    at = kinds.index("poet.clip_coefficient")
    norms = [kind for kind in kinds if "vector_norm" in kind]
    after = program.graph.ops[at + 1 :]
    assert len(norms) == 4
    assert [op.kind for op in after] == ["aten.mul_.Tensor", "poet.sgd"] * 4
    assert {op.phase for op in after} == {Phase.UPDATE}
    assert program.options == options


def test_trainstep_takes_the_options_and_a_program_keeps_its_own() -> None:
    data = batches(mlp_momentum, STEPS)
    model, loss_fn, optimizer = mlp_momentum()
    with TrainStep(model, loss_fn, optimizer, data[0], clip_norm=SMALL) as step:
        torch.manual_seed(1)
        found = outcome(model, optimizer, trained(step, data))
        program = step.program
    assert found == eager(mlp_momentum, data, clip=partial(by_norm, SMALL))
    with pytest.raises(UsageError) as caught:
        TrainStep(model, loss_fn, optimizer, data[0], program=program, clip_norm=1.0)
    assert caught.value.code == "program_options"


@pytest.mark.parametrize(
    "options",
    [{"clip_norm": 0.0}, {"clip_value": float("nan")}, {"clip_norm": 1.0, "clip_value": 1.0}],
    ids=str,
)
def test_limits_that_are_none(options: dict[str, float]) -> None:
    with pytest.raises(UsageError) as caught:
        StepOptions(**options)
    assert caught.value.code == "clip_invalid"
