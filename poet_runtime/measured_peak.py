"""The peak of tensor memory, from a source that the replay does not write.

PyTorch's allocator reports each allocation and each free to the profiler ("[memory]" events);
their running total is the memory of live tensors and of whatever kernels allocate inside. The
allocator does not report the free of a block that it gave out before the profiler started, and the
total does not contain that block either: so everything that should count must be allocated under
the profiler. `measure_peak` has `prepare` for that; `measure_step_peak` moves the step's state to
new memory. Nothing is subtracted.

Invariant: the figures come from the allocator's events alone. What kernels take behind its back
(MKL's packing buffers) is in `resident_peak`, the operating system's own figure, only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch.autograd.profiler import profile, record_function

from poet_core.errors import ReplayError
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
    events = results.events()
    (mark,) = [event for event in events if event.name() == _MARK]
    memory = sorted(
        (event.start_ns(), event.nbytes()) for event in events if event.name() == "[memory]"
    )
    return _running_peak(memory, mark.start_ns(), mark.end_ns())


def measure_step_peak(step: TrainStep, batches: Iterable[tuple[Any, ...]]) -> MeasuredPeak:
    """The peak of `step` over the batches: the state, the inputs and all that the steps allocate.

    The caller's own batches are outside: the step copies them.
    """

    def run() -> None:
        for batch in batches:
            step(*batch)

    return measure_peak(step.reallocate, run)


def _running_peak(memory: list[tuple[int, int]], begin_ns: int, end_ns: int) -> MeasuredPeak:
    live = begin = peak = count = 0
    for moment_ns, size_bytes in memory:
        if moment_ns > end_ns:
            break
        live += size_bytes
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
