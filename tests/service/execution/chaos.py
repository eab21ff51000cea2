"""Everything of an embedded service is killed, at random moments and around each write of a solve.

Afterwards, whatever was killed: each solve has ended, once; what finished passes the judge; nothing
failed that was not to fail; no process and no file is left.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import os
import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from poet_service.database.store import Store
from poet_service.jobs.records import EventKind
from poet_service.jobs.states import SolveState
from tests.service.chaos_report import ChaosReport
from tests.service.execution.cases import (
    NEEDS_SEARCH,
    judged_cost,
    lives,
    processes_below,
    request_bytes,
    submit,
    until,
)
from tests.service.execution.hosts import ODD_CHILD, Host, hosted

# Every write of a solve by its worker: all its transitions, and what comes between.
WRITES = ("claim", "incumbent", "log", "heartbeat", "progress", "bound", "finish", "lost")
_MOMENTS = [f"{when}:{write}" for when in ("before", "after") for write in WRITES]
_LIVES = ("steps", "answer", "litter", "crash", "deaf", "hold")
_SOLVES_WAITING = 6
# Ends of killed children without a plan, and of hosts that died twice under a solve.
_HONEST = frozenset({"solver_crashed", "solver_overran", "not_found_in_time", "worker_lost"})


def run_chaos(store: Store, folder: Path, *, child: str, kills: int) -> ChaosReport:
    """So many kills at least, then a service that nobody kills; then the checks, which raise
    AssertionError. `child`: the module of a child's life."""
    chaos = _Chaos(store=store, folder=folder, child=child, random=random.Random(6))
    moments = itertools.chain.from_iterable(itertools.repeat([*_MOMENTS, None, None]))
    while chaos.report.kills.total() < kills:
        chaos.ask()
        chaos.live_and_die(next(moments))
    chaos.settle()
    chaos.report.asked = len(chaos.solves)
    for solve_id, life in chaos.solves.items():
        chaos.check(solve_id, life)
    until(lambda: not processes_below(folder), seconds=10)
    left = [str(process) for process in chaos.warm if lives(process)]
    left += [path.name for path in (folder / "solves").iterdir() if path.name != "making"]
    assert left == []
    chaos.report.left_over = len(left)
    chaos.report.end()
    return chaos.report


@dataclass
class _Chaos:
    """The solves that were asked for, and what was killed."""

    store: Store
    folder: Path
    child: str
    random: random.Random
    report: ChaosReport = field(default_factory=ChaosReport)
    solves: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, str] = field(default_factory=dict)
    warm: list[int] = field(default_factory=list)

    def ask(self) -> None:
        """There is always something to do, and now and then nobody wants something any more."""
        while len(self.store.queued(_SOLVES_WAITING)) < _SOLVES_WAITING:
            life = self.random.choice(_LIVES)
            request = (
                request_bytes(life, wall_seconds=1.0)
                if self.child == ODD_CHILD
                else request_bytes(life, ram_bytes=NEEDS_SEARCH, wall_seconds=0.5)
            )
            job_id, solve_id = submit(self.store, request)
            self.solves[solve_id], self.jobs[solve_id] = life, job_id
        if self.random.random() < 0.2:
            gone = self.random.choice(list(self.jobs.values()))
            self.store.leave(gone, 0, discard=False)

    def live_and_die(self, moment: str | None) -> None:
        """One service until it dies: at that moment of its own, or by our hand after other deaths."""
        kill = f"{moment}:{self.random.randint(1, 3)}" if moment else None
        with hosted(self.folder, self.child, solves=2, kill=kill) as host:
            if host.warm is not None:
                self.warm.append(host.warm)
                self._kill_within(host)
            code = host.process.poll()
            assert code in (None, -signal.SIGKILL), f"it ended by itself: {code}"
            died_at = "whenever" if code is None else moment
            host.process.kill()
            host.process.wait()
        self.report.kills[f"service, {died_at}"] += 1

    def _kill_within(self, host: Host) -> None:
        """Children and warm processes die too, while the service lives."""
        for _ in range(self.random.randint(2, 12)):
            time.sleep(self.random.uniform(0.0, 0.4))
            if host.process.poll() is not None:
                return
            self.ask()
            below = processes_below(self.folder / "solves")
            if below:
                _kill(self.random.choice(below))
                self.report.kills["child, whenever"] += 1
            elif self.random.random() < 0.3 and host.warm is not None and lives(host.warm):
                _kill(host.warm)
                self.report.kills["warm process, whenever"] += 1

    def settle(self) -> None:
        """A last service that nobody kills."""
        with hosted(self.folder, self.child, solves=2) as host:
            assert host.warm is not None
            self.warm.append(host.warm)
            for solve_id, life in self.solves.items():
                if life in ("hold", "deaf", "litter") and self.child == ODD_CHILD:
                    self.store.leave(self.jobs[solve_id], 0, discard=False)
            until(lambda: not self.store.running() and not self.store.queued(1), seconds=600)
            host.process.send_signal(signal.SIGTERM)
            assert host.process.wait(60) == 0

    def check(self, solve_id: str, life: str) -> None:
        """It has ended, once, and as it may."""
        record = self.store.solve(solve_id)
        assert record is not None
        assert record.state.ended, f"{life}: {record}"
        self.report.solves[record.state] += 1
        self.report.losses += record.losses
        ends = [one for one in self.store.events(solve_id, 0, 4096) if one.kind is EventKind.DONE]
        assert [one.data["state"] for one in ends] == [record.state]
        if record.state is SolveState.FINISHED or record.has_plan:
            cost = judged_cost(self.store, solve_id)
            self.report.judged += 1
            if record.state is SolveState.FINISHED:
                assert record.cost is not None
                assert math.isclose(cost, record.cost, rel_tol=1e-6)
        if record.state is SolveState.FAILED:
            assert record.error is not None
            code = record.error["code"]
            assert code in _HONEST
            assert code != "worker_lost" or record.losses >= 1
            self.report.errors[code] += 1


def _kill(process_id: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(process_id, signal.SIGKILL)
