"""What flash costs: `python -m benchmarks.flash [--write]`.

    the file alone    GB/s and CPU of transfers, past the page cache and through it, by checksum
    a training step   24 layers of 1024 x 1024 with Adam in 35% of keep-everything, inside a memory
                      cgroup that leaves 16 MiB beside the plan: the time of a step against the
                      same step without a budget

Each configuration trains in a process of its own, one after the other, round by round, with the
arena where there is one; medians of all steps. Without the right to make a cgroup the second table
says so: through the page cache a file is then no slower than RAM.
"""

from __future__ import annotations

import json
import mmap
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from poet_core.devices import load_device
from poet_core.documents import canonical_json
from poet_core.plan_document import plan_to_document, read_plan
from poet_runtime import TrainStep
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.pager import Pager
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.memory.arena import arena_environment, why_no_arena
from poet_runtime.memory.cgroup import memory_cgroup
from poet_runtime.tracing.trace import trace

_RESULT = Path(__file__).resolve().parent / "results" / "flash.md"
_MIB = 2**20
_COPY_BYTES, _COPIES = 8 * _MIB, 24
_SLACK_BYTES = 16 * _MIB
_ROUNDS, _STEPS = 3, 5
_NO_BUDGET = "no budget"
_OPTIONS = {
    "direct, sums": FlashOptions(),
    "direct, CRC": FlashOptions(checksums=Checksums.CRC),
    "direct, sampled": FlashOptions(checksums=Checksums.SAMPLED),
    "page cache, sums": FlashOptions(direct=False),
}


def main(arguments: list[str]) -> int:
    """Measure, print, and with --write keep the tables."""
    torch.set_num_threads(1)
    if arguments[:1] == ["child"]:
        _train(arguments[1], Path(arguments[2]))
        return 0
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        text = f"{_file_table(Path(folder))}\n{_step_table(Path(folder))}"
    print(text)
    if "--write" in arguments:
        _RESULT.write_text(text)
    return 0


def _file_table(folder: Path) -> str:
    lines = [
        "| file alone | memory | write GB/s | CPU s/GB | read GB/s | CPU s/GB |",
        "|---|---|---|---|---|---|",
    ]
    with mmap.mmap(-1, _COPY_BYTES) as buffer:
        aligned = torch.frombuffer(buffer, dtype=torch.uint8).random_()
        # As libc's allocator gives it to torch: 64 bytes into a page.
        other = torch.empty(_COPY_BYTES + 64, dtype=torch.uint8)[64:].random_().clone()
        for name, options in _OPTIONS.items():
            for memory, tensor in (("whole pages", aligned), ("64 bytes", other)):
                cells = " | ".join(_transfers(folder, options, tensor))
                lines.append(f"| {name} | {memory} | {cells} |")
        del aligned
    return "\n".join(lines) + "\n"


def _transfers(folder: Path, options: FlashOptions, tensor: torch.Tensor) -> list[str]:
    """Rate and CPU of writing and of reading what has been written before; medians of 5."""
    pager = Pager(_COPIES * _COPY_BYTES, folder, options)
    cells: list[str] = []
    for copy in range(_COPIES):
        pager.page_out(copy, copy * _COPY_BYTES, tensor)
    for move in (pager.page_out, pager.page_in):
        figures: list[tuple[float, float]] = []
        for _ in range(5):
            pager.drain()
            cpu, started = _cpu_seconds(), time.perf_counter()
            for copy in range(_COPIES):
                move(copy, copy * _COPY_BYTES, tensor)
            pager.drain()
            gigabytes = _COPIES * _COPY_BYTES / 1e9
            seconds = time.perf_counter() - started
            figures.append((gigabytes / seconds, (_cpu_seconds() - cpu) / gigabytes))
        rate, cpu = (statistics.median(column) for column in zip(*figures, strict=True))
        cells += [f"{rate:.2f}", f"{cpu:.2f}"]
    pager.close()
    return cells


def _cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _step_table(folder: Path) -> str:
    plan = folder / "plan.json"
    _make_plan(plan)
    found: dict[str, list[dict[str, Any]]] = {}
    for _ in range(_ROUNDS):
        for name in (_NO_BUDGET, *_OPTIONS):
            found.setdefault(name, []).append(_child(name, plan))
    lines = [
        "| training step | ms | ratio | CPU ms | MB moved | I/O ms | waited ms | hidden |",
        "|---|---|---|---|---|---|---|---|",
    ]
    base = _median(found[_NO_BUDGET], "seconds")
    for name, runs in found.items():
        seconds, busy = _median(runs, "seconds"), _median(runs, "busy")
        cells = [
            f"{1e3 * seconds:.0f}",
            f"{seconds / base:.2f}",
            f"{1e3 * _median(runs, 'cpu'):.0f}",
        ]
        if busy:
            waited = _median(runs, "waited")
            cells += [
                f"{runs[0]['moved'][0] / 1e6:.0f}",
                f"{1e3 * busy:.0f}",
                f"{1e3 * waited:.0f}",
            ]
            cells.append(f"{1 - waited / busy:.0%}")
        lines.append(f"| {name} | {' | '.join(cells + [''] * (7 - len(cells)))} |")
    arena = why_no_arena() or "With the arena."
    return (
        "\n".join(lines)
        + f"\n\n{read_plan(plan.read_bytes()).claims.peak_bytes / _MIB:.0f} MiB planned. {arena}\n"
    )


def _median(runs: list[dict[str, Any]], key: str) -> float:
    values: list[float] = [value for run in runs for value in run[key]]
    return statistics.median(values)


def _setting() -> tuple[nn.Module, Any, torch.optim.Optimizer, tuple[torch.Tensor, torch.Tensor]]:
    torch.manual_seed(0)
    layers = [layer for _ in range(24) for layer in (nn.Linear(1024, 1024), nn.ReLU())]
    model = nn.Sequential(*layers)
    batch = torch.randn(256, 1024), torch.randn(256, 1024)
    return model, nn.functional.mse_loss, torch.optim.Adam(model.parameters(), fused=True), batch


def _make_plan(path: Path) -> None:
    """A plan for 35%, by the planner, with the compute speed of this machine."""
    with TrainStep(*_setting()) as step:
        keep_bytes = step.judgement.peak_bytes
    with TrainStep(
        *_setting(), device=load_device("host"), ram=keep_bytes * 35 // 100, wall_seconds=40,
        flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        path.write_text(json.dumps(json.loads(canonical_json(plan_to_document(step.plan)))))


def _child(name: str, plan: Path) -> dict[str, Any]:
    environment = None if why_no_arena() else arena_environment()
    with memory_cgroup() as group:
        command = [sys.executable, "-m", "benchmarks.flash", "child", name, str(plan)]
        child = subprocess.Popen(
            group.inside(command), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment,
        )  # fmt: skip
        assert child.stdin is not None
        assert child.stdout is not None
        more_bytes = int(child.stdout.readline())
        if more_bytes >= 0:
            group.limit(group.anonymous_bytes() + more_bytes + _SLACK_BYTES)
        print("go", file=child.stdin, flush=True)
        result: dict[str, Any] = json.loads(child.stdout.readline())
        child.wait()
        return result


def _train(name: str, plan_file: Path) -> None:
    """A child: says what a step takes beside what is resident now, waits, trains, reports."""
    model, loss_fn, optimizer, batch = _setting()
    program = trace(model, loss_fn, optimizer, batch)
    options: Mapping[str, Any] = {}
    if name != _NO_BUDGET:
        options = {
            "plan": read_plan(plan_file.read_bytes()), "flash": _OPTIONS[name],
            "paging_directory": plan_file.parent, "flash_write_bytes": 2**40,
        }  # fmt: skip
    with TrainStep(model, loss_fn, optimizer, batch, program=program, **options) as step:
        step(*batch)
        step.park()
        kept = sum(program.graph.storages[s].size_bytes for s in step.plan.schedule.start_ram)
        pager = step.running.pager
        print(-1 if name == _NO_BUDGET else step.judgement.peak_bytes - kept, flush=True)
        sys.stdin.readline()
        step(*batch)
        result: dict[str, list[float]] = {
            key: [] for key in ("seconds", "cpu", "busy", "waited", "moved")
        }
        for _ in range(_STEPS):
            before, cpu, started = step.wear(), time.process_time(), time.perf_counter()
            moved = pager.bytes_read + pager.bytes_written if pager else 0
            step(*batch)
            after = step.wear()
            result["seconds"].append(time.perf_counter() - started)
            result["cpu"].append(time.process_time() - cpu)
            result["busy"].append(after.busy_seconds - before.busy_seconds)
            result["waited"].append(after.waited_seconds - before.waited_seconds)
            now = pager.bytes_read + pager.bytes_written if pager else 0
            result["moved"].append(now - moved)
        print(json.dumps(result), flush=True)
        # Bringing everything back, as closing does, would not fit into the group.
        os._exit(0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
