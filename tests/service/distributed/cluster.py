"""A whole installation on this machine: workers and API processes as an operator starts them, on
one PostgreSQL.

Each process has a slot: a folder of its own (as a machine has its disk) and, for the API, a port;
whatever ends is started again in the same slot, as an orchestrator would. Every process of the
installation, down to the solvers, has the same HOME, by which it is found.
"""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

WAIT_SECONDS = 300.0

# Short, so that a test need not wait; long enough that a busy moment is no loss.
SETTINGS = {
    "POET_SERVICE_WORKER_HEARTBEAT_SECONDS": "0.5",
    "POET_SERVICE_RECONCILE_SECONDS": "0.5",
    "POET_SERVICE_QUEUE_DEPTH": "1000",
    "POET_SERVICE_ACTIVE_JOBS_PER_TOKEN": "1000",
}


@dataclass
class Slot:
    """A place for a process; `process` is the one that is there now."""

    kind: str
    folder: Path
    arguments: list[str]
    port: int = 0
    module: str = "poet_cli.main"
    process: subprocess.Popen[bytes] | None = None
    log_bytes: int = 0  # of the processes before this one

    @property
    def armed(self) -> Path:
        """What the process is to do at which write, where its module is `armed`."""
        return self.folder / "armed"

    def said(self) -> bytes:
        """What the process that is there now has written."""
        return (self.folder / "log").read_bytes()[self.log_bytes :]


@dataclass
class Cluster:
    """The processes. `home` marks them."""

    folder: Path
    url: str
    lost_seconds: float
    module: str = "poet_cli.main"
    grace_seconds: float = 5.0
    slots: list[Slot] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def temporary(self) -> Path:
        return self.folder / "tmp"

    def add_worker(self, solves: int = 1) -> Slot:
        return self._add("worker", ["--solves", str(solves)])

    def add_api(self) -> Slot:
        port = free_port()
        slot = self._add("serve", ["--port", str(port)])
        slot.port = port
        return slot

    def of_kind(self, kind: str) -> list[Slot]:
        return [slot for slot in self.slots if slot.kind == kind]

    def start(self, slot: Slot) -> None:
        with (slot.folder / "log").open("ab") as log:
            slot.log_bytes = log.tell()
            slot.process = subprocess.Popen(
                [sys.executable, "-m", slot.module, slot.kind, *slot.arguments],
                env=self._environment(slot),
                cwd=slot.folder,
                stdout=log,
                stderr=log,
            )

    def is_up(self, slot: Slot) -> bool:
        """Whether the process in the slot has said that it is ready."""
        return (b"solves at once" if slot.kind == "worker" else b"Listening on") in slot.said()

    def kill(self, slot: Slot) -> None:
        """SIGKILL, and the same slot again."""
        assert slot.process is not None
        slot.process.kill()
        slot.process.wait()
        self.start(slot)

    def kill_child(self, dice: random.Random, slot: Slot | None = None) -> bool:
        """SIGKILL something under a worker (this one): a warm process, a child or a solver. False
        without."""
        tops = {slot.process.pid for slot in self.slots if slot.process is not None}
        below = [pid for pid in self.processes() if pid not in tops]
        if slot is not None and slot.process is not None:
            below = [pid for pid in below if slot.process.pid in _above(pid)]
        if not below:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(dice.choice(below), signal.SIGKILL)
        return True

    def end(self) -> list[int]:
        """SIGTERM to all; their exit codes."""
        processes = [slot.process for slot in self.slots if slot.process is not None]
        for process in processes:
            process.terminate()
        codes = [process.wait(WAIT_SECONDS) for process in processes]
        for slot in self.slots:
            slot.process = None
        return codes

    def processes(self) -> list[int]:
        """Every living process of the installation."""
        marked = f"HOME={self.home}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                with contextlib.suppress(OSError):
                    is_ours = marked in (entry / "environ").read_bytes().split(b"\0")
                    if is_ours and b") Z " not in (entry / "stat").read_bytes():
                        found.append(int(entry.name))
        return found

    def close(self) -> None:
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for slot in self.slots:
            if slot.process is not None:
                slot.process.wait()

    def log(self) -> str:
        """The end of every slot's log, for a failed assertion."""
        return "\n".join(
            f"--- {slot.folder.name}\n{(slot.folder / 'log').read_text(errors='replace')[-3000:]}"
            for slot in self.slots
        )

    def _add(self, kind: str, arguments: list[str]) -> Slot:
        folder = self.folder / f"{kind}-{len(self.slots)}"
        for path in (folder, self.home, self.temporary):
            path.mkdir(parents=True, exist_ok=True)
        slot = Slot(kind=kind, folder=folder, arguments=arguments, module=self.module)
        self.slots.append(slot)
        return slot

    def _environment(self, slot: Slot) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        return (
            kept
            | SETTINGS
            | {
                "HOME": str(self.home),
                "TMPDIR": str(self.temporary),
                "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path))),
                "POET_SERVICE_DATABASE": self.url,
                "POET_SERVICE_WORKER_LOST_SECONDS": str(self.lost_seconds),
                "POET_SERVICE_WORKER_GRACE_SECONDS": str(self.grace_seconds),
                "POET_SERVICE_STATE_DIR": str(slot.folder / "state"),
                "POET_TEST_ARMED": str(slot.armed),
            }
        )


@contextlib.contextmanager
def cluster(
    folder: Path,
    url: str,
    *,
    workers: int,
    apis: int,
    lost_seconds: float = 4.0,
    module: str = "poet_cli.main",
    grace_seconds: float = 5.0,
) -> Iterator[Cluster]:
    """A running installation; whatever is left of it is killed in the end. `module` is what its
    processes are: the command `poet`, or `armed`."""
    made = Cluster(
        folder=folder,
        url=url,
        lost_seconds=lost_seconds,
        module=module,
        grace_seconds=grace_seconds,
    )
    try:
        for _ in range(workers):
            made.start(made.add_worker())
        for _ in range(apis):
            made.start(made.add_api())
        yield made
    finally:
        made.close()


@dataclass
class Client:
    """Asks either API process, whichever answers, as a client with retries does."""

    cluster: Cluster
    dice: random.Random
    meanwhile: Callable[[], None] = lambda: None

    def ask(self, method: str, path: str, *, gone: bool = False, **parts: Any) -> Any:
        """The JSON of an answer below 300, None of an empty one. Retries while nobody can answer,
        and calls `meanwhile` then. `gone`: 404 is an answer too, None."""
        deadline = time.monotonic() + WAIT_SECONDS
        with httpx.Client(trust_env=False, timeout=30) as client:
            while True:
                slot = self.dice.choice(self.cluster.of_kind("serve"))
                said: object = None
                try:
                    answer = client.request(method, f"http://127.0.0.1:{slot.port}{path}", **parts)
                    if answer.status_code < 300:
                        return answer.json() if answer.content else None
                    if gone and answer.status_code == 404:
                        return None
                    assert answer.status_code in {429, 503}, answer.text
                    said = answer.text
                except httpx.TransportError as error:
                    said = error
                assert time.monotonic() < deadline, f"{said}\n{self.cluster.log()}"
                self.meanwhile()
                time.sleep(0.1)


def wait_until(true: Callable[[], bool], what: Callable[[], object]) -> None:
    """Until it holds; `what` says what was there instead."""
    deadline = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < deadline, what()
        time.sleep(0.2)


def _above(pid: int) -> set[int]:
    """The processes that a process comes from."""
    found: set[int] = set()
    with contextlib.suppress(OSError):
        while pid > 1:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
            pid = int(stat.rpartition(")")[2].split()[1])
            found.add(pid)
    return found


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
