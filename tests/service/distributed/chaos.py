"""Kills everything that can be killed, at random moments and at the moments of every transition.

Three workers, two API processes, one PostgreSQL. Two things go on at the same time:

    by hand      at random moments a worker, an API process, something under a worker (SIGKILL) or
                 PostgreSQL (immediate stop, as in a crash) goes down; a worker is told to end
    at moments   each process is armed (armed.py) with a write of the Store before or after which it
                 dies, or waits until something under it or PostgreSQL has died

A thread is the orchestrator: it starts again what ended, and arms it anew. Meanwhile jobs are
posted, polled, left and erased as clients do.
"""

from __future__ import annotations

import contextlib
import functools
import random
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from poet_service.jobs.states import SolveState
from tests.service.chaos_report import ChaosReport
from tests.service.distributed.armed import API_WRITES, WORKER_WRITES
from tests.service.distributed.cluster import Client, Cluster, Slot, wait_until
from tests.service.distributed.problems import request_body
from tests.service.postgres import PostgresServer

WAITING = 8  # jobs under way at any time
# What goes down by hand in ten kills, shuffled.
HAND = ["worker"] * 3 + ["child"] * 4 + ["api"] * 2 + ["database"]
# Of what an armed worker waits for, or does itself.
DEATHS = ["worker"] * 4 + ["child", "database"]
# Why a process may end by itself where it begins: PostgreSQL is away, or what the worker forks its
# solves from was killed again and again before it was there.
_NO_BEGIN = (b"[database_unavailable]", b"[planner_unavailable]")
# A moment that has not come after so long is given up for another.
PATIENCE_SECONDS = 10.0


@dataclass(slots=True)
class _Arming:
    """What a process was told to do at which write, and when."""

    moment: str
    dies: str
    since: float


class Chaos:
    """Posts, kills, remembers. `bodies`: what was asked, by job; `left`: jobs that somebody stopped."""

    def __init__(self, made: Cluster, server: PostgresServer, seed: int) -> None:
        self.report = ChaosReport()
        self.by_hand = self.at_moments = 0
        self.bodies: dict[str, dict[str, Any]] = {}
        self.left: set[str] = set()
        self._cluster, self._server = made, server
        self._dice = random.Random(seed)
        self.client = Client(made, random.Random(seed), self._raise_fault)
        self._active: set[str] = set()
        self._asked = 0
        self._hand: list[str] = []
        # The orchestrator's, which has dice of its own.
        self._arming_dice = random.Random(seed)
        self._armings: dict[int, _Arming] = {}
        self._leaving: set[int] = set()
        self._reached = Counter[str]()
        self._holding = threading.Lock()
        self._ended = threading.Event()
        self._fault: BaseException | None = None

    # -- what clients do ----------------------------------------------------------------------

    def ask(self) -> None:
        """Keep some jobs under way; leave or erase one now and then."""
        self._raise_fault()
        for job_id in list(self._active):
            view = self.client.ask("GET", f"/v1/plans/{job_id}")
            if SolveState(view["state"]).ended:
                self._active.remove(job_id)
        while len(self._active) < WAITING:
            self._post()
        if self._dice.random() < 0.3:
            self._leave(self._dice.choice(sorted(self._active)))

    def _post(self) -> None:
        number, self._asked = self._asked, self._asked + 1
        body = request_body(number, wall_seconds=self._dice.choice((0.3, 0.6, 1.2)))
        headers = {"Idempotency-Key": f"chaos-{number}-{secrets.token_hex(4)}"}
        job_id = self.client.ask("POST", "/v1/plans", json=body, headers=headers)["id"]
        assert job_id not in self.bodies
        self.bodies[job_id] = body
        self._active.add(job_id)

    def _leave(self, job_id: str) -> None:
        self._active.remove(job_id)
        with self._holding:
            self._lie_in_wait("stopped", self._cluster.of_kind("worker"))
        if self._dice.random() < 0.3:
            self.client.ask("DELETE", f"/v1/plans/{job_id}?discard=true", gone=True)
            del self.bodies[job_id]
        else:
            self.client.ask("DELETE", f"/v1/plans/{job_id}")
            self.left.add(job_id)

    def pause(self) -> None:
        """A random moment."""
        time.sleep(self._dice.uniform(0.0, 0.5))

    # -- death by hand ------------------------------------------------------------------------

    def strike(self) -> None:
        """Kill something; nothing where there is no child to be killed."""
        if not self._hand:
            self._hand = self._dice.sample(HAND, len(HAND))
        what = self._hand[-1]
        with self._holding:
            if what == "database":
                self._server.restart(immediate=True)
            elif what == "child":
                self._lie_in_wait("fail", self._cluster.of_kind("worker"))
                if not self._cluster.kill_child(self._dice):
                    return
            else:
                slots = self._cluster.of_kind({"worker": "worker", "api": "serve"}[what])
                slot = self._dice.choice(slots)
                self._cluster.kill(slot)
                self._disarm(slot)
                self._leaving.discard(id(slot))
            self.report.kills[f"{self._hand.pop()}, whenever"] += 1
            self.by_hand += 1
            if self._dice.random() < 0.2:  # and somebody is told to end, which is no death
                slot = self._dice.choice(self._cluster.of_kind("worker"))
                if slot.process is not None and self._cluster.is_up(slot):
                    self._lie_in_wait("release", [slot])
                    self._leaving.add(id(slot))
                    slot.process.terminate()

    # -- the orchestrator ---------------------------------------------------------------------

    @contextlib.contextmanager
    def orchestrated(self) -> Iterator[None]:
        """Within, what ends is started again. Afterwards nobody is armed, and all are up."""
        thread = threading.Thread(target=self._orchestrate, name="orchestrator")
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()
        self._raise_fault()
        for slot in self._cluster.slots:
            self._disarm(slot)
            self._settle(slot)
            wait_until(functools.partial(self._is_up_at_last, slot), self._cluster.log)

    def _is_up_at_last(self, slot: Slot) -> bool:
        self._restart_if_ended(slot)
        return self._cluster.is_up(slot)

    def _orchestrate(self) -> None:
        try:
            while not self._ended.wait(0.02):
                for slot in self._cluster.slots:
                    with self._holding:
                        self._settle(slot)
                        self._restart_if_ended(slot)
                        self._arm(slot)
        except BaseException as error:  # noqa: BLE001  Told to the thread that asks.
            self._fault = error

    def _raise_fault(self) -> None:
        if self._fault is not None:
            raise AssertionError("the orchestrator failed") from self._fault

    def _settle(self, slot: Slot) -> None:
        """Carry out what the process in the slot waits for, if it does; note what it has done."""
        reached = slot.armed.with_suffix(".reached")
        if not reached.exists():
            return
        arming = self._armings.pop(id(slot), None)
        assert arming is not None
        assert slot.process is not None
        if arming.dies == "database":
            self._server.restart(immediate=True)
        elif arming.dies == "child" and not self._cluster.kill_child(self._arming_dice, slot):
            arming.dies = "nothing"
        elif arming.dies == slot.kind:
            slot.process.wait()
        reached.unlink()
        if arming.dies != "nothing":
            self._reached[arming.moment] += 1
            name = {"serve": "api"}.get(arming.dies, arming.dies)
            self.report.kills[f"{name}, {arming.moment}"] += 1
            self.at_moments += 1

    def _restart_if_ended(self, slot: Slot) -> None:
        """Start a process again, unless it lives. It was killed, told to end, or could not begin."""
        assert slot.process is not None
        code = slot.process.poll()
        if code is None:
            return
        self._settle(slot)
        told = id(slot) in self._leaving and code == 0
        could_not = not self._cluster.is_up(slot) and any(why in slot.said() for why in _NO_BEGIN)
        assert code == -9 or told or could_not, (
            f"{slot.folder.name} ended by itself: {code}\n{self._cluster.log()}"
        )
        self._leaving.discard(id(slot))
        self._disarm(slot)
        self._cluster.start(slot)

    def _arm(self, slot: Slot) -> None:
        """With a moment that was reached the least so far; with any where that does not come."""
        standing = self._armings.get(id(slot))
        if standing is not None and time.monotonic() - standing.since < PATIENCE_SECONDS:
            return
        writes = WORKER_WRITES if slot.kind == "worker" else API_WRITES
        moments = [f"{when}:{write}" for when in ("before", "after") for write in writes]
        if standing is not None:
            moment = self._arming_dice.choice(moments)
        else:
            moment = min(moments, key=lambda one: (self._reached[one], self._arming_dice.random()))
        self._tell(slot, moment, self._arming_dice.choice((1, 1, 2)))

    def _lie_in_wait(self, write: str, slots: list[Slot]) -> None:
        """Now and then: what is about to be done makes this write likely, which is rare."""
        if self._dice.random() < 0.5:
            moment = self._dice.choice((f"before:{write}", f"after:{write}"))
            for slot in slots:
                self._tell(slot, moment, 1)

    def _tell(self, slot: Slot, moment: str, number: int) -> None:
        """What the process in the slot shall do from now on, instead of what it was told."""
        if id(slot) in self._armings:
            try:
                slot.armed.unlink()
            except FileNotFoundError:  # it does it this very moment
                return
        dies = self._arming_dice.choice(DEATHS) if slot.kind == "worker" else slot.kind
        self._armings[id(slot)] = _Arming(moment=moment, dies=dies, since=time.monotonic())
        what = "die" if dies == slot.kind else "hold"
        written = slot.armed.with_suffix(".new")
        written.write_text(f"{moment} {number} {what}", encoding="ascii")
        written.rename(slot.armed)

    def _disarm(self, slot: Slot) -> None:
        """What it was told no longer holds, reached or not."""
        for file in (slot.armed, slot.armed.with_suffix(".reached")):
            file.unlink(missing_ok=True)
        self._armings.pop(id(slot), None)
