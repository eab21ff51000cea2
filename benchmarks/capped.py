"""Planned and measured memory of ResNet-18 in a process of its own, with and without a cap.

    python -m benchmarks.capped [--write] [--small]

Two blocks, 8 images of 112 px and 32 of 224 (`--small`: the first alone), each planned for a share of
keep-everything's peak and trained with SGD and momentum, one thread: libc and arena without a cap,
arena under two caps, libc under one. All workers of a block live at once and take turns, a step
each; figures are of the steps after the first, times medians, ratios medians of a turn's ratios to
the arena without a cap. `--write` writes results/capped.json and .md beside this file after each
block. Needs root, or a delegated memory group, and a C compiler; without one it says so and ends
with 0. Exit status 1 where losses differ, the arena's peak is over 1 MiB from the plan's, or an
arena was killed at its cap.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import pytest
import torch

from examples import resnet
from examples.parts import Step
from poet_core.devices import load_device
from poet_core.errors import ReplayError
from poet_core.plan import Plan
from poet_core.plan_request import PlanRequest
from poet_core.problem import make_problem
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.memory.cgroup import find_hierarchy
from poet_runtime.planner import obtain_plan, unconstrained_plan
from poet_runtime.program import Program
from poet_runtime.tracing.trace import trace
from tests.runtime.native_arena import arena_library

RESULTS = Path(__file__).resolve().parent / "results"
_MIB = 2**20
_STEPS = 5
_PLANNING_SECONDS = 15.0
_OFF_BYTES = _MIB


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A step, its budget as a share of keep-everything's peak, and the caps."""

    images: int
    pixels: int
    share: float
    caps_mib: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One worker: bytes and seconds are None where it was killed or nothing counts them."""

    step: str
    share: float
    planned_bytes: int
    flash_bytes_written: int
    allocator: str
    cap_mib: int | None
    killed: bool
    arena_bytes: int | None
    resident_bytes: int | None
    whole_bytes: int | None
    seconds: float | None
    ratio: float | None
    losses: tuple[str, ...]
    load_average: float


BLOCKS = (
    Block(images=8, pixels=112, share=0.6, caps_mib=(270, 255)),
    Block(images=32, pixels=224, share=0.7, caps_mib=(768, 728)),
)


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and say by the exit status whether plan and bits hold."""
    given = sys.argv[1:] if arguments is None else arguments
    try:
        find_hierarchy()
        library = arena_library()
    except (ReplayError, pytest.skip.Exception) as reason:
        print(f"Nothing measured: {reason}")
        return 0
    torch.set_num_threads(1)
    rows: list[Row] = []
    for block in BLOCKS[: 1 if "--small" in given else None]:
        rows += _measure(block, library)
        if "--write" in given:
            document = json.dumps([asdict(row) for row in rows], indent=1)
            (RESULTS / "capped.json").write_text(document + "\n", encoding="utf-8")
            (RESULTS / "capped.md").write_text(table(rows), encoding="utf-8")
    print(table(rows))
    return 0 if _holds(rows) else 1


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| step | allocator | cap | planned | arena less plan | resident | whole process | s | ratio |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cap = "none" if row.cap_mib is None else str(row.cap_mib)
        over = None if row.arena_bytes is None else row.arena_bytes - row.planned_bytes
        whole = "killed" if row.killed else _mib(row.whole_bytes)
        lines.append(
            f"| {row.step} | {row.allocator} | {cap} | {_mib(row.planned_bytes)} | {_mib(over, 2)} "
            f"| {_mib(row.resident_bytes)} | {whole} | {_number(row.seconds)} "
            f"| {_number(row.ratio)} |"
        )
    others = [
        (row.whole_bytes - row.resident_bytes) / _MIB
        for row in rows
        if row.whole_bytes is not None and row.resident_bytes is not None
    ]
    loads = [row.load_average for row in rows]
    lines.append("")
    lines.append(
        f"MiB; one thread, {_STEPS} steps after the first, on a machine that other work used too "
        f"(load average before a block {min(loads):.1f} to {max(loads):.1f}, "
        f"{os.cpu_count()} cores): times, and resident bytes without a cap, vary."
    )
    if others:
        lines.append(f"Whole process less resident: {min(others):.1f} to {max(others):.1f}.")
    for name in dict.fromkeys(row.step for row in rows):
        row = next(row for row in rows if row.step == name)
        lines.append(
            f"{name}: planned for {row.share:.0%} of keep-everything's peak, "
            f"{row.flash_bytes_written / _MIB:.0f} MiB written to flash a step; losses "
            f"{'identical' if _same_losses(rows, name) else 'DIFFERENT'}."
        )
    return "\n".join(lines) + "\n"


def _mib(size_bytes: int | None, digits: int = 0) -> str:
    return "" if size_bytes is None else f"{size_bytes / _MIB:.{digits}f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _holds(rows: list[Row]) -> bool:
    off = any(
        row.arena_bytes is not None and abs(row.arena_bytes - row.planned_bytes) > _OFF_BYTES
        for row in rows
    )
    killed = any(row.killed and row.allocator == "arena" for row in rows)
    return not off and not killed and all(_same_losses(rows, row.step) for row in rows)


def _same_losses(rows: list[Row], step: str) -> bool:
    """Those of a worker that was killed are compared as far as they go."""
    some = [row.losses for row in rows if row.step == step]
    longest = max(some, key=len)
    return all(losses == longest[: len(losses)] for losses in some)


def _build(block: Block) -> Step:
    return resnet.step(batch_size=block.images, image_size=block.pixels)


def _plan(block: Block) -> tuple[Program, Plan]:
    program = trace(*_build(block))
    host = load_device("host")
    problem = make_problem(program.graph, host, ram_bytes=host.ram_bytes)
    keep_bytes = unconstrained_plan(problem).claims.peak_bytes
    request = PlanRequest(
        graph=program.graph,
        device=host,
        ram_bytes=int(keep_bytes * block.share),
        wall_seconds=_PLANNING_SECONDS,
    )
    return program, obtain_plan(request, None)[0]


class _Worker:
    """One variant of a block."""

    def __init__(
        self, block: Block, program: Program, plan: Plan, library: Path | None, cap: int | None
    ) -> None:
        model, _, optimizer, self._batch = _build(block)
        torch.manual_seed(1)
        self.allocator = "arena" if library else "libc"
        self.cap_mib = cap
        self.killed = False
        self.losses: list[str] = []
        self.seconds: list[float] = []
        self.step: IsolatedStep | None = None
        with _Kills(self):
            self.step = IsolatedStep(
                model, optimizer, program, plan, self._batch, counted=True,
                arena=library or False, cap_bytes=None if cap is None else cap * _MIB,
            )  # fmt: skip

    def run(self) -> None:
        """A step, unless killed."""
        if self.killed or self.step is None:
            return
        with _Kills(self):
            self.losses.append(float(self.step(*self._batch).item()).hex())
            self.seconds.append(self.step.newest_step_seconds)

    def close(self) -> None:
        """Ends the worker; what it trained is not wanted."""
        if self.step is not None:
            error = RuntimeError("not wanted")
            self.step.__exit__(RuntimeError, error, None)


class _Kills:
    """Notes that the kernel killed the worker, and lets everything else through."""

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> bool:
        if not isinstance(error, ReplayError) or error.code != "worker_killed":
            return False
        self._worker.killed = True
        return True


def _measure(block: Block, library: Path) -> list[Row]:
    load = os.getloadavg()[0]
    program, plan = _plan(block)
    first, second = block.caps_mib
    variants: list[tuple[Path | None, int | None]] = [
        (None, None), (library, None), (library, first), (library, second), (None, first),
    ]  # fmt: skip
    with ExitStack() as exits:
        workers: list[_Worker] = []
        for variant in variants:
            workers.append(_Worker(block, program, plan, *variant))
            exits.callback(workers[-1].close)
        for _ in range(_STEPS + 1):
            for worker in workers:
                worker.run()
        return [_row(block, plan, worker, workers[1], load) for worker in workers]


def _row(block: Block, plan: Plan, worker: _Worker, base: _Worker, load: float) -> Row:
    memory = None if worker.killed or worker.step is None else worker.step.memory()
    seconds, base_seconds = worker.seconds[1:], base.seconds[1:]
    ratios = [one / other for one, other in zip(seconds, base_seconds, strict=False)]
    return Row(
        step=f"{block.images} x {block.pixels} px",
        share=block.share,
        planned_bytes=plan.claims.peak_bytes,
        flash_bytes_written=plan.claims.flash_bytes_written,
        allocator=worker.allocator,
        cap_mib=worker.cap_mib,
        killed=worker.killed,
        arena_bytes=memory.arena_bytes if memory else None,
        resident_bytes=memory.resident_bytes if memory else None,
        whole_bytes=memory.group_bytes if memory else None,
        seconds=statistics.median(seconds) if memory else None,
        ratio=statistics.median(ratios) if memory and ratios else None,
        losses=tuple(worker.losses),
        load_average=load,
    )


if __name__ == "__main__":
    sys.exit(main())
