"""On a GPU: the same bits as eager there, inside the plan, by both tiers. To be run as it is.

Nothing here has run yet where this was written: what can be shown without a GPU is in test_devices
and test_second_tier. Deterministic kernels, the optimizers' loop over single tensors (foreach=False:
their kernels for many tensors at once may round otherwise), and PyTorch's own batch normalisation
(cuDNN's is another kernel than the one that is traced).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from examples import bert
from poet_core.errors import TraceError
from poet_runtime import TrainStep
from poet_runtime.flash.cuda_streams import CudaPageLock, CudaStreams
from poet_runtime.flash.host_memory import HostMemoryTier
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.stream_pager import StreamPager
from poet_runtime.torch_device import generator_of, generator_state_bytes
from poet_runtime.tracing.cuda_measure import CudaTimer, cuda_peak, measure_step_on_cuda
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Batch,
    Build,
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    tied,
    trained,
)

pytestmark = [pytest.mark.gpu, pytest.mark.alone]
MIB = 2**20
HOST, NVME = FlashOptions(tier="host"), FlashOptions()


@pytest.fixture(autouse=True)
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    if "CUBLAS_WORKSPACE_CONFIG" not in os.environ:  # read when cuBLAS begins
        monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    with torch.backends.cudnn.flags(enabled=False, deterministic=True):
        yield
    torch.use_deterministic_algorithms(False)


def cuda() -> torch.device:
    return torch.device("cuda", torch.cuda.current_device())


def there(build: Build) -> Build:
    """The same model with the same weights, on the GPU."""

    def built() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, optimizer = build()
        model.to(cuda())
        for group in optimizer.param_groups:
            if not group.get("fused"):
                group["foreach"] = False
        return model, loss_fn, optimizer

    return built


def fused_adam() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model, loss_fn, _ = mlp_momentum()
    model.to(cuda())  # fused kernels are chosen by where the parameters are
    return model, loss_fn, torch.optim.Adam(model.parameters(), fused=True)


def tiny_bert() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model, loss_fn, optimizer, _ = bert.step_tiny()
    return model, loss_fn, optimizer


def data_for(build: Build, count: int) -> list[Batch]:
    if build is tiny_bert:
        made = [
            bert.step(batch_size=2, length=16, shape=bert.TINY, seed=k)[3] for k in range(count)
        ]
        return [(tokens.to(cuda()), target.to(cuda())) for tokens, target in made]
    return [(one.to(cuda()), other.to(cuda())) for one, other in batches(build, count)]


def make(
    folder: Path, build: Build, flash: FlashOptions, seed: int = -1, **options: Any
) -> tuple[TrainStep, Any, torch.optim.Optimizer]:
    model, loss_fn, optimizer = there(build)()
    example = data_for(build, 1)[0]
    program = trace(model, loss_fn, optimizer, example)
    graph = program.graph
    schedule = random_schedule(graph, seed) if seed >= 0 else page_everything(graph)
    step = TrainStep(
        model, loss_fn, optimizer, example, plan=hand_made_plan(graph, schedule), program=program,
        flash_write_bytes=2**40, paging_directory=folder, flash=flash, **options,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


@pytest.mark.parametrize("flash", [HOST, NVME], ids=["host", "nvme"])
@pytest.mark.parametrize(
    ("build", "seed"),
    [
        *((build, k) for build in (mlp_momentum, norm_and_dropout, tied) for k in (-1, 0, 1)),
        (fused_adam, -1),
        (tiny_bert, -1),
    ],
)
def test_the_same_bits_as_eager_on_the_same_gpu(
    tmp_path: Path, build: Build, flash: FlashOptions, seed: int
) -> None:
    data = data_for(build, 3)
    step, model, optimizer = make(tmp_path, build, flash, seed)
    with step:
        losses = trained(step, data)
        found = outcome(model, optimizer, losses)
    state = torch.cuda.get_rng_state(cuda())
    assert found == eager(there(build), data)
    assert torch.equal(state, torch.cuda.get_rng_state(cuda()))


@pytest.mark.parametrize("flash", [HOST, NVME], ids=["host", "nvme"])
def test_the_measured_peak_is_inside_the_plan(tmp_path: Path, flash: FlashOptions) -> None:
    data = data_for(tiny_bert, 3)
    step, _, _ = make(tmp_path, tiny_bert, flash)
    with step:
        trained(step, data[:1])
        peak = measure_step_on_cuda(step, data)
        assert 0 < peak.requested_bytes <= peak.planned_bytes, peak.line()
        assert peak.requested_bytes <= peak.given_bytes <= peak.reserved_bytes


def test_a_plan_is_made_for_this_gpu(tmp_path: Path) -> None:
    data = data_for(tiny_bert, 3)
    model, loss_fn, optimizer = there(tiny_bert)()
    kept = TrainStep(model, loss_fn, optimizer, data[0])
    everything = kept.judgement.peak_bytes
    kept.close()
    model, loss_fn, optimizer = there(tiny_bert)()
    with TrainStep(
        model, loss_fn, optimizer, data[0], ram=everything * 7 // 10, paging_directory=tmp_path,
        flash=HOST, wall_seconds=5.0,
    ) as step:  # fmt: skip
        assert step.plan.device_name == "cuda"
        assert step.plan.budget.alignment_bytes == 512
        torch.manual_seed(1)
        losses = trained(step, data)
        peak = measure_step_on_cuda(step, ())
        assert peak.requested_bytes <= everything * 7 // 10
        found = outcome(model, optimizer, losses)
    assert found == eager(there(tiny_bert), data)


@pytest.mark.parametrize("flash", [HOST, NVME], ids=["host", "nvme"])
def test_resumed_from_a_checkpoint_to_the_same_bits(tmp_path: Path, flash: FlashOptions) -> None:
    data = data_for(norm_and_dropout, 5)
    path = {"checkpoint_path": tmp_path / "run"}
    step, _, _ = make(tmp_path, norm_and_dropout, flash, checkpoint_every=2, **path)
    losses = trained(step, data[:3])
    step.running.validity.void = "killed"
    step.close()
    step, model, optimizer = make(tmp_path, norm_and_dropout, flash, **path)
    with step:
        assert step.resume().steps == 2
        losses = losses[:2] + trained(step, data[2:])
        found = outcome(model, optimizer, losses)
    assert found == eager(there(norm_and_dropout), data)


def test_a_model_and_a_batch_on_different_devices_are_refused() -> None:
    model, loss_fn, optimizer = there(mlp_momentum)()
    with pytest.raises(TraceError) as caught:
        trace(model, loss_fn, optimizer, batches(mlp_momentum, 1)[0])
    assert caught.value.code == "devices_mixed"


def test_the_generators_state_has_the_bytes_that_plans_count() -> None:
    generator = generator_of(cuda())
    assert generator.get_state().nbytes == generator_state_bytes(cuda())
    before = generator.get_state()
    first = torch.rand(10, device=cuda())
    generator.set_state(before)
    assert torch.equal(torch.rand(10, device=cuda()), first)


def test_locked_pages_are_locked_and_given_back() -> None:
    tier = HostMemoryTier(MIB, CudaPageLock())
    assert tier.pool.is_pinned()
    tier.end()
    assert not tier.pool.is_pinned()


def slowly(action: Callable[[], object]) -> None:
    """What `action` issues happens long after it has been issued."""
    torch.cuda._sleep(200_000_000)
    action()


def test_copies_wait_for_the_program_and_the_program_for_copies() -> None:
    """Whatever the order in which the two streams would like to run."""
    pager = StreamPager(64 * MIB, CudaStreams(cuda()), HOST, CudaPageLock())
    value = torch.zeros(8 * MIB, device=cuda())
    slowly(partial(value.fill_, 3.0))  # still to come when the copy is issued
    pager.wait(pager.page_out(0, 0, value))
    value.fill_(5.0)  # after the copy, not during it
    del value
    other = torch.full((8 * MIB,), 7.0, device=cuda())  # perhaps in the same memory
    back = torch.empty(8 * MIB, device=cuda())
    slowly(partial(back.fill_, 9.0))  # the page-in comes after it
    pager.wait(pager.page_in(0, 0, back))
    total = back.sum()  # issued at once, computed when the copy is there
    assert total.item() == 3.0 * 8 * MIB
    assert other.sum().item() == 7.0 * 8 * MIB
    pager.close()


def test_workspace_and_seconds_are_the_gpus() -> None:
    values = torch.rand(4 * MIB, device=cuda())

    def call() -> torch.Tensor:
        return values.mul(2.0).add(1.0)  # the product lives while the sum is made

    call()
    assert cuda_peak(call, cuda()) == 2 * values.nbytes
    assert 0 < CudaTimer(cuda()).seconds(call) < 1
