"""The device that a step runs on: the CPU, or one GPU, where all of it must be.

Invariant: what is asked here of a GPU that this machine does not have is either answered without it
(a step can be traced on fake CUDA tensors) or an error; nothing is moved between devices unasked.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from poet_core.errors import TraceError
from poet_runtime.flash.flash_file import memory_view

CPU = torch.device("cpu")
SUPPORTED = ("cpu", "cuda")
_PHILOX_STATE_BYTES = 16
"""A CUDA generator's state: seed and offset (CUDAGeneratorImpl::get_state; a test on a GPU asks)."""

_PIECE_BYTES = 2**20


def device_of(model: nn.Module, batch: Any) -> torch.device:
    """Where parameters, buffers and the batch's tensors are; tensors without memory (meta) may be
    anywhere. Raises TraceError (`device_unsupported`, `devices_mixed`)."""
    found: dict[torch.device, str] = {}
    for what, tensor in _tensors(model, batch):
        if tensor.device.type == "meta":
            continue
        if tensor.device.type not in SUPPORTED:
            raise TraceError(
                f"Expected tensors on the CPU or on a CUDA device, got {what} on {tensor.device}.",
                code="device_unsupported",
                hint="Move model and batch to the CPU before tracing: .cpu().",
            )
        found.setdefault(tensor.device, what)
    if len(found) > 1:
        (one, there), (other, elsewhere), *_ = found.items()
        raise devices_mixed(f"{there} on {one} and {elsewhere} on {other}")
    return next(iter(found), CPU)


def machine_of(device: torch.device) -> str:
    """The shipped profile of this machine, for steps on the device."""
    return "host" if device.type == "cpu" else "cuda"


def devices_mixed(got: str) -> TraceError:
    """The error where a step is not all on one device."""
    return TraceError(
        f"Expected all of a step on one device, got {got}.",
        code="devices_mixed",
        hint="Move model and batch to one device, and make tensors inside the model on the device "
        "of its input (torch.arange(n, device=x.device)). Fused attention keeps its seeds on the "
        "CPU: trace and train inside torch.nn.attention.sdpa_kernel(SDPBackend.MATH).",
    )


def without_autocast(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, nothing casts on the device, whatever the caller has switched on."""
    if device.type == "cuda" and not torch.cuda.is_available():
        return nullcontext()  # fake tensors; torch would warn
    return torch.autocast(device.type, enabled=False)


def plain_mode(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, ops are what they are called: no autograd, no autocast, no inference tensors."""
    if not (torch.is_inference_mode_enabled() or torch.is_autocast_enabled(device.type)):
        return torch.no_grad()  # the others are off: entering them would cost as much as some ops
    return _all_off(device)


@contextmanager
def _all_off(device: torch.device) -> Iterator[None]:
    with torch.inference_mode(False), torch.no_grad(), without_autocast(device):
        yield


def generator_of(device: torch.device) -> torch.Generator:
    """The generator from which random ops on the device draw."""
    if device.type == "cpu":
        return torch.default_generator
    cuda: Any = torch.cuda  # torch leaves this part untyped
    cuda.init()  # before it there are no generators
    generator: torch.Generator = cuda.default_generators[device.index]
    return generator


def generator_state_bytes(device: torch.device) -> int:
    """Bytes of that generator's state."""
    return torch.get_rng_state().nbytes if device.type == "cpu" else _PHILOX_STATE_BYTES


def keeping_generators(device: torch.device) -> AbstractContextManager[Any]:
    """Inside, random numbers may be drawn; afterwards the generators are as they were."""
    return torch.random.fork_rng(devices=[] if device.type == "cpu" else [device])


def host_pieces(memory: torch.UntypedStorage) -> Iterator[memoryview]:
    """The bytes of a storage, from whatever device; a piece is good until the next one."""
    if not memory.nbytes():
        return
    if memory.device.type == "cpu":
        yield memory_view(memory.data_ptr(), memory.nbytes())
        return
    # Another thread than the one that computes may ask.
    torch.cuda.synchronize(memory.device)
    whole = torch.empty(0, dtype=torch.uint8, device=memory.device).set_(memory)
    for begin in range(0, memory.nbytes(), _PIECE_BYTES):
        piece = whole[begin : begin + _PIECE_BYTES].cpu()
        yield memory_view(piece.data_ptr(), len(piece))


def _tensors(model: nn.Module, batch: Any) -> Iterator[tuple[str, Tensor]]:
    for name, parameter in model.named_parameters():
        yield f"parameter {name}", parameter
    for name, buffer in model.named_buffers():
        yield f"buffer {name}", buffer
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, Tensor)]
    for position, leaf in enumerate(leaves):
        yield f"tensor {position} of the batch", leaf
