"""A memory limit that the kernel enforces: a control group of our own, for one child process.

    with memory_cgroup(512 << 20) as group:
        subprocess.run(group.inside(["python", "train.py"]))
        group.peak_bytes(), group.oom_kills()

Both versions of the kernel's interface (cgroups(7)): v1's memory hierarchy, and v2's. Swap is off
inside, so that what does not fit is killed and not slow. The kernel's count is of everything: code
and file cache that the child touches first included. Invariant: when the block ends its processes
are dead and its directory is gone; nothing outside that directory is changed but one line of v2's
`cgroup.subtree_control`, which hands the memory controller down.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from poet_core.errors import ReplayError
from poet_core.text import printable

_SHELL = "/bin/sh"
# $0 is the group's list of processes: the shell enters the group and becomes the command.
_ENTER = 'echo $$ > "$0" && exec "$@"'
_REMOVE_TRIES, _REMOVE_PAUSE_SECONDS = 50, 0.02  # a killed process leaves its group a moment later


@dataclass(frozen=True, slots=True, kw_only=True)
class Hierarchy:
    """Where groups can be made: the version of the interface, and the directory they are made in."""

    version: int
    parent: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended inside a group. `peak_bytes` is None where the kernel does not count it
    (v2 before Linux 5.19)."""

    exit_status: int
    oom_killed: bool
    peak_bytes: int | None
    stdout: str
    stderr: str


class MemoryCgroup:
    """One group; made by `memory_cgroup`."""

    def __init__(self, hierarchy: Hierarchy, directory: Path) -> None:
        self.version, self.directory = hierarchy.version, directory

    def inside(self, command: Sequence[str]) -> list[str]:
        """The command that enters the group and then becomes `command`, in the same process."""
        return [_SHELL, "-c", _ENTER, str(self.directory / "cgroup.procs"), *command]

    def limit(self, limit_bytes: int) -> None:
        """Sets the limit, of memory and of memory with swap alike."""
        if self.version == 1:
            self._write("memory.limit_in_bytes", limit_bytes)
            if (self.directory / "memory.memsw.limit_in_bytes").exists():
                self._write("memory.memsw.limit_in_bytes", limit_bytes)
            else:
                self._write("memory.swappiness", 0)
        else:
            self._write("memory.max", limit_bytes)
            if (self.directory / "memory.swap.max").exists():
                self._write("memory.swap.max", 0)

    def usage_bytes(self) -> int:
        """What is charged to the group now."""
        return self._number("memory.usage_in_bytes" if self.version == 1 else "memory.current")

    def anonymous_bytes(self) -> int:
        """What is charged now and is no file's: what the kernel cannot take back."""
        counts = dict(line.split() for line in self._read("memory.stat").splitlines())
        return int(counts["total_rss" if self.version == 1 else "anon"])

    def peak_bytes(self) -> int | None:
        """The most that was ever charged to it, or None where the kernel does not count that."""
        name = "memory.max_usage_in_bytes" if self.version == 1 else "memory.peak"
        return self._number(name) if (self.directory / name).exists() else None

    def reset_peak(self) -> bool:
        """Lets the peak begin again from what is charged now; False where the kernel cannot."""
        if self.version != 1:
            return False  # v2's counter begins again for one open file only, and not before 6.12
        self._write("memory.max_usage_in_bytes", 0)
        return True

    def oom_kills(self) -> int:
        """How many of its processes the kernel killed because the limit was reached."""
        name = "memory.oom_control" if self.version == 1 else "memory.events"
        counts = dict(line.split() for line in self._read(name).splitlines())
        return int(counts.get("oom_kill", 0))

    def remove(self) -> None:
        """Kills what is left inside and removes the group."""
        for attempt in range(_REMOVE_TRIES):
            with suppress(OSError):
                for process in self._read("cgroup.procs").split():
                    os.kill(int(process), signal.SIGKILL)
            try:
                self.directory.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if attempt == _REMOVE_TRIES - 1:
                    raise _fault("removing", self.directory, error) from error
                time.sleep(_REMOVE_PAUSE_SECONDS)
            else:
                return

    def _write(self, name: str, value: int) -> None:
        try:
            (self.directory / name).write_text(str(value))
        except OSError as error:
            raise _fault(f"writing {value} to", self.directory / name, error) from error

    def _read(self, name: str) -> str:
        return (self.directory / name).read_text()

    def _number(self, name: str) -> int:
        return int(self._read(name))


@contextmanager
def memory_cgroup(
    limit_bytes: int | None = None, *, hierarchy: Hierarchy | None = None
) -> Iterator[MemoryCgroup]:
    """A group with a limit (None: it only counts), removed when the block ends.

    Raises ReplayError: `no_cgroup` where this process may not make one, `cgroup_io` where the
    kernel refuses the limit.
    """
    place = hierarchy or find_hierarchy()
    directory = place.parent / f"poet-{os.getpid()}-{time.monotonic_ns():x}"
    try:
        directory.mkdir()
    except OSError as error:
        raise _not_here(f"{printable(str(directory))}: {error.strerror}") from error
    group = MemoryCgroup(place, directory)
    try:
        if limit_bytes is not None:
            group.limit(limit_bytes)
        yield group
    finally:
        group.remove()


def run_in_cgroup(
    command: Sequence[str],
    limit_bytes: int | None,
    *,
    environment: Mapping[str, str] | None = None,
    working_directory: Path | None = None,
    timeout_seconds: float | None = None,
) -> Ended:
    """Runs a command inside a group of its own. Raises as `memory_cgroup` does, and
    `subprocess.TimeoutExpired`, with nothing left running."""
    with memory_cgroup(limit_bytes) as group:
        ended = subprocess.run(
            group.inside(command),
            env=environment,
            cwd=working_directory,
            capture_output=True,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        return Ended(
            exit_status=ended.returncode,
            oom_killed=group.oom_kills() > 0,
            peak_bytes=group.peak_bytes(),
            stdout=ended.stdout,
            stderr=ended.stderr,
        )


def find_hierarchy() -> Hierarchy:
    """Where this process can make groups that count memory. Raises ReplayError (`no_cgroup`)."""
    if sys.platform != "linux":
        raise _not_here("control groups are Linux's")
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    memberships = Path("/proc/self/cgroup").read_text().splitlines()
    reasons: list[str] = []
    for hierarchy in _candidates(mounts, memberships):
        reason = _why_not(hierarchy)
        if not reason:
            return hierarchy
        reasons.append(f"{printable(str(hierarchy.parent))}: {reason}")
    raise _not_here("; ".join(reasons) or "no memory controller is mounted")


def _candidates(mounts: Iterable[str], memberships: Iterable[str]) -> Iterator[Hierarchy]:
    """Our own group first, then what is above it: in a container our own may not be visible, and
    in v2 a group that holds processes cannot have groups of its own."""
    own = {}
    for line in memberships:
        number, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            own[1] = path
        elif number == "0":
            own[2] = path
    for line in mounts:
        fields, _, kind = line.partition(" - ")
        root, point = (_plain(field) for field in fields.split()[3:5])
        file_system, _, options = kind.split(" ", 2)
        version = 2 if file_system == "cgroup2" else 1
        if version not in own or (version == 1 and not _counts_memory(file_system, options)):
            continue
        inner = Path(own[version]).relative_to("/")
        if root != "/" and Path(own[version]).is_relative_to(root):
            inner = Path(own[version]).relative_to(root)
        for part in (inner, *inner.parents):
            yield Hierarchy(version=version, parent=Path(point) / part)


def _counts_memory(file_system: str, options: str) -> bool:
    return file_system == "cgroup" and "memory" in options.replace(" ", ",").split(",")


def _why_not(hierarchy: Hierarchy) -> str:
    parent = hierarchy.parent
    if not parent.is_dir():
        return "not visible here"
    if not os.access(parent, os.W_OK):
        return "not writable"
    if hierarchy.version == 2:
        control = parent / "cgroup.subtree_control"
        if "memory" not in (parent / "cgroup.controllers").read_text().split():
            return "has no memory controller"
        if "memory" not in control.read_text().split():
            try:
                control.write_text("+memory")
            except OSError as error:
                return f"cannot hand down its memory controller ({error.strerror})"
    return ""


def _plain(field: str) -> str:
    """A field of mountinfo without its escapes (proc(5)): spaces, tabs and backslashes."""
    for escape, character in (("\\040", " "), ("\\011", "\t"), ("\\134", "\\")):
        field = field.replace(escape, character)
    return field


def _not_here(reason: str) -> ReplayError:
    return ReplayError(
        f"No memory control group can be made here: {reason}.",
        code="no_cgroup",
        hint="Run as root, or inside a delegated group (systemd-run --user --scope -p Delegate=yes);"
        " or train without a limit that the kernel enforces.",
    )


def _fault(doing: str, path: Path, error: OSError) -> ReplayError:
    return ReplayError(
        f"The kernel refused {doing} {printable(str(path))}: {error.strerror}.",
        code="cgroup_io",
        hint="A limit below what a process needs to start, or above its parent's, is refused.",
        details={"errno": error.errno},
    )
