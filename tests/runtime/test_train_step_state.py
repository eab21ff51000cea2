"""Whose value is where: parking, looking, loading, evaluating and two steps on one model."""

from __future__ import annotations

import copy
import gc
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.errors import ReplayError, UsageError
from poet_runtime import TrainStep
from poet_runtime.fingerprint import fingerprint, state_digests
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything
from tests.runtime.step_parts import (
    Batch,
    Build,
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    trained,
)

DATA = batches(norm_and_dropout, 6)


def paged_step(
    folder: Path, build: Build = norm_and_dropout, example: Batch = DATA[0]
) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
    """A step that parks everything on flash."""
    model, loss_fn, optimizer = build()
    program = trace(model, loss_fn, optimizer, example)
    step = TrainStep(
        model, loss_fn, optimizer, example, program=program, paging_directory=folder,
        plan=hand_made_plan(program.graph, page_everything(program.graph)),
        flash_write_bytes=2**40,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_between_steps_parked_tensors_are_empty_and_take_no_memory(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    with step:
        step(*DATA[0])
        assert {tuple(p.shape) for p in model.parameters()} == {(0,)}
        states = [s["exp_avg"] for s in optimizer.state.values()]
        assert {s.untyped_storage().nbytes() for s in states} == {0}


@pytest.mark.parametrize(
    "look",
    [
        lambda model, optimizer: model.state_dict(),
        lambda model, optimizer: optimizer.state_dict(),
        lambda model, optimizer: model[4].state_dict(),
        lambda model, optimizer: model.eval()(DATA[0][0]),
        lambda model, optimizer: model[4](torch.randn(2, 32)),
    ],
    ids=["model", "optimizer", "part", "call", "call of a part"],
)
def test_looking_brings_true_values_back(
    tmp_path: Path, look: Callable[[Any, Any], object]
) -> None:
    expected = eager(norm_and_dropout, DATA[:3]).state
    step, model, optimizer = paged_step(tmp_path)
    with step:
        trained(step, DATA[:3])
        look(model, optimizer)
        assert model[0].weight.shape == (32, 20)
        assert state_digests(model, optimizer) == expected


def test_steps_after_a_look_go_on_from_the_true_values(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    with step:
        losses = trained(step, DATA[:2])
        model.state_dict()
        losses += trained(step, DATA[2:4])
        fingerprint(model, optimizer)
        losses += trained(step, DATA[4:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA)


def test_what_the_user_changes_between_steps_counts(tmp_path: Path) -> None:
    def scale(number: int, model: Any, _optimizer: torch.optim.Optimizer) -> None:
        if number == 2:
            model.load_state_dict({k: v * 2 for k, v in model.state_dict().items()})

    step, model, optimizer = paged_step(tmp_path)
    with step:
        losses = []
        for number, batch in enumerate(DATA):
            losses += trained(step, [batch])
            scale(number, model, optimizer)
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA, after=scale)


def test_a_checkpoint_of_the_optimizer_can_be_loaded_in_mid_training(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    with step:
        trained(step, DATA[:2])
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        generator = torch.get_rng_state()
        first = trained(step, DATA[2:])
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        torch.set_rng_state(generator)
        assert trained(step, DATA[2:]) == first
        states = optimizer.state_dict()["state"].values()
        assert {state["step"].item() for state in states} == {6.0}


def test_step_counts_are_what_torch_makes_them(tmp_path: Path) -> None:
    step, _, optimizer = paged_step(tmp_path)
    with step:
        trained(step, DATA[:3])
        step.write_back()
        counts = [state["step"] for state in optimizer.state.values()]
    assert all(count.dtype == torch.float32 and count.item() == 3 for count in counts)


def test_eager_steps_and_planned_steps_may_alternate(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    losses = []
    with step:
        for number, (inputs, labels) in enumerate(DATA):
            if number % 2:
                losses += trained(step, [(inputs, labels)])
                continue
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(inputs), labels)
            loss.backward()
            optimizer.step()
            losses.append(loss.item().hex())
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA)


def test_two_steps_for_two_batch_sizes_share_one_model(tmp_path: Path) -> None:
    small = batches(norm_and_dropout, 6, rows=3)
    mixed = [pair[number % 2] for number, pair in enumerate(zip(DATA, small, strict=True))]
    step, model, optimizer = paged_step(tmp_path)
    loss_fn = nn.functional.cross_entropy
    program = trace(model, loss_fn, optimizer, small[0])
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    with step, TrainStep(
        model, loss_fn, optimizer, small[0], program=program, plan=plan,
        paging_directory=tmp_path, flash_write_bytes=2**40,
    ) as other:  # fmt: skip
        losses = []
        for number, batch in enumerate(mixed):
            losses += trained((step, other)[number % 2], [batch])
        found = outcome(model, optimizer, losses)
    assert found == eager(norm_and_dropout, mixed)


def test_close_leaves_true_values_no_hooks_no_thread_no_file(tmp_path: Path) -> None:
    before = open_files(), threading.active_count()
    step, model, optimizer = paged_step(tmp_path)
    trained(step, DATA[:3])
    step.close()
    step.close()
    assert (open_files(), threading.active_count()) == before
    assert not list(tmp_path.iterdir())
    assert not any(m._forward_pre_hooks or m._state_dict_pre_hooks for m in model.modules())
    assert state_digests(model, optimizer) == eager(norm_and_dropout, DATA[:3]).state
    with pytest.raises(ReplayError) as caught:
        step(*DATA[0])
    assert caught.value.code == "step_closed"


def test_the_values_outlive_a_step_that_nobody_holds(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    trained(step, DATA[:3])
    del step
    gc.collect()
    assert state_digests(model, optimizer) == eager(norm_and_dropout, DATA[:3]).state


def saved_and_loaded(value: Any) -> Any:
    file = io.BytesIO()
    torch.save(value, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda value: pickle.loads(pickle.dumps(value)),
    "torch.save": saved_and_loaded,
}


@pytest.mark.parametrize("kind", COPIES)
def test_a_copy_has_true_values_and_no_step(kind: str, tmp_path: Path) -> None:
    expected, whole = eager(norm_and_dropout, DATA[:3]).state, eager(norm_and_dropout, DATA)
    step, model, optimizer = paged_step(tmp_path)
    with step:
        trained(step, DATA[:3])
        copied, copied_optimizer = COPIES[kind]((model, optimizer))
        part = COPIES[kind](model[4])
        losses = trained(step, DATA[3:])
        assert state_digests(copied, copied_optimizer) == expected
        copied(DATA[0][0])
        assert model[4].weight.numel() == 0
        assert part.weight.shape == (24, 32)
        trained_alone(copied, copied_optimizer, DATA[3])
        assert tuple(losses) == whole.losses[3:]
        assert state_digests(model, optimizer) == whole.state
    for module in (*model.modules(), *copied.modules(), optimizer):
        assert "__reduce_ex__" not in vars(module)


def trained_alone(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch) -> None:
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(batch[0]), batch[1]).backward()
    optimizer.step()


def test_a_copy_of_a_model_of_two_steps_has_what_either_has_parked(tmp_path: Path) -> None:
    first, model, optimizer = paged_step(tmp_path)
    program = trace(model, nn.functional.cross_entropy, optimizer, DATA[0])
    second = TrainStep(
        model, nn.functional.cross_entropy, optimizer, DATA[0], program=program,
        plan=hand_made_plan(program.graph, page_everything(program.graph)),
        paging_directory=tmp_path, flash_write_bytes=2**40,
    )  # fmt: skip
    torch.manual_seed(1)
    for number, step in enumerate((first, second, first)):
        trained(step, [DATA[number]])
        with torch.random.fork_rng():
            expected = eager(norm_and_dropout, DATA[: number + 1])
        assert state_digests(*copy.deepcopy((model, optimizer))) == expected.state
    first.close()  # not the one that came last
    trained(second, [DATA[3]])
    assert state_digests(*copy.deepcopy((model, optimizer))) == (
        eager(norm_and_dropout, DATA[:4]).state
    )
    second.close()
    assert "__reduce_ex__" not in vars(model)


def test_donated_batches_are_taken_over(tmp_path: Path) -> None:
    step, model, optimizer = paged_step(tmp_path)
    with step:
        losses = []
        for inputs, labels in DATA:
            mine = inputs.clone(), labels.clone()
            losses.append(step(*mine, donate=True).item().hex())
            assert mine[0].numel() == mine[1].numel() == 0
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA)


def test_donating_part_of_a_larger_tensor_leaves_the_rest(tmp_path: Path) -> None:
    step, _, _ = paged_step(tmp_path)
    whole = torch.randn(16, 20)
    kept = whole.clone()
    with step:
        step(whole[:8], DATA[0][1].clone(), donate=True)
    assert torch.equal(whole, kept)


@pytest.mark.parametrize(
    "batch",
    [
        (DATA[0][0][:4], DATA[0][1][:4]),
        (DATA[0][0].double(), DATA[0][1]),
        (DATA[0][0],),
        (DATA[0][0], DATA[0][1], None),
        (DATA[0][0], 3),
        ([DATA[0][0]], DATA[0][1]),
    ],
)
def test_another_batch_is_refused_before_anything_happens(
    tmp_path: Path, batch: tuple[Any, ...]
) -> None:
    step, model, optimizer = paged_step(tmp_path)
    with step:
        losses = trained(step, DATA[:2])
        with pytest.raises(UsageError) as caught:
            step(*batch)
        assert caught.value.code == "batch_mismatch"
        losses += trained(step, DATA[2:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA)


def test_a_changed_model_is_refused_before_anything_happens(tmp_path: Path) -> None:
    step, model, _ = paged_step(tmp_path)
    assert isinstance(model, nn.Sequential)
    with step:
        step(*DATA[0])
        step.write_back()
        weight = model[0].weight.data
        model[0].weight.data = weight.double()
        with pytest.raises(ReplayError, match=r"0\.weight") as caught:
            step(*DATA[1])
        assert caught.value.code == "state_changed"
        model[0].weight.data = weight
        step(*DATA[1])


def test_a_parameter_that_lies_elsewhere_is_moved_not_refused() -> None:
    data = batches(mlp_momentum, 4)
    model, loss_fn, optimizer = mlp_momentum()
    assert isinstance(model, nn.Sequential)
    with TrainStep(model, loss_fn, optimizer, data[0]) as step:
        torch.manual_seed(1)
        losses = trained(step, data[:2])
        step.write_back()
        weight = model[0].weight
        padded = torch.zeros(64, 40)
        padded[:32, :20] = weight.data
        weight.data = padded[:32, :20]
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(mlp_momentum, data)


def test_gradients_of_eager_code_do_not_stay_in_memory(tmp_path: Path) -> None:
    step, model, _ = paged_step(tmp_path)
    with step:
        nn.functional.cross_entropy(model(DATA[0][0]), DATA[0][1]).backward()
        step(*DATA[0])
        assert all(parameter.grad is None for parameter in model.parameters())


def test_looking_before_the_first_step_makes_no_optimizer_state(tmp_path: Path) -> None:
    def dampened() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, dampening=0.5)
        return model, loss_fn, optimizer

    data = batches(mlp_momentum, 3)
    step, model, optimizer = paged_step(tmp_path, dampened, data[0])
    with step:
        step.park()
        assert not optimizer.state_dict()["state"]
        assert outcome(model, optimizer, trained(step, data)) == eager(dampened, data)


def test_a_fault_before_the_optimizers_state_exists_leaves_none(tmp_path: Path) -> None:
    step, _, optimizer = paged_step(tmp_path)
    assert step.running.pager is not None
    step.running.pager.close()
    with pytest.raises(ReplayError):
        step(*DATA[0])
    step.close()
    assert not any(state for state in optimizer.state.values())
