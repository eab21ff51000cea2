"""Steps on a device that is not the CPU, as far as a machine without one can show it.

Traced: on a stand-in for a GPU, in a process of its own. Trained: on the CPU, with the pagers of a
GPU on streams that copy as late as the rules allow.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.baseline import keep_everything
from poet_core.device import DeviceProfile
from poet_core.devices import load_device
from poet_core.errors import ReplayError, TraceError
from poet_core.graph import Phase
from poet_core.plan import Do, Instruction, Objective
from poet_core.plan_request import PlanRequest
from poet_runtime import TrainStep
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging import Paging
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.reach import Staged
from poet_runtime.flash.stream_pager import StreamPager
from poet_runtime.isolated.program import program_to_document
from poet_runtime.memory.measured_peak import measure_step_peak
from poet_runtime.plan_source import PlanSource
from poet_runtime.program import DEVICE_CONDITION, TensorSpec
from poet_runtime.replaying import running_step
from poet_runtime.torch_device import (
    CPU,
    device_of,
    devices_mixed,
    generator_of,
    generator_state_bytes,
    host_pieces,
    machine_of,
    without_autocast,
)
from poet_runtime.tracing.cuda_measure import CudaPeak, peak_between
from poet_runtime.tracing.drafts import Draft
from poet_runtime.tracing.measure import Measurer
from poet_runtime.tracing.trace import trace
from tests.runtime import stand_in_gpu
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Build,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    tied,
    trained,
)
from tests.runtime.stream_parts import LateStreams

HOST = FlashOptions(tier="host", allow_ram=True)
Open = Callable[..., Paging]


@pytest.fixture(scope="module")
def elsewhere() -> Any:
    """What stand_in_gpu found out."""
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-W", "error", "-m", stand_in_gpu.__name__]
    # Through the root, as the tests themselves: the module is in no package.
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    "build", [build.__name__ for build in (mlp_momentum, norm_and_dropout, convolution, tied)]
)
def test_a_trace_on_a_device_is_the_cpus_with_another_device(elsewhere: Any, build: str) -> None:
    there, here = elsewhere["traces"][build]
    assert there["ops"] == here["ops"]
    assert there["storages"] == here["storages"]
    assert (there["device"], here["device"]) == ("standin:0", "cpu")
    assert (there["constants"], here["constants"]) == (["standin:0"], ["cpu"])
    random = build == "norm_and_dropout"
    assert there["rng_state_bytes"] == (2 * 16 if random else 0)
    assert here["rng_state_bytes"] == (2 * torch.get_rng_state().nbytes if random else 0)
    assert there["split"] is None  # parts are exact on the CPU's kernels; so they stay off


@pytest.mark.parametrize("build", ["mlp_momentum", "convolution", "tied"])
def test_what_was_traced_there_is_the_right_step(elsewhere: Any, build: str) -> None:
    assert elsewhere["same_bits"][build]


def test_mixed_and_unsupported_devices_are_refused_by_name(elsewhere: Any) -> None:
    assert elsewhere["mixed"].startswith("devices_mixed: ")
    assert "parameter 0.weight on standin:0" in elsewhere["mixed"]
    assert "tensor 0 of the batch on cpu" in elsewhere["mixed"]
    assert elsewhere["elsewhere"].startswith("devices_mixed: ")
    assert "arange on cpu" in elsewhere["elsewhere"]
    assert elsewhere["unsupported"].startswith("device_unsupported: ")


def in_memory(*_: Any, **__: Any) -> Paging:
    raise AssertionError("never replaced")


def by_streams(size_bytes: int, *_: Any) -> Paging:
    return StreamPager(size_bytes, LateStreams(), FlashOptions(tier="host"))


def staged(size_bytes: int, directory: Path, options: FlashOptions, _: torch.device) -> Paging:
    return Pager(size_bytes, directory, options, reach=Staged(LateStreams()))


WAYS: list[Open] = [in_memory, by_streams, staged]


@pytest.fixture(params=WAYS)
def flash(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FlashOptions:
    """Every TrainStep pages so; the options that go with it."""
    if request.param is in_memory:
        return HOST
    monkeypatch.setattr(running_step, "open_paging", request.param)
    return FlashOptions()


def make(
    folder: Path, build: Build, flash: FlashOptions, seed: int = -1, **options: Any
) -> tuple[TrainStep, Any, torch.optim.Optimizer]:
    model, loss_fn, optimizer = build()
    example = batches(build, 1)[0]
    program = trace(model, loss_fn, optimizer, example)
    graph = program.graph
    schedule = random_schedule(graph, seed) if seed >= 0 else page_everything(graph)
    step = TrainStep(
        model, loss_fn, optimizer, example, plan=hand_made_plan(graph, schedule), program=program,
        flash_write_bytes=2**40, paging_directory=folder, flash=flash, **options,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


@pytest.mark.parametrize("seed", [-1, 0, 1])
@pytest.mark.parametrize("build", [norm_and_dropout, tied])
def test_the_same_bits_by_every_way(
    tmp_path: Path, flash: FlashOptions, build: Build, seed: int
) -> None:
    data = batches(build, 3)
    step, model, optimizer = make(tmp_path, build, flash, seed)
    with step:
        losses = trained(step, data)
        found = outcome(model, optimizer, losses)
    assert found == eager(build, data)


def test_memory_follows_the_program_whatever_the_copies_do(
    tmp_path: Path, flash: FlashOptions
) -> None:
    data = batches(mlp_momentum, 3)
    step, _, _ = make(tmp_path, mlp_momentum, flash)
    with step:
        trained(step, data[:1])
        measured = measure_step_peak(step, data)
        # Storages are rounded up to the alignment in the plan, and not in the events.
        assert measured.peak_bytes <= step.judgement.peak_bytes
        assert measured.peak_bytes >= 0.9 * step.judgement.peak_bytes


def test_checkpoints_are_streamed_from_every_tier(tmp_path: Path, flash: FlashOptions) -> None:
    data = batches(norm_and_dropout, 5)
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
    assert found == eager(norm_and_dropout, data)


def test_after_an_op_that_fails_no_copy_touches_what_is_given_back(
    tmp_path: Path, flash: FlashOptions
) -> None:
    """Late streams say so at the end, where a copy's memory is gone by then."""
    data = batches(mlp_momentum, 1)
    model, loss_fn, optimizer = mlp_momentum()
    program = trace(model, loss_fn, optimizer, data[0])
    kept = keep_everything(program.graph)
    place = kept.instructions.index(Instruction(Do.COMPUTE, 6))
    out = Instruction(Do.PAGE_OUT, 0)  # under way when the next op fails
    instructions = (*kept.instructions[:place], out, *kept.instructions[place:])
    plan = hand_made_plan(program.graph, replace(kept, instructions=instructions))

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("kernel gave up")

    calls = list(program.calls)
    calls[6] = replace(calls[6], function=fail)
    step = TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=replace(program, calls=tuple(calls)),
        flash_write_bytes=2**40, paging_directory=tmp_path, flash=flash,
    )  # fmt: skip
    with pytest.raises(ReplayError, match="kernel gave up"):
        step(*data[0])
    pager = step.running.pager
    if isinstance(pager, StreamPager):
        streams: Any = pager._streams
        assert streams.done == streams.issued == 1
    step.close()


def test_a_step_on_a_device_does_not_travel() -> None:
    program = trace(*mlp_momentum(), batches(mlp_momentum, 1)[0])
    program_to_document(program)
    conditions = {**program.graph.conditions, DEVICE_CONDITION: "cuda:1"}
    there = replace(program, graph=replace(program.graph, conditions=conditions))
    assert there.device == torch.device("cuda", 1)
    with pytest.raises(ReplayError, match="cuda:1") as caught:
        program_to_document(there)
    assert caught.value.code == "step_not_portable"


def on_meta(*args: Any) -> Any:
    """What addmm gives, on another device than its arguments."""
    return torch.ops.aten.addmm.default(*args).to("meta")


def test_an_op_that_answers_from_another_device_is_refused(tmp_path: Path) -> None:
    """As fused attention does with its seeds, where its shape function says otherwise."""
    values = TensorSpec(storage=0, dtype=torch.float32, size=(2, 2), stride=(2, 1))
    draft = Draft(
        name="op", kind="aten.addmm.default", phase=Phase.FORWARD, function=on_meta,
        args=(values, values, values), outputs=(replace(values, storage=1),),
    )  # fmt: skip
    with pytest.raises(TraceError, match=r"an output of op .* on meta") as caught:
        Measurer([16, 16]).measure(draft)
    assert caught.value.code == "devices_mixed"
    model, loss_fn, optimizer = mlp_momentum()
    data = batches(mlp_momentum, 1)
    program = trace(model, loss_fn, optimizer, data[0])
    calls = (replace(program.calls[0], function=on_meta), *program.calls[1:])
    step = TrainStep(
        model, loss_fn, optimizer, data[0], program=replace(program, calls=calls),
        paging_directory=tmp_path,
    )  # fmt: skip
    with pytest.raises(ReplayError, match="a tensor on meta; the trace says one on cpu"):
        step(*data[0])
    step.close()


class Asked(Exception):
    """What a planner was asked for."""


def asked(machine: str, **options: Any) -> DeviceProfile:
    class Asks:
        def plan(self, request: PlanRequest) -> Any:
            raise Asked(request.profile)

    options = {
        "device": None, "objective": Objective.ENERGY, "allowed": None, "flash": None, **options,
    }  # fmt: skip
    source = PlanSource(
        ram="1MiB", plan=None, planner=Asks(), time_ratio=None, flash_write_bytes=None,
        wall_seconds=1.0, machine=machine, **options,
    )  # fmt: skip
    with pytest.raises(Asked) as caught:
        source.plan_for(trace(*mlp_momentum(), batches(mlp_momentum, 1)[0]))
    (profile,) = caught.value.args
    assert isinstance(profile, DeviceProfile)
    return profile


def test_a_gpu_pages_at_the_speed_of_its_second_tier(tmp_path: Path) -> None:
    host, cuda = load_device("host"), load_device("cuda")
    assert asked("host") == host
    assert asked("cuda", flash=FlashOptions(tier="host")) == cuda
    flash = asked("cuda")
    assert flash.page_in_bytes_per_second == host.page_in_bytes_per_second
    assert flash.sources["page_in_bytes_per_second"] == host.sources["page_in_bytes_per_second"]
    assert (flash.name, flash.alignment_bytes) == ("cuda", 512)
    assert asked("cuda", device=cuda) == cuda  # a profile that was given is left alone
    options = {"objective": Objective.TIME, "paging_directory": tmp_path}
    measured = asked("cuda", **options)
    assert measured.page_out_bytes_per_second == asked("host", **options).page_out_bytes_per_second
    assert measured.alignment_bytes == 512


def test_a_peak_is_without_what_was_there_before() -> None:
    """As the allocator counts: 1000 bytes in 1024, of others 5000 in 5120."""

    def statistics(requested: int, given: int, reserved: int) -> dict[str, int]:
        figures = {"requested": requested, "allocated": given, "reserved": reserved}
        keys = ("current", "peak")
        return {f"{name}_bytes.all.{k}": n for name, n in figures.items() for k in keys}

    peak = peak_between(
        statistics(6000, 6144, 2**21), statistics(9000, 9728, 2**22), [400, 600],
        planned_bytes=4608, alignment_bytes=512,
    )  # fmt: skip
    assert peak == CudaPeak(
        planned_bytes=4608, requested_bytes=4000, given_bytes=9728 - (6144 - 512 - 1024),
        reserved_bytes=2**22,
    )  # fmt: skip
    assert "planned 4.50 KiB" in peak.line()


def test_wear_says_where_copies_go_and_what_the_host_gives(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 1)
    step, _, _ = make(tmp_path, mlp_momentum, HOST)
    with step:
        trained(step, data)
        wear = step.wear()
        assert wear.direct is None
        assert wear.where == "host memory"
        assert wear.host_bytes == step.running.compiled.layout.size_bytes
        assert "written to host memory" in wear.line()
        assert "of the host's memory" in wear.line()


def test_host_memory_beside_the_cpu_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="would take the RAM") as caught:
        make(tmp_path, mlp_momentum, FlashOptions(tier="host"))
    assert getattr(caught.value, "code", "") == "paging_on_ram"


def test_the_cpu_and_its_generator() -> None:
    model, _, _ = mlp_momentum()
    meta = torch.empty(3, device="meta")
    assert device_of(model, (torch.ones(2), meta, "text")) == CPU
    assert device_of(torch.nn.Identity(), meta) == CPU
    assert generator_of(CPU) is torch.default_generator
    assert generator_state_bytes(CPU) == torch.default_generator.get_state().nbytes
    assert machine_of(CPU) == "host"
    assert machine_of(torch.device("cuda:0")) == "cuda"
    assert devices_mixed("").code == "devices_mixed"
    assert issubclass(type(devices_mixed("")), TraceError)
    with torch.autocast("cpu", dtype=torch.bfloat16), without_autocast(CPU):
        assert not torch.is_autocast_enabled("cpu")
    if not torch.cuda.is_available():
        with without_autocast(torch.device("cuda:0")):  # fake tensors: no warning
            pass


def test_the_bytes_of_a_storage_in_pieces() -> None:
    tensor = torch.randint(0, 256, (100,), dtype=torch.uint8)
    (piece,) = host_pieces(tensor[10:].untyped_storage())
    assert bytes(piece) == tensor.numpy().tobytes()
    assert not list(host_pieces(torch.empty(0).untyped_storage()))
