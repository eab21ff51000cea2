"""`poet serve` as its users start it: a process of its own, a state folder of its own, a free port
of the loopback address; and what that process and those under it hold in memory.

Invariant: at the end it was told to end, ended with status 0, and nothing of it is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.service_http import Address

_ENDS_SECONDS = 30.0
_LOOK_SECONDS = 0.2
# Adding up the pages of a process takes the kernel milliseconds: not at every look.
_LOOKS_A_SUM = 5
_KIB = 2**10


@dataclass(slots=True, kw_only=True)
class Service:
    """A running service. `profile` is where its event loop's profile will be, if one was wanted."""

    address: Address
    process: subprocess.Popen[str]
    state_dir: Path

    def peak_bytes(self) -> int:
        """The most that the API process has had in RAM since it began."""
        return _status_bytes(self.process.pid, "VmHWM")

    def cpu_seconds(self) -> float:
        """What the API process has taken of the CPUs since it began."""
        text = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii", errors="replace")
        user, system = text.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def service(
    settings: Mapping[str, object] | None = None, profile: Path | None = None
) -> Iterator[Service]:
    """A service with these settings, for the block. Raises RuntimeError where it does not end well."""
    with tempfile.TemporaryDirectory(prefix="poet-bench-", ignore_cleanup_errors=True) as folder:
        command = [sys.executable]
        command += ["-m", "cProfile", "-o", str(profile)] if profile else []
        command += ["-m", "poet_cli.main", "serve", "--port", "0", "--json"]
        environment = {
            **{name: value for name, value in os.environ.items() if "POET_SERVICE" not in name},
            "PYTHONPATH": os.pathsep.join(sys.path),
            "POET_SERVICE_STATE_DIR": str(Path(folder, "state")),
            **{
                f"POET_SERVICE_{name.upper()}": str(value)
                for name, value in (settings or {}).items()
            },
        }
        with (
            Path(folder, "log").open("w") as log,
            subprocess.Popen(
                command, env=environment, text=True, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log,
            ) as process,
        ):  # fmt: skip
            try:
                yield _begun(process, Path(folder))
            finally:
                complaint = _end(process, Path(folder, "log"))
            if complaint:
                raise RuntimeError(complaint)


def _begun(process: subprocess.Popen[str], folder: Path) -> Service:
    assert process.stdout is not None
    line = process.stdout.readline()
    address = json.loads(line or "{}").get("address")
    if address is None:
        said = Path(folder, "log").read_text(encoding="utf-8")[-2000:]
        raise RuntimeError(f"poet serve did not start: {line}{said}")
    return Service(address=Address.of(address), process=process, state_dir=folder / "state")


def _end(process: subprocess.Popen[str], log: Path) -> str:
    """End it; what was amiss about that."""
    family = [process.pid, *_under(process.pid)]
    process.send_signal(signal.SIGTERM)
    try:
        status = process.wait(_ENDS_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        return "poet serve did not end when it was told to"
    left = [pid for pid in family if Path(f"/proc/{pid}").exists() and _parent(pid) != 0]
    if not status and not left:
        return ""
    said = log.read_text(encoding="utf-8")[-2000:]
    return f"poet serve ended with {status}, left processes {left}: {said}"


@dataclass(slots=True, kw_only=True)
class Memory:
    """What was seen while one looked. The API process's pages in RAM, and the proportional share of
    the whole service: what several processes share is counted once."""

    api_bytes: list[int] = field(default_factory=list)
    whole_bytes: list[int] = field(default_factory=list)
    processes: int = 0


@contextlib.asynccontextmanager
async def watched(process_id: int) -> AsyncIterator[Memory]:
    """Look at a process's memory, and at that of all processes under it, during the block."""
    memory = Memory()

    async def look() -> None:
        for number in range(10**9):
            memory.api_bytes.append(_status_bytes(process_id, "VmRSS"))
            if number % _LOOKS_A_SUM == 0:
                family = [process_id, *_under(process_id)]
                memory.whole_bytes.append(sum(map(_share_bytes, family)))
                memory.processes = max(memory.processes, len(family))
            await asyncio.sleep(_LOOK_SECONDS)

    looking = asyncio.create_task(look())
    try:
        yield memory
    finally:
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


def _status_bytes(process_id: int, name: str) -> int:
    text = Path(f"/proc/{process_id}/status").read_text(encoding="ascii", errors="replace")
    return _line_bytes(text, name)


def _share_bytes(process_id: int) -> int:
    try:
        text = Path(f"/proc/{process_id}/smaps_rollup").read_text(encoding="ascii")
    except OSError:  # it has ended
        return 0
    return _line_bytes(text, "Pss")


def _line_bytes(text: str, name: str) -> int:
    found = next((line for line in text.splitlines() if line.startswith(f"{name}:")), f"{name}: 0")
    return int(found.split()[1]) * _KIB


def _under(process_id: int) -> list[int]:
    """Children, their children, and so on."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            children.setdefault(_parent(int(entry.name)), []).append(int(entry.name))
    found, new = [], [process_id]
    while new:
        new = [child for parent in new for child in children.get(parent, ())]
        found += new
    return found


def _parent(process_id: int) -> int:
    """0 where the process is gone, or only waits to be forgotten."""
    try:
        text = Path(f"/proc/{process_id}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    state, parent = text.rpartition(")")[2].split()[:2]
    return 0 if state == "Z" else int(parent)
