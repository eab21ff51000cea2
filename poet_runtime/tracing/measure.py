"""What an op takes on this machine: the memory it allocates and frees inside, and its seconds.

Each distinct op is run alone on random operands of the same shapes, strides and dtypes (integers
are zeros, valid as indices). Workspace is the peak of the allocator's own events during the call,
less the outputs that stay; kernels that allocate behind the allocator's back (MKL's packing
buffers) are not seen. Events of the calling thread count, and in PyTorch's CPU kernels it is that
thread which allocates. Invariant: what is measured also checks the trace: an output of another
dtype or shape, or one that shares memory with an operand, is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

from poet_core.errors import TraceError
from poet_runtime.kernels import AsTraced, lies_as
from poet_runtime.program import TensorSpec
from poet_runtime.torch_device import CPU, devices_mixed, keeping_generators
from poet_runtime.tracing.cuda_measure import CudaTimer, cuda_peak
from poet_runtime.tracing.drafts import Draft, map_specs, specs_in
from poet_runtime.tracing.timing import OpTimer


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Workspace in bytes; seconds where they were asked for. `lies_otherwise`: the kernel lays its
    outputs out otherwise than traced; measured is the op that copies them (`kernels.AsTraced`)."""

    workspace_bytes: int
    seconds: float | None = None
    lies_otherwise: bool = False


class Measurer:
    """Measures drafts on a device; equal ones once. `sizes`: bytes of each storage."""

    def __init__(
        self, sizes: Sequence[int], *, seconds: bool = False, device: torch.device = CPU
    ) -> None:
        self._sizes, self._device = sizes, device
        self._timer: OpTimer | CudaTimer | None = None
        if seconds:
            self._timer = OpTimer(sum(sizes)) if device == CPU else CudaTimer(device)

    def measure(self, draft: Draft) -> Measurement:
        """Measure one op. Raises TraceError (`output_differs`) where the trace is wrong about it."""
        sizes = {storage: self._sizes[storage] for storage in draft.operands + draft.writes}
        alone = _on_what_it_touches(draft, sizes)
        cold = self._timer.cold if self._timer else None
        key = (_signature(alone, sizes), cold, torch.get_num_threads(), self._device)
        if key not in _KNOWN:
            with keeping_generators(self._device), torch.no_grad():
                _KNOWN[key] = self._run(alone, sizes)
        return _KNOWN[key]

    def _run(self, draft: Draft, sizes: Mapping[int, int]) -> Measurement:
        operands = _operands(draft, sizes, self._device)
        args = map_specs(lambda spec: tensor_of(spec, operands[spec.storage]), draft.args)
        kwargs = map_specs(lambda spec: tensor_of(spec, operands[spec.storage]), dict(draft.kwargs))
        function = draft.function
        lies_otherwise = not self._check_outputs(draft, operands, function(*args, **kwargs))
        if lies_otherwise:
            function = AsTraced(function, draft.outputs)
        kept = sum(sizes[storage] for storage in draft.writes)
        # Twice, because a first run may fill caches; what it allocates besides is workspace too.
        peak = max(self._peak(lambda: function(*args, **kwargs)) for _ in range(2))
        timer, seconds = self._timer, None
        if timer is not None:
            seconds = timer.seconds(lambda: function(*args, **kwargs), peak)
        return Measurement(
            workspace_bytes=max(0, peak - kept), seconds=seconds, lies_otherwise=lies_otherwise
        )

    def _peak(self, call: Callable[[], object]) -> int:
        return allocator_peak(call) if self._device == CPU else cuda_peak(call, self._device)

    def _check_outputs(self, draft: Draft, operands: Mapping[int, Tensor], returned: Any) -> bool:
        """Whether the outputs lie as traced; TraceError where they are something else."""
        if not draft.outputs:
            return True
        outputs = returned if isinstance(returned, tuple | list) else (returned,)
        owners = {tensor.untyped_storage().data_ptr() for tensor in operands.values()}
        as_traced = True
        for spec, output in zip(draft.outputs, outputs, strict=True):
            if spec is None:
                continue
            if output.device != self._device:
                raise devices_mixed(f"an output of {draft.name} ({draft.kind}) on {output.device}")
            shared = output.numel() and output.untyped_storage().data_ptr() in owners
            if output.dtype != spec.dtype or tuple(output.shape) != spec.size or shared:
                raise TraceError(
                    f"Op {draft.name} ({draft.kind}): expected a new {spec.dtype} tensor of shape "
                    f"{spec.size}; the kernel gives {'a view of its input, ' if shared else ''}"
                    f"{output.dtype} of shape {tuple(output.shape)}.",
                    code="output_differs",
                    hint="This operator's shape function disagrees with its CPU kernel; write this "
                    "part of the model with other operations.",
                    details={"op": draft.name, "kind": draft.kind},
                )
            as_traced = as_traced and lies_as(output, spec)
        return as_traced


def _on_what_it_touches(draft: Draft, sizes: dict[int, int]) -> Draft:
    """The op with operands that end where what it reads of them does: a few rows of a large tensor
    are measured on a few rows, and once for all such rows. Changes the sizes."""
    # These go by the whole storage: by offsets in it, or by cloning it with its strides.
    if "as_strided" in draft.kind or draft.kind == str(torch.ops.aten.copy.default):
        return draft
    views: dict[int, set[TensorSpec]] = {}
    for spec in specs_in((draft.args, draft.kwargs)):
        views.setdefault(spec.storage, set()).add(spec)
    spans = {
        storage: _span_bytes(*specs)
        for storage, specs in views.items()
        if len(specs) == 1 and storage not in draft.writes
    }
    small = {storage: span for storage, span in spans.items() if span < sizes[storage]}
    sizes.update(small)

    def moved(spec: TensorSpec) -> TensorSpec:
        return replace(spec, offset=0) if spec.storage in small else spec

    return replace(
        draft, args=map_specs(moved, draft.args), kwargs=map_specs(moved, dict(draft.kwargs))
    )


def _operands(draft: Draft, sizes: Mapping[int, int], device: torch.device) -> dict[int, Tensor]:
    dtype_of = {spec.storage: spec.dtype for spec in specs_in((draft.args, draft.kwargs))}
    generator = torch.Generator(device).manual_seed(0)
    return {
        storage: _filled(sizes[storage], dtype, generator) for storage, dtype in dtype_of.items()
    }


def _span_bytes(spec: TensorSpec) -> int:
    """From the first element of a tensor to its last, which is what it needs of a storage."""
    if 0 in spec.size:
        return 0
    last = sum((size - 1) * stride for size, stride in zip(spec.size, spec.stride, strict=True))
    return (last + 1) * spec.dtype.itemsize


def allocator_peak(call: Callable[[], object]) -> int:
    """Highest sum of the CPU allocator's events in this thread while `call` runs, in bytes."""
    config = ProfilerConfig(
        ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()
    )
    _enable_profiler_legacy(config)
    try:
        call()
    finally:
        records = _disable_profiler_legacy()
    live = peak = 0
    for thread_records in records:
        for event in thread_records:
            if str(event.kind()) == "memory_alloc":
                live += event.cpu_memory_usage()
                peak = max(peak, live)
    return peak


def tensor_of(spec: TensorSpec, storage: Tensor) -> Tensor:
    """The tensor that `spec` describes, on a flat byte tensor that is its storage."""
    tensor = torch.empty(0, dtype=spec.dtype, device=storage.device)
    tensor.set_(storage.untyped_storage(), spec.offset, spec.size, spec.stride)
    return tensor


_KNOWN: dict[Any, Measurement] = {}


def _filled(size_bytes: int, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    """A storage of uniform numbers in [0, 1), or of zeros for integers, as a flat tensor."""
    count = size_bytes // dtype.itemsize
    if dtype.is_floating_point and dtype.itemsize > 1:
        return torch.rand(count, dtype=dtype, device=generator.device, generator=generator)
    return torch.zeros(count, dtype=dtype, device=generator.device)


def _signature(draft: Draft, sizes: Mapping[int, int]) -> str:
    """Equal for ops that do the same work: storages by order of appearance, names left out."""
    local: dict[int, int] = {}
    for storage in draft.operands + draft.writes:
        local.setdefault(storage, len(local))
    alike = draft.renumbered(local)
    args = [arg for arg in alike.args if not isinstance(arg, str)] if draft.mutates else alike.args
    rule = getattr(draft.function, "__self__", None)
    switches = getattr(rule, "structure", None)
    bytes_by_storage = [sizes[storage] for storage in local]
    return repr((draft.kind, args, alike.kwargs, alike.outputs, switches, bytes_by_storage))
