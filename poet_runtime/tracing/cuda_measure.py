"""What a GPU's allocator and clock say: memory and seconds of an op, the peak of a step.

    requested   what tensors and kernels asked PyTorch's allocator for: what a plan counts
    given       the blocks that it gave for that: at least 512 bytes, and up to 1 MiB more for a large
                one, unless PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True
    reserved    what it holds of the device for all of that, its cache of free blocks included

The allocator counts on the program's thread, when a tensor is made or freed and not when the device
gets there: so peaks are in program order, as the plan's are. Invariant: what was there before and is
not the step's (cuBLAS keeps workspaces, the caller keeps batches) is in none of the first two.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from poet_core.units import format_bytes

if TYPE_CHECKING:
    from poet_runtime.train_step import TrainStep

_TIMED_RUNS = 5
_REQUESTED, _GIVEN, _RESERVED = "requested_bytes.all", "allocated_bytes.all", "reserved_bytes.all"

Statistics = Mapping[str, int]
"""As torch.cuda.memory_stats gives them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CudaPeak:
    """Bytes at the most while steps ran; see the module. `planned_bytes`: the judge's figure."""

    planned_bytes: int
    requested_bytes: int
    given_bytes: int
    reserved_bytes: int

    def line(self) -> str:
        """One line for people."""
        return (
            f"planned {format_bytes(self.planned_bytes)}, "
            f"requested {format_bytes(self.requested_bytes)}, "
            f"given {format_bytes(self.given_bytes)}, "
            f"reserved {format_bytes(self.reserved_bytes)}"
        )


def measure_step_on_cuda(step: TrainStep, batches: Iterable[tuple[Any, ...]]) -> CudaPeak:
    """The peak of `step` over the batches, on the GPU that its program is for.

    A step beforehand lets libraries make what they keep. The caller's own batches are outside: they
    must be made before it, and the step copies them.
    """
    device = step.program.device
    step.park()
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_stats(device)
    for batch in batches:
        step(*batch)
    after = torch.cuda.memory_stats(device)
    storages = step.program.graph.storages
    kept = [storages[storage].size_bytes for storage in step.plan.schedule.start_ram]
    return peak_between(
        before,
        after,
        kept,
        planned_bytes=step.judgement.peak_bytes,
        alignment_bytes=step.plan.budget.alignment_bytes,
    )


def peak_between(
    before: Statistics,
    after: Statistics,
    kept_bytes: Iterable[int],
    *,
    planned_bytes: int,
    alignment_bytes: int,
) -> CudaPeak:
    """The peak from the allocator's figures. `kept_bytes`: of the step's own tensors that were there
    before, one by one."""
    kept = list(kept_bytes)
    rounded = sum(-(-size // alignment_bytes) * alignment_bytes for size in kept)
    others = max(0, before[f"{_REQUESTED}.current"] - sum(kept))
    others_given = max(0, before[f"{_GIVEN}.current"] - rounded)
    return CudaPeak(
        planned_bytes=planned_bytes,
        requested_bytes=after[f"{_REQUESTED}.peak"] - others,
        given_bytes=after[f"{_GIVEN}.peak"] - others_given,
        reserved_bytes=after[f"{_RESERVED}.peak"],
    )


def cuda_peak(call: Callable[[], object], device: torch.device) -> int:
    """Most bytes that a call had requested at once, beyond what was there before it."""
    torch.cuda.reset_peak_memory_stats(device)
    before = int(torch.cuda.memory_stats(device)[f"{_REQUESTED}.current"])
    call()
    return int(torch.cuda.memory_stats(device)[f"{_REQUESTED}.peak"]) - before


class CudaTimer:
    """Times calls by the device's own events."""

    cold = False

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def seconds(self, call: Callable[[], object], _allocates_bytes: int = 0) -> float:
        """Median seconds of a call that has run before."""
        cuda: Any = torch.cuda  # torch leaves its events untyped
        stream = cuda.current_stream(self._device)
        taken: list[float] = []
        for _ in range(_TIMED_RUNS):
            begin, end = (cuda.Event(enable_timing=True) for _ in range(2))
            begin.record(stream)
            call()
            end.record(stream)
            end.synchronize()
            taken.append(begin.elapsed_time(end) / 1000)
        return statistics.median(taken)
