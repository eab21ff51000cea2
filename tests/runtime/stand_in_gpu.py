"""A device that is not there, for tracing without a GPU; run in a process of its own.

PyTorch built for the CPU has fake CUDA tensors, but its autograd engine asks for a device guard of
CUDA's, which such a build has not. What it has is a place for one other device, whose guard and
streams may be Python: this script makes one, traces steps on fake tensors there, and prints what it
found as JSON. The registration is for good, hence the process.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree
from torch.utils.backend_registration import (
    _DummyBackendModule,
    _setup_privateuseone_for_python_backend,
)

from poet_core.errors import TraceError
from poet_runtime import TrainStep, torch_device
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything
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

NAME = "standin"
MODE = FakeTensorMode()


class Module(_DummyBackendModule):
    """What torch.autocast asks a device for."""

    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.bfloat16]


def on_device(build: Build, batch: Any) -> Any:
    """Model, loss, optimizer and batch with fake tensors on the device in the place of theirs."""
    model, loss_fn, optimizer = build()
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            new = made.setdefault(id(parameter), nn.Parameter(faked(parameter)))
            setattr(module, name, new)
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, faked(buffer))
    for group in optimizer.param_groups:
        group["params"] = [made[id(parameter)] for parameter in group["params"]]
    return model, loss_fn, optimizer, pytree.tree_map(faked, batch)


def faked(tensor: torch.Tensor) -> torch.Tensor:
    with MODE:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device=f"{NAME}:0"
        )


def brought_home(program: Program) -> Program:
    """The same calls, with the CPU where they name the device."""
    cpu = torch.device("cpu")
    calls = tuple(
        replace(
            call,
            args=pytree.tree_map_only(torch.device, lambda _: cpu, call.args),
            kwargs=pytree.tree_map_only(torch.device, lambda _: cpu, dict(call.kwargs)),
        )
        for call in program.calls
    )
    conditions = {k: v for k, v in program.graph.conditions.items() if k != "device"}
    return replace(program, calls=calls, graph=replace(program.graph, conditions=conditions))


def described(program: Program) -> dict[str, Any]:
    devices = pytree.tree_leaves([[call.args, dict(call.kwargs)] for call in program.calls])
    return {
        "device": str(program.device),
        "constants": sorted({str(leaf) for leaf in devices if isinstance(leaf, torch.device)}),
        "ops": [op.kind for op in program.graph.ops],
        "storages": [storage.size_bytes for storage in program.graph.storages],
        "rng_state_bytes": program.graph.rng_state_bytes,
        "split": program.options.split_above_bytes,
    }


def same_bits(build: Build) -> bool:
    """Whether the step that was traced on the device trains as eager does when it runs here."""
    data = batches(build, 3)
    model, loss_fn, optimizer = build()
    traced = brought_home(trace(*on_device(build, data[0]), measure_workspace=False))
    # The rules of the trace count for another optimizer's parameters of the same names.
    plan = hand_made_plan(traced.graph, page_everything(traced.graph))
    torch.manual_seed(1)
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=traced, flash_write_bytes=2**40
    ) as step:
        losses = trained(step, data)
        found = outcome(model, optimizer, losses)
    return found == eager(build, data)


def refusal(change: Any) -> str:
    batch = batches(mlp_momentum, 1)[0]
    model, loss_fn, optimizer, fake_batch = on_device(mlp_momentum, batch)
    try:
        trace(*change(model, loss_fn, optimizer, fake_batch, batch), measure_workspace=False)
    except TraceError as error:
        return f"{error.code}: {error.message}"
    return ""


class Elsewhere(nn.Module):
    """Makes a tensor on the CPU in the middle of a step."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        result: torch.Tensor = self.inner(inputs * torch.arange(20.0).to(inputs.device))
        return result


def main() -> None:
    torch.set_num_threads(1)
    _setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    torch_device.SUPPORTED = ("cpu", NAME)
    found: dict[str, Any] = {"traces": {}, "same_bits": {}}
    for build in (mlp_momentum, norm_and_dropout, convolution, tied):
        batch = batches(build, 1)[0]
        options = StepOptions(split_above_bytes=0)
        there = trace(*on_device(build, batch), measure_workspace=False, options=options)
        here = trace(*build(), batch, measure_workspace=False)
        found["traces"][build.__name__] = [described(there), described(here)]
    for build in (mlp_momentum, convolution, tied):
        found["same_bits"][build.__name__] = same_bits(build)
    found["mixed"] = refusal(lambda m, f, o, _fake, real: (m, f, o, real))
    found["elsewhere"] = refusal(lambda m, f, o, fake, _: (Elsewhere(m), f, o, fake))
    torch_device.SUPPORTED = ("cpu", "cuda")
    found["unsupported"] = refusal(lambda m, f, o, fake, _: (m, f, o, fake))
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
