"""The peak of tensor memory, from sources that the replay does not write.

    measure_peak, measure_step_peak   the events of PyTorch's allocator
    measure_step_in_arena             the arena's counters, where the process has one (`arena`)
    resident_peak                     the operating system

PyTorch's allocator reports each allocation and each free, with its address, to the profiler
("[memory]" events). What is live is what was allocated under the profiler and not yet freed; its
most is the peak, and includes what kernels allocate inside. A block from before the profiler
started is in no total, and its free is not subtracted from one (the allocator reports such frees
too, if an earlier profiler saw the allocation): so everything that should count must be allocated
under the profiler. `measure_peak` has `prepare` for that; `measure_step_peak` moves the step's
state to new memory.

Invariant: the figures come from the allocators alone. What oneDNN takes behind PyTorch's back is in
the arena's figure and not in the events; what is mapped directly is in `resident_peak` only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch._C._profiler import _EventType
from torch.autograd.profiler import profile, record_function

from poet_core.errors import ReplayError
from poet_runtime.memory.arena import Arena, ArenaPeak, arena_peak

if TYPE_CHECKING:
    from poet_runtime.train_step import TrainStep

_MARK = "poet: measured"
_CLEAR_PEAK = "5"  # proc(5), /proc/pid/clear_refs: resets the peak resident set


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredPeak:
    """Bytes of live tensor memory: the most while `run` ran, at its beginning and at its end;
    `events`: the allocator's events meanwhile."""

    peak_bytes: int
    begin_bytes: int
    end_bytes: int
    events: int


def measure_peak(prepare: Callable[[], Any], run: Callable[[], Any]) -> MeasuredPeak:
    """The peak while `run()` runs, counting what `prepare()` has allocated before it and left.

    Both run on this thread, under the profiler.
    """
    with profile(profile_memory=True) as profiler:
        prepare()
        with record_function(_MARK):
            run()
    results = profiler.kineto_results
    assert results is not None
    (mark,) = [event for event in results.events() if event.name() == _MARK]
    memory = sorted(_memory_events(results.experimental_event_tree()))
    return _running_peak(memory, mark.start_ns(), mark.end_ns())


def _memory_events(roots: Iterable[Any]) -> Iterator[tuple[int, int, int]]:
    """(moment in ns, address, bytes) of each allocation and, with negative bytes, each free."""
    waiting = list(roots)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.tag == _EventType.Allocation:  # not `is`: each look gives a new object
            yield event.start_time_ns, event.extra_fields.ptr, event.extra_fields.alloc_size


def measure_step_peak(step: TrainStep, batches: Iterable[tuple[Any, ...]]) -> MeasuredPeak:
    """The peak of `step` over the batches: the state, the inputs and all that the steps allocate.

    The caller's own batches are outside: the step copies them.
    """

    def run() -> None:
        for batch in batches:
            step(*batch)

    return measure_peak(step.reallocate, run)


def unplanned_bytes(step: TrainStep, arena: Arena) -> int:
    """What is in use in the arena between steps and is in no plan: what libraries keep."""
    storages = step.program.graph.storages
    kept = sum(storages[storage].size_bytes for storage in step.plan.schedule.start_ram)
    return max(0, arena.statistics().in_use_bytes - kept)


def measure_step_in_arena(
    step: TrainStep, batches: Iterable[tuple[Any, ...]], arena: Arena
) -> ArenaPeak:
    """The peak of `step` over the batches by the arena's counters, against its plan.

    A first step beforehand lets libraries make what they keep (oneDNN's kernels), which is not
    counted. The caller's own batches must be made before it, too.
    """
    step.reallocate()
    begin, planned = unplanned_bytes(step, arena), step.judgement.peak_bytes
    with arena_peak(arena, begin_bytes=begin, planned_bytes=planned) as peak:
        for batch in batches:
            step(*batch)
        return peak()


def _running_peak(
    memory: Iterable[tuple[int, int, int]], begin_ns: int, end_ns: int
) -> MeasuredPeak:
    blocks: dict[int, int] = {}
    live = begin = peak = count = 0
    for moment_ns, address, size_bytes in memory:
        if moment_ns > end_ns:
            break
        if size_bytes > 0:
            blocks[address] = size_bytes
            live += size_bytes
        else:
            live -= blocks.pop(address, 0)
        if moment_ns < begin_ns:
            begin = peak = live
        else:
            count += 1
            peak = max(peak, live)
    return MeasuredPeak(peak_bytes=peak, begin_bytes=begin, end_bytes=live, events=count)


@contextmanager
def resident_peak() -> Iterator[Callable[[], int]]:
    """The operating system's view: yields a function that gives the peak of the resident set since
    the block began, in bytes, the interpreter and all libraries included.

    Raises ReplayError (`not_measurable`) where /proc/self does not allow it.
    """
    try:
        Path("/proc/self/clear_refs").write_text(_CLEAR_PEAK)
    except OSError as error:
        raise ReplayError(
            f"The peak of the resident set cannot be reset here: {error.strerror}.",
            code="not_measurable",
            hint="This needs Linux and a writable /proc/self/clear_refs.",
        ) from error

    def peak_bytes() -> int:
        status = Path("/proc/self/status").read_text()
        (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) * 1024

    yield peak_bytes
