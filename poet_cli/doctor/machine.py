"""What this machine gives: memory groups, a place to page to, a GPU, folders and their space."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from poet_cli.check.cache import cache_folder
from poet_cli.doctor.findings import Finding, State
from poet_cli.doctor.installed import version_of
from poet_core.errors import PoetError
from poet_core.text import printable
from poet_core.units import format_bytes

_TRIAL_BYTES = 64 << 20
_LITTLE_SPACE_BYTES = 2 << 30  # a paging file of a mid-sized model, and some
_GPU_SECONDS = 20.0


def memory_groups() -> Iterator[Finding]:
    """Whether the kernel's memory limits can be set here: one is, and removed."""
    from poet_runtime.memory.cgroup import memory_cgroup

    try:
        with memory_cgroup(_TRIAL_BYTES) as group:
            found = f"version {group.version}, writable"
    except PoetError as error:
        yield Finding(
            name="memory groups",
            state=State.MISSING,
            found=printable(error.message, 200),
            costs="`poet train --cap` is refused; a worker's memory is counted, not bounded.",
            fix="systemd-run --user --scope -p Delegate=yes poet train ..., or run as root.",
        )
    else:
        yield Finding(name="memory groups", state=State.OK, found=found)


def paging_place() -> Iterator[Finding]:
    """Where `poet train` would page to: no RAM, past the page cache, with room."""
    from poet_runtime.flash.paging_directory import choose_paging_directory

    try:
        folder = choose_paging_directory()
    except PoetError as error:
        yield Finding(
            name="paging folder",
            state=State.WARNING,
            found=printable(error.message, 200),
            costs="`poet train` refuses plans that page.",
            fix="Give --paging-directory a folder on a disk or a flash card.",
        )
        return
    if _takes_direct(folder):
        yield Finding(
            name="paging folder",
            state=State.OK,
            found=f"{printable(str(folder), 100)}, on a disk, direct I/O",
        )
    else:
        yield Finding(
            name="paging folder",
            state=State.WARNING,
            found=f"{printable(str(folder), 100)}, without direct I/O",
            costs="What is paged out stays in the kernel's page cache, so in RAM, for a while.",
            fix="Give --paging-directory a folder on ext4, xfs or btrfs.",
        )
    yield _space("free for paging", folder, "Plans that page much do not fit there.")


def _takes_direct(folder: Path) -> bool:
    if not hasattr(os, "O_DIRECT"):
        return False
    with tempfile.NamedTemporaryFile(dir=folder, prefix=".poet-doctor-") as file:
        try:
            os.close(os.open(file.name, os.O_RDWR | os.O_DIRECT))
        except OSError:
            return False
    return True


def folders() -> Iterator[Finding]:
    """Where poet remembers: the cache, the service's state, and the data sets of the examples."""
    temporary = Path(tempfile.gettempdir())
    if not os.access(temporary, os.W_OK):
        yield Finding(
            name="temporary folder",
            state=State.BROKEN,
            found=f"{printable(str(temporary), 100)} is not writable",
            costs="Solvers cannot be run.",
            fix="export TMPDIR=/a/folder/that/you/may/write",
        )
    yield _folder(
        "cache", cache_folder(os.environ), "POET_CACHE_DIR", "`poet check` traces again each time."
    )
    yield _folder(
        "state", _state_folder(), "POET_SERVICE_STATE_DIR", "No `poet serve` with SQLite."
    )
    data = os.environ.get("POET_DATA")
    if data and Path(data).is_dir():
        yield Finding(name="data sets", state=State.OK, found=printable(data, 100))
    else:
        yield Finding(
            name="data sets",
            state=State.MISSING,
            found="POET_DATA names no folder",
            costs="Examples on MNIST, CLINC150 and the like cannot run; nothing else needs it.",
            fix="export POET_DATA=/the/folder/with/them",
        )


def _state_folder() -> Path:
    given = os.environ.get("POET_SERVICE_STATE_DIR")
    if given:
        return Path(given)
    base = os.environ.get("XDG_STATE_HOME", "")
    return (Path(base) if base.startswith("/") else Path.home() / ".local" / "state") / "poet"


def _folder(name: str, folder: Path, variable: str, costs: str) -> Finding:
    """A folder that is made when it is needed: is it, or what is above it, writable?"""
    there = next(item for item in (folder, *folder.parents) if item.exists())
    shown = printable(str(folder), 100)
    if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
        found = shown if there == folder else f"{shown} (made when it is needed)"
        return Finding(name=f"{name} folder", state=State.OK, found=found)
    return Finding(
        name=f"{name} folder",
        state=State.WARNING,
        found=f"{shown} is not writable",
        costs=costs,
        fix=f"export {variable}=/a/folder/that/you/may/write",
    )


def _space(name: str, folder: Path, costs: str) -> Finding:
    free_bytes = shutil.disk_usage(folder).free
    little = free_bytes < _LITTLE_SPACE_BYTES
    return Finding(
        name=name,
        state=State.WARNING if little else State.OK,
        found=format_bytes(free_bytes),
        costs=costs if little else "",
        fix=f"Free some space on {printable(str(folder), 100)}." if little else "",
        figures={"free_bytes": free_bytes},
    )


def gpu() -> Iterator[Finding]:
    """An NVIDIA GPU by its driver's own word, and whether PyTorch is built for it."""
    names = _gpus()
    if not names:
        yield Finding(
            name="GPU",
            state=State.MISSING,
            found="no NVIDIA GPU",
            costs="Nothing but the training of models on one: plans are made on CPUs.",
        )
        return
    shown = printable(", ".join(names), 200)
    number = version_of("torch") or ""
    if number.endswith("+cpu"):
        yield Finding(
            name="GPU",
            state=State.WARNING,
            found=f"{shown}; PyTorch {number} does not use it",
            costs="Models that are on a GPU cannot be traced or trained.",
            fix="pip install --force-reinstall torch --index-url https://download.pytorch.org/whl/cu130",
        )
    else:
        yield Finding(name="GPU", state=State.OK, found=shown)


def _gpus() -> list[str]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    try:
        said = subprocess.run(
            [program, "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True, text=True, timeout=_GPU_SECONDS, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return []
    return said.stdout.strip().splitlines()[:64] if said.returncode == 0 else []
