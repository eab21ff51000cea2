"""Whole training steps under hard caps: BERT-base, ResNet-18, GPT-2 and ViT-B/16, against no cap.

    python -m benchmarks.caps [CASE ...] [--steps 5] [--write] [--plot-only]

CASE: bert, resnet, gpt2, vit (`small`: a check of this program, a minute). For each case:
eager PyTorch in a memory group that only counts, then under each cap, to see it killed; the step as
traced without a cap, with the arena ("ref"), and for each cap a plan for time in what the cap leaves
beside the worker, all trained at once, taking turns, a step each. One thread; figures are of the
steps after the first. `--write` puts each case into results/caps.json as soon as it is measured,
and the table into caps.md. Needs root, or a delegated memory group, and a C compiler; without one
it says so and ends with 0. Exit status 1 where a bit differs, a worker was killed, or the plan's
peak, its memory, its time or a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from benchmarks.caps_cases import CASES, SEED, Case, Target
from benchmarks.caps_report import Row, load_rows, missed, store_rows, table
from benchmarks.throttled_disk import throttled_disk
from poet_core.device import DeviceProfile
from poet_core.devices import load_device
from poet_core.errors import ReplayError
from poet_core.plan import Objective, Plan
from poet_core.plan_request import PlanRequest
from poet_core.problem import make_problem
from poet_runtime.fingerprint import fingerprint
from poet_runtime.flash.calibrate import calibrated_host
from poet_runtime.isolated.budget import plan_budget_bytes
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.memory.cgroup import find_hierarchy, run_in_cgroup
from poet_runtime.planner import obtain_plan, unconstrained_plan
from poet_runtime.program import Program
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.native_arena import arena_library

_MIB = 2**20
_PLANNING_SECONDS = 45.0
# Ops that need more than this share of the plan's budget are split, and updates chunked.
_SPLIT_SHARE = 0.5


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and say by the exit status what was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caps", description=__doc__)
    parser.add_argument("cases", nargs="*", metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--steps", type=int, default=5, help="measured steps, after a first one")
    parser.add_argument("--write", action="store_true", help="keep the results")
    parser.add_argument("--plot-only", action="store_true", help="print what is kept")
    given = parser.parse_args(arguments)
    names = given.cases or [name for name in CASES if name != "small"]
    unknown = [name for name in names if name not in CASES]
    if unknown:
        parser.error(f"expected cases of {', '.join(CASES)}, got {', '.join(unknown)}")
    if given.plot_only:
        print(table(load_rows()))
        return 0
    try:
        find_hierarchy()
        library = arena_library()
    except (ReplayError, pytest.skip.Exception) as reason:
        print(f"Nothing measured: {reason}")
        return 0
    torch.set_num_threads(1)
    rows: list[Row] = []
    for name in names:
        found = _measure(name, CASES[name], given.steps, library)
        rows += found
        if given.write:
            store_rows(name, found)
        print(table(found), flush=True)
    for complaint in missed(rows):
        print(complaint)
    return 1 if missed(rows) else 0


@dataclass(slots=True, kw_only=True)
class _Eager:
    """What eager PyTorch did: bytes, seconds a step, and the bits at its end."""

    peak_bytes: int
    seconds: list[float]
    fingerprint: str
    killed: bool


def _eager(name: str, steps: int, cap_bytes: int | None) -> _Eager:
    ended = run_in_cgroup(
        [sys.executable, "-m", "benchmarks.caps_eager", name, str(steps)],
        cap_bytes,
        environment={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if ended.exit_status and not ended.oom_killed:
        raise RuntimeError(f"eager {name} failed: {ended.stderr[-500:]}")
    lines = [json.loads(line) for line in ended.stdout.splitlines()]
    return _Eager(
        peak_bytes=ended.peak_bytes or 0,
        seconds=[line["seconds"] for line in lines if "seconds" in line],
        fingerprint=next((line["fingerprint"] for line in lines if "fingerprint" in line), ""),
        killed=ended.oom_killed,
    )


class _Worker:
    """The step without a cap ("ref", cap_bytes None), or a plan under a cap."""

    def __init__(
        self, case: Case, cap_bytes: int | None, target: Target | None, library: Path
    ) -> None:
        self.cap_bytes, self.target = cap_bytes, target
        self.seconds: list[float] = []
        self.losses: list[str] = []
        self.killed = False
        model, loss_fn, optimizer, self._batch = case.build()
        self._model, self._optimizer = model, optimizer
        options = StepOptions(
            split_above_bytes=int(_SPLIT_SHARE * plan_budget_bytes(cap_bytes))
            if cap_bytes
            else None
        )
        program = trace(
            model, loss_fn, optimizer, self._batch, measure_seconds=True, options=options
        )
        self.budget_bytes = (
            plan_budget_bytes(cap_bytes, ops=len(program.graph.ops)) if cap_bytes else None
        )
        self.plan = self._plan(program)
        torch.manual_seed(SEED)
        rate = target.disk_bytes_per_second if target else None
        with throttled_disk(rate) if rate else nullcontext():
            self.step = IsolatedStep(
                model, optimizer, program, self.plan, self._batch, cap_bytes=cap_bytes,
                counted=True, arena=library,
            )  # fmt: skip

    def _plan(self, program: Program) -> Plan:
        if self.budget_bytes is None:
            host = load_device("host")
            return unconstrained_plan(make_problem(program.graph, host, ram_bytes=host.ram_bytes))
        request = PlanRequest(
            graph=program.graph,
            device=_this_machine(self.target),
            ram_bytes=self.budget_bytes,
            objective=Objective.TIME,
            wall_seconds=_PLANNING_SECONDS,
        )
        return obtain_plan(request, None)[0]

    def run(self) -> None:
        """A step, unless the kernel killed the worker."""
        if self.killed:
            return
        try:
            self.losses.append(float(self.step(*self._batch).item()).hex())
        except ReplayError as error:
            if error.code != "worker_killed":
                raise
            self.killed = True
        else:
            self.seconds.append(self.step.newest_step_seconds)

    def bits(self) -> str:
        """The fingerprint of the state that the worker has; "" where it was killed."""
        if self.killed:
            return ""
        try:
            self.step.collect()
        except ReplayError as error:  # the row then says so by its bits
            print(f"  not collected: {error}", flush=True)
            return ""
        return fingerprint(self._model, self._optimizer)

    def close(self) -> None:
        """Ends the worker; what it trained has been looked at."""
        self.step.__exit__(RuntimeError, RuntimeError("not wanted"), None)


def _measure(name: str, case: Case, steps: int, library: Path) -> list[Row]:
    load = os.getloadavg()[0]
    eager = _eager(name, steps + 1, None)
    print(
        f"{case.title}: eager peaks at {eager.peak_bytes / _MIB:.0f} MiB, "
        f"{statistics.median(eager.seconds[1:]):.2f} s a step",
        flush=True,
    )
    with ExitStack() as exits:
        workers: list[_Worker] = []
        caps = {target: target.cap_bytes(eager.peak_bytes) for target in case.targets}
        for target in (None, *case.targets):
            cap_bytes = caps[target] if target else None
            workers.append(_Worker(case, cap_bytes, target, library))
            exits.callback(workers[-1].close)
            claims = workers[-1].plan.claims
            print(
                f"  cap {(cap_bytes or 0) / _MIB:.0f}: plan {claims.peak_bytes / _MIB:.0f} MiB, "
                f"{claims.step_seconds:.2f} s, {claims.flash_bytes_written / _MIB:.0f} MiB written",
                flush=True,
            )
        for _ in range(steps + 1):
            for worker in workers:
                worker.run()
        killed = {cap: _eager(name, 1, cap).killed for cap in set(caps.values())}
        return [_row(name, worker, workers[0], eager, killed, load) for worker in workers]


def _row(
    name: str,
    worker: _Worker,
    ref: _Worker,
    eager: _Eager,
    eager_killed: dict[int, bool],
    load: float,
) -> Row:
    memory = None if worker.killed else worker.step.memory()
    wear = None if worker.killed else worker.step.wear()
    seconds, base = worker.seconds[1:], ref.seconds[1:]
    cap = worker.cap_bytes
    bits = worker.bits()
    return Row(
        case=name,
        cap_bytes=cap,
        budget_bytes=worker.budget_bytes,
        planned_bytes=worker.plan.claims.peak_bytes,
        predicted_seconds=worker.plan.claims.step_seconds,
        flash_bytes_written=worker.plan.claims.flash_bytes_written,
        recomputed_ops=_recomputed(worker.plan),
        killed=worker.killed,
        arena_bytes=memory.arena_bytes if memory else None,
        resident_bytes=memory.resident_bytes if memory else None,
        group_bytes=memory.group_bytes if memory else None,
        excess_at=memory.excess_at if memory else "",
        seconds=statistics.median(seconds) if seconds else None,
        ratio=statistics.median(seconds) / statistics.median(base) if seconds and base else None,
        hidden=wear.hidden if wear else None,
        bits=bits,
        same_as_eager=bool(bits) and bits == eager.fingerprint,
        eager_bytes=eager.peak_bytes,
        eager_seconds=statistics.median(eager.seconds[1:]),
        eager_killed=eager_killed.get(cap) if cap is not None else None,
        target=worker.target.ratio if worker.target else None,
        disk_bytes_per_second=worker.target.disk_bytes_per_second if worker.target else None,
        load_average=load,
    )


def _this_machine(target: Target | None) -> DeviceProfile:
    """The machine as measured; a throttled disk at what it is throttled to."""
    profile = calibrated_host()
    rate = target.disk_bytes_per_second if target else None
    if rate is None:
        return profile
    return replace(profile, page_in_bytes_per_second=rate, page_out_bytes_per_second=rate)


def _recomputed(plan: Plan) -> int:
    """Runs of ops beyond the first."""
    runs = [i.target for i in plan.schedule.instructions if i.do.value == "compute"]
    return len(runs) - len(set(runs))


if __name__ == "__main__":
    sys.exit(main())
