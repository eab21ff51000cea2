"""What others do about a training step's memory, and ours under a cap of what they take.

    python -m benchmarks.replay [--model NAME ...] [--method NAME ...] [--steps 3] [--small]

Models: ResNet-18, GPT-2 small, BERT-base; methods: eager and what `replay_methods` lists. Each is a
process of its own with the same weights, batch and seed, one thread. Its peak is what the kernel
counted for its process over the steps after the first (with control groups v2 over all of them:
that counter cannot begin again). Ours then trains with that number, or up to a fifth less, as the
kernel's cap, planned for time, and the two take turns, a step each. The ratio is that of the medians
of these steps.

A gradient's error is the largest relative error of any parameter's after the first step, against
eager's; "same bits" means all of the state after all steps. `replay_fault` shows why the memory
budget of torch.compile differs. With `--small` the same on small models, compiled by aot_eager,
planned in seconds, and judged by the bits only; nothing is kept then without `--out`.

Each method's row goes into results/replay.json when it is measured (whatever was there of the same
model and method is replaced), the table into replay.md, the picture into replay.svg; `--missing`
measures what is not there yet, `--plot-only` draws both from what is there. Needs root, or a delegated memory group, and a C compiler; without one
it says so and ends with 0. Exit status 1 where ours differs from eager by a bit, is slower than an
alternative at its peak or has no step there, or where an alternative could not be measured.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
import torch

from benchmarks.replay_fault import measure_fault
from benchmarks.replay_methods import EAGER, METHODS, compiler
from benchmarks.replay_models import SUBJECTS
from benchmarks.replay_other import Other
from benchmarks.replay_ours import Ours, Planner
from benchmarks.replay_report import OursRow, Row, Store, complaints, table
from poet_core.errors import PoetError, ReplayError
from poet_runtime.memory.cgroup import find_hierarchy
from tests.runtime.native_arena import arena_library

# Ours under a cap that is smaller by up to this factor is measured against a method as well: that
# is harder for it, and spares a plan and a process for each.
_SAME_PEAK = 1.25
_ALIVE = 2  # of ours: what they hold is another's memory


def main(arguments: list[str] | None = None) -> int:
    """Measure, keep, print, and say by the exit status whether ours was exact and ahead."""
    given = _parser().parse_args(arguments)
    store = Store(given.out, kept=given.out is not None or not given.small)
    if given.plot_only:
        store.draw()
        print(table(store))
        return 0
    try:
        find_hierarchy()
        library = arena_library()
    except (ReplayError, pytest.skip.Exception) as reason:
        print(f"Nothing measured: {reason}")
        return 0
    torch.set_num_threads(1)
    found: list[str] = []
    try:
        for model in given.model or SUBJECTS:
            found += _measure(model, given, library, store)
    except ReplayError as reason:  # eager's: without it there is nothing to compare with
        print(f"Not measured: {reason}")
        return 0 if reason.code == "no_cgroup" else 1
    if not given.method and not (given.missing and store.fault):
        store.fault = measure_fault(quick=given.small)
        store.write()
    print(table(store))
    found += complaints(store.measured, judge_time=not given.small)
    for complaint in found:
        print(complaint)
    return 1 if found else 0


def _measure(model: str, given: argparse.Namespace, library: Path, store: Store) -> list[str]:
    """Measures eager and the methods asked for; a sentence for each that could not be."""
    methods = [method for method in given.method or METHODS if method != EAGER]
    if given.missing:
        methods = [method for method in methods if not store.has(model, method)]
        if not methods and store.has(model, EAGER):
            return []
    failures: list[str] = []
    with ExitStack() as exits:
        duel = _Duel(model, given.steps, library, exits, small=given.small)
        for method in (EAGER, *methods):
            try:
                row = duel.measure(method)
            except ReplayError as error:
                if method == EAGER:
                    raise
                failures.append(f"{model}, {method}: not measured: {error}")
                print(failures[-1], flush=True)
                continue
            store.put(row)
            store.write()
            print(row.line(), flush=True)
    return failures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.replay",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", action="append", choices=tuple(SUBJECTS))
    parser.add_argument("--method", action="append", choices=tuple(METHODS))
    parser.add_argument("--steps", type=int, default=3, help="measured steps, after a first one")
    parser.add_argument("--missing", action="store_true", help="only rows that are not kept yet")
    parser.add_argument("--small", action="store_true", help="small models, to try it out")
    parser.add_argument("--out", type=Path, help="folder of the results (default: results/)")
    parser.add_argument("--plot-only", action="store_true", help="draw what is kept")
    return parser


class _Duel:
    """The methods of one model, one after the other, each against ours."""

    def __init__(
        self, model: str, steps: int, library: Path, exits: ExitStack, *, small: bool
    ) -> None:
        self._model, self._steps, self._small = model, steps, small
        self._library, self._exits = library, exits
        folder = exits.enter_context(tempfile.TemporaryDirectory(prefix="replay-"))
        self._reference = Path(folder) / "gradients.pt"
        self._eager: list[str] = []  # losses, then the state's fingerprint
        self._random = False
        self._planner: Planner | None = None
        self._ours: list[Ours] = []

    def measure(self, method: str) -> Row:
        """A method's row; eager's comes first, because the others are compared with it."""
        load, begin = os.getloadavg()[0], time.monotonic()
        other = Other(self._model, method, small=self._small)
        try:
            error = self._first_step(method, other)
            other.count_from_here()
            seconds = [other.run()]
            cap_bytes = other.peak_bytes()
            ours, refused = self._ours_under(cap_bytes)
            own: list[float] = []
            for turn in range(self._steps):
                if turn:
                    seconds.append(other.run())
                if ours is not None:
                    refused = self._turn(ours, own)
                    ours = None if refused else ours
            peak_bytes = other.peak_bytes()
            bits = other.fingerprint()
        finally:
            other.close()
        if method == EAGER:
            self._eager, self._random = [*other.losses, bits], other.random
        return Row(
            model=self._model,
            small=self._small,
            method=method,
            compiler="" if METHODS[method].budget is None else compiler(small=self._small),
            steps=self._steps,
            peak_bytes=peak_bytes,
            seconds=statistics.median(seconds),
            gradient_error=error,
            random=self._random,
            same_losses=other.losses == self._eager[:-1],
            same_bits=bits == self._eager[-1],
            ours=None if ours is None else self._ours_row(ours, own, statistics.median(seconds)),
            refused=refused,
            load_average=load,
            wall_seconds=time.monotonic() - begin,
        )

    def _first_step(self, method: str, other: Other) -> float:
        other.run()
        if method == EAGER:
            other.save(self._reference)
        return other.compare(self._reference)

    def _ours_under(self, cap_bytes: int) -> tuple[Ours | None, str]:
        """One of ours with that cap, or nearly, after its first step; or why there is none."""
        for ours in self._ours:
            if cap_bytes / _SAME_PEAK <= ours.cap_bytes <= cap_bytes:
                return ours, ""
        while len(self._ours) >= _ALIVE:
            self._ours.pop(0).close()
        try:
            self._planner = self._planner or Planner(SUBJECTS[self._model], small=self._small)
            ours = self._planner.start(cap_bytes, self._library)
            self._exits.callback(ours.close)
            ours.run()
            ours.compare(self._reference)
        except PoetError as error:
            return None, f"{error} [{error.code}]"
        self._ours.append(ours)
        return ours, ""

    def _turn(self, ours: Ours, seconds: list[float]) -> str:
        """A step of ours; why there is none any more, or ""."""
        try:
            seconds.append(ours.run())
        except PoetError as error:
            self._ours.remove(ours)
            return f"{error} [{error.code}]"
        return ""

    def _ours_row(self, ours: Ours, seconds: list[float], others_seconds: float) -> OursRow:
        peak_bytes = ours.peak_bytes()  # before the state is read: that is not training's
        compared = len(self._eager) - 1
        same_losses = ours.losses[:compared] == self._eager[:-1]
        # When eager is measured, ours has just made as many steps; its state is kept since then.
        bits = ours.fingerprint_after(compared)
        return OursRow(
            cap_bytes=ours.cap_bytes,
            planned_bytes=ours.planned_bytes,
            peak_bytes=peak_bytes,
            seconds=statistics.median(seconds),
            ratio=statistics.median(seconds) / others_seconds,
            gradient_error=ours.gradient_error,
            same_bits=same_losses and bits == self._eager[-1],
        )


if __name__ == "__main__":
    sys.exit(main())
