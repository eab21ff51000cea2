"""Gradient accumulation against eager PyTorch: after every call, every state tensor and `.grad`."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import ReplayError, UsageError
from poet_core.graph import Role
from poet_core.plan import Do
from poet_runtime import TrainStep
from poet_runtime.fingerprint import state_digests
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.interpreter import bits
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Batch,
    Build,
    batches,
    convolution,
    mlp_momentum,
    norm_and_dropout,
    paged,
    tied,
    trained,
)

CALLS = 3
BUILDS: list[Build] = [mlp_momentum, norm_and_dropout, convolution, tied]


def rmsprop() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model, loss_fn, _ = mlp_momentum()
    optimizer = torch.optim.RMSprop(model.parameters(), momentum=0.5, centered=True)
    return model, loss_fn, optimizer


def dampened() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    """Its first step takes the gradient as it is: state that exists too early would show."""
    model, loss_fn, _ = mlp_momentum()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
    return model, loss_fn, optimizer


class Eager:
    """The loop that everybody writes, one call at a time."""

    def __init__(self, build: Build, clip_norm: float | None = None) -> None:
        self.model, self.loss_fn, self.optimizer = build()
        self.clip_norm, self.calls = clip_norm, 0
        torch.manual_seed(1)
        self.generator = torch.get_rng_state()

    def __call__(self, inputs: torch.Tensor, labels: torch.Tensor) -> str:
        with torch.random.fork_rng():
            torch.set_rng_state(self.generator)
            loss = self.loss_fn(self.model(inputs), labels)
            loss.backward()
            self.generator = torch.get_rng_state()
        self.calls += 1
        if self.calls % CALLS == 0:
            if self.clip_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
        value: float = loss.item()
        return value.hex()

    def state(self) -> dict[str, str]:
        return state_digests(self.model, self.optimizer)


def gradients(model: nn.Module) -> dict[str, bytes | None]:
    return {
        name: None if parameter.grad is None else bits(parameter.grad)
        for name, parameter in model.named_parameters()
    }


@pytest.mark.parametrize("build", [*BUILDS, rmsprop], ids=lambda build: build.__name__)
@pytest.mark.parametrize("clip_norm", [None, 0.05])
def test_four_rounds_with_everything_paged(
    build: Build, clip_norm: float | None, tmp_path: Path
) -> None:
    data = batches(build, 4 * CALLS)
    options = StepOptions(accumulate=CALLS, clip_norm=clip_norm)
    step, model, optimizer = paged(build, data[0], tmp_path, options)
    eager = Eager(build, clip_norm)
    with step:
        assert trained(step, data) == [eager(*batch) for batch in data]
        assert step.steps == 4
        assert state_digests(model, optimizer) == eager.state()
        assert torch.equal(torch.get_rng_state(), eager.generator)


@pytest.mark.parametrize("build", [norm_and_dropout, tied], ids=lambda build: build.__name__)
def test_any_valid_schedule(build: Build, tmp_path: Path) -> None:
    data = batches(build, 3 * CALLS)
    program = trace(*build(), data[0], options=StepOptions(accumulate=CALLS, clip_norm=0.05))
    eager = Eager(build, 0.05)
    losses = [eager(*batch) for batch in data]
    for seed in range(4):
        model, loss_fn, optimizer = build()
        plan = hand_made_plan(program.graph, random_schedule(program.graph, seed))
        with TrainStep(
            model, loss_fn, optimizer, data[0], plan=plan, program=program,
            paging_directory=tmp_path, flash_write_bytes=2**40,
        ) as step:  # fmt: skip
            torch.manual_seed(1)
            assert trained(step, data) == losses
            assert state_digests(model, optimizer) == eager.state()


def test_only_the_last_call_moves_what_only_updates_want(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, CALLS)
    model, loss_fn, optimizer = norm_and_dropout()
    program = trace(model, loss_fn, optimizer, data[0], options=StepOptions(accumulate=CALLS))
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    roles = {storage.id: storage.role for storage in program.graph.storages}

    def moved(step: TrainStep, do: Do) -> set[Role]:
        assert step.executed is not None
        return {roles[one.target] for one in step.executed if one.do is do}

    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, log=True,
        paging_directory=tmp_path, flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        for batch in data[:-1]:
            step(*batch)
            assert Role.OPTIMIZER_STATE not in moved(step, Do.PAGE_IN)
            assert {Role.PARAMETER, Role.GRADIENT} <= moved(step, Do.PAGE_IN)
            assert not {Role.OPTIMIZER_STATE, Role.PARAMETER} & moved(step, Do.PAGE_OUT)
            assert Role.GRADIENT in moved(step, Do.PAGE_OUT)
        step(*data[-1])
        assert step.executed == list(plan.schedule.instructions)


@pytest.mark.parametrize("build", [norm_and_dropout, dampened], ids=lambda build: build.__name__)
def test_looking_after_every_call_shows_what_eager_has(build: Build, tmp_path: Path) -> None:
    data = batches(build, 3 * CALLS)
    step, model, optimizer = paged(build, data[0], tmp_path, StepOptions(accumulate=CALLS))
    eager = Eager(build)
    with step:
        for batch in data:
            assert step(*batch).item().hex() == eager(*batch)
            saved = io.BytesIO()
            torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, saved)
            saved.seek(0)
            loaded = torch.load(saved, weights_only=True)
            expected = eager.model.state_dict()
            assert {k: bits(v) for k, v in loaded["model"].items()} == {
                k: bits(v) for k, v in expected.items()
            }
            assert state_digests(model, optimizer) == eager.state()
            assert gradients(model) == gradients(eager.model)
            assert state_digests(*copy.deepcopy((model, optimizer))) == eager.state()
        assert any(value is None for value in gradients(model).values())


def test_loading_in_the_middle_of_a_round_keeps_the_gradients_as_eager_does(
    tmp_path: Path,
) -> None:
    data = batches(norm_and_dropout, 3 * CALLS)
    step, model, optimizer = paged(
        norm_and_dropout, data[0], tmp_path, StepOptions(accumulate=CALLS)
    )
    eager = Eager(norm_and_dropout)
    sides = [(model, optimizer), (eager.model, eager.optimizer)]
    saved: list[Any] = []
    with step:
        for number, batch in enumerate(data):
            assert step(*batch).item().hex() == eager(*batch)
            if number == CALLS + 1:
                saved = [copy.deepcopy((m.state_dict(), o.state_dict())) for m, o in sides]
            if number == 2 * CALLS:
                for (to_model, to_optimizer), (weights, state) in zip(sides, saved, strict=True):
                    to_model.load_state_dict(weights)
                    to_optimizer.load_state_dict(state)
        assert state_digests(model, optimizer) == eager.state()


def test_a_gradient_set_to_none_in_the_middle_counts_as_none(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 2 * CALLS)
    step, model, optimizer = paged(mlp_momentum, data[0], tmp_path, StepOptions(accumulate=CALLS))
    eager = Eager(mlp_momentum)
    with step:
        for number, batch in enumerate(data):
            assert step(*batch).item().hex() == eager(*batch)
            if number == CALLS:
                step.write_back()
                for side in (model, eager.model):
                    next(side.parameters()).grad = None
        assert state_digests(model, optimizer) == eager.state()


def test_closing_in_the_middle_hands_the_gradients_to_eager_code(tmp_path: Path) -> None:
    data: list[Batch] = batches(mlp_momentum, 2 * CALLS)
    step, model, optimizer = paged(mlp_momentum, data[0], tmp_path, StepOptions(accumulate=CALLS))
    eager = Eager(mlp_momentum)
    with step:
        for batch in data[:4]:
            assert step(*batch).item().hex() == eager(*batch)
    assert gradients(model) == gradients(eager.model)
    for inputs, labels in data[4:]:
        nn.functional.cross_entropy(model(inputs), labels).backward()
        eager(inputs, labels)
    optimizer.step()
    assert state_digests(model, optimizer) == eager.state()


def test_gradients_of_before_do_not_count(tmp_path: Path) -> None:
    data = batches(mlp_momentum, CALLS)
    step, model, optimizer = paged(mlp_momentum, data[0], tmp_path, StepOptions(accumulate=CALLS))
    eager = Eager(mlp_momentum)
    with step:
        nn.functional.cross_entropy(model(data[0][0]), data[0][1]).backward()
        assert trained(step, data) == [eager(*batch) for batch in data]
        assert state_digests(model, optimizer) == eager.state()


def test_a_checkpoint_waits_for_the_end_of_a_round(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 4 * CALLS)

    def built() -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
        model, loss_fn, optimizer = mlp_momentum()
        step = TrainStep(
            model, loss_fn, optimizer, data[0], accumulate=CALLS, paging_directory=tmp_path,
            checkpoint_path=tmp_path / "checkpoint", checkpoint_every=1,
        )  # fmt: skip
        torch.manual_seed(1)
        return step, model, optimizer

    step, _, _ = built()
    with step:
        trained(step, data[: 2 * CALLS + 1])
        with pytest.raises(UsageError) as caught:
            step.checkpoint()
        assert caught.value.code == "checkpoint_accumulating"
    step, model, optimizer = built()
    eager = Eager(mlp_momentum)
    with step:
        assert step.resume().steps == 2
        trained(step, data[2 * CALLS :])
        for batch in data:
            eager(*batch)
        assert state_digests(model, optimizer) == eager.state()


def test_a_void_call_shows_no_gradients(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 2)
    step, model, _ = paged(mlp_momentum, data[0], tmp_path, StepOptions(accumulate=CALLS))
    step(*data[0])
    assert step.running.pager is not None
    step.running.pager.close()
    with pytest.raises(ReplayError):
        step(*data[1])
    step.close()
    assert set(gradients(model).values()) == {None}


def test_rounds_of_no_calls_are_refused() -> None:
    with pytest.raises(UsageError) as caught:
        StepOptions(accumulate=0)
    assert caught.value.code == "accumulate_invalid"
