"""Looking at the processes that a solve starts, in /proc: Linux only."""

import contextlib
import time
from pathlib import Path


def assert_nothing_left(scratch: Path) -> None:
    assert list(scratch.iterdir()) == []
    assert command_lines(scratch) == []


def command_lines(scratch: Path) -> list[str]:
    """Of every process that names the scratch folder or works in it, but for this one's."""
    found = []
    for pid, line in processes():
        with contextlib.suppress(OSError):
            here = str(Path(f"/proc/{pid}/cwd").readlink()).startswith(str(scratch))
            if here or (str(scratch) in line and "supervisor.py" in line):
                found.append(line)
    return found


def parent_of(pid: int) -> int | None:
    """proc(5), /proc/pid/stat: the fourth field, after a name that may hold spaces."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def processes() -> list[tuple[int, str]]:
    lines = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                text = (entry / "cmdline").read_bytes().replace(b"\0", b" ")
                lines.append((int(entry.name), text.decode(errors="replace")))
    return lines


def wait_until(condition) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "waited 15 s in vain"
        time.sleep(0.02)


def children_of(pid: int, *, naming: str = "") -> list[int]:
    """Whose parent is `pid` and whose command line names something."""
    return [found for found, line in processes() if naming in line and parent_of(found) == pid]


def solver_in(pid: int) -> int | None:
    """The solver's process below a process that solves; None before it has become the solver."""
    for supervisor in children_of(pid, naming="supervisor.py"):
        for solver in children_of(supervisor):
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{solver}/cmdline").read_bytes()
                if line and b"supervisor.py" not in line:
                    return solver
    return None
