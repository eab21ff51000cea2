"""What is installed: Python, poet itself, its native parts, solvers, PyTorch and the extras."""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from poet_cli.doctor.findings import Finding, State
from poet_cli.service_options import QUEUE_MODULES, SERVICE_MODULES
from poet_core.text import printable

# As in pyproject.toml (a test compares them).
OLDEST_PYTHON, TOO_NEW_PYTHON = (3, 11), (3, 14)
TORCH_SERIES = "2.13"

_REINSTALL = "pip install --force-reinstall --no-deps poet-planner"
_CHILD_SECONDS = 120.0
_DEEP = """
import json, torch
torch.ones(8, 8) @ torch.ones(8, 8)
device = torch.cuda.get_device_name(0) if torch.cuda.is_available() else ""
print(json.dumps({"threads": torch.get_num_threads(), "device": device}))
"""


def version_of(distribution: str) -> str | None:
    """The installed version, or None."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def python() -> Iterator[Finding]:
    """The interpreter, and poet's own version."""
    found = f"{platform.python_version()} ({sys.executable})"
    if OLDEST_PYTHON <= sys.version_info[:2] < TOO_NEW_PYTHON:
        yield Finding(name="Python", state=State.OK, found=found)
    else:
        yield Finding(
            name="Python",
            state=State.WARNING,
            found=found,
            costs="poet is tested with Python 3.11 to 3.13.",
            fix="python3.13 -m venv .venv && .venv/bin/pip install poet-planner",
        )
    number = version_of("poet-planner")
    where = "a source tree" if number is None else number
    yield Finding(name="poet", state=State.OK, found=where)


def native_parts() -> Iterator[Finding]:
    """The local search and the arena, and the compiler that would build them."""
    from poet_runtime.memory.arena import why_no_arena
    from poet_solvers.search import native_missing

    search, arena = native_missing() is None, why_no_arena()
    if search:
        yield Finding(name="local search", state=State.OK, found="built")
    else:
        yield Finding(
            name="local search",
            state=State.MISSING,
            found="not built",
            costs="Plans come from greedy and the solvers alone, and are worse or later.",
            fix=f"Install a C++ compiler, then: {_REINSTALL}",
        )
    if not arena:
        yield Finding(name="arena", state=State.OK, found="built")
    else:
        yield Finding(
            name="arena",
            state=State.MISSING,
            found=printable(arena, 200),
            costs="`poet train` trains the same bits, but its resident memory is not bounded.",
            fix=f"On Linux, install a C compiler, then: {_REINSTALL}",
        )
    yield _compiler(needed=not search or bool(arena))


def _compiler(*, needed: bool) -> Finding:
    paths = (shutil.which(name) for name in ("c++", "g++", "clang++"))
    path = next((item for item in paths if item), None)
    if path is not None:
        return Finding(name="compiler", state=State.OK, found=path)
    return Finding(
        name="compiler",
        state=State.MISSING,
        found="no C++ compiler",
        costs="Native parts cannot be built." if needed else "Nothing: native parts are built.",
        fix="apt install g++ cmake, or what your system has for it." if needed else "",
    )


def solvers() -> Iterator[Finding]:
    """Each solver on a tiny model, and whether one of them can be used at all."""
    from poet_solvers.backends.trial import Trial, try_backend

    trials: list[Trial] = [try_backend("cbc"), try_backend("highs"), try_backend("gurobi")]
    usable = any(not trial.wrong for trial in trials)
    costs = (
        "POET's own model has no solver by default (`poet plan --backend highs` is one).",
        "Bounds and proofs are weaker: relaxations have no solver.",
        "Nothing but its speed.",
    )
    fixes = ("pip install --force-reinstall pulp", "pip install --force-reinstall highspy",
             "pip install gurobipy, and a licence: gurobi.com/downloads")  # fmt: skip
    names = ("CBC", "HiGHS", "Gurobi")
    for name, trial, cost, fix in zip(names, trials, costs, fixes, strict=True):
        if not trial.wrong:
            yield Finding(
                name=name,
                state=State.OK,
                found=f"{trial.name}, solved a trial",
                figures={"seconds": trial.seconds},
            )
            continue
        state = State.MISSING if not trial.installed else State.WARNING
        if name != "Gurobi" and not usable:
            state = State.BROKEN
        yield Finding(
            name=name, state=state, found=printable(trial.wrong, 300), costs=cost, fix=fix
        )


def torch(*, deep: bool) -> Iterator[Finding]:
    """PyTorch, by what is installed; `deep`: also by a child that imports it."""
    number = version_of("torch")
    if number is None or importlib.util.find_spec("torch") is None:
        yield Finding(
            name="PyTorch",
            state=State.MISSING,
            found="not installed",
            costs="No tracing and no training; planning and judging need none.",
            fix="pip install 'poet-planner[train]'",
        )
        return
    if number.split("+")[0].rpartition(".")[0] == TORCH_SERIES:
        yield Finding(name="PyTorch", state=State.OK, found=number)
    else:
        yield Finding(
            name="PyTorch",
            state=State.WARNING,
            found=f"{printable(number, 60)}, expected {TORCH_SERIES}.*",
            costs="Its kernels and its tracer may differ from those that poet was tested with.",
            fix="pip install 'poet-planner[train]'",
        )
    if deep:
        yield _imported_torch()


def _imported_torch() -> Finding:
    """What a child process says that imports it."""
    asked = [sys.executable, "-c", _DEEP]
    try:
        child = subprocess.run(
            asked, capture_output=True, text=True, timeout=_CHILD_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return _no_torch(f"no answer within {_CHILD_SECONDS:.0f} s")
    try:
        said = json.loads(child.stdout.strip().splitlines()[-1])
        threads, device = int(said["threads"]), str(said["device"])
    except (ValueError, IndexError, KeyError, TypeError):
        return _no_torch(next(iter(child.stderr.strip().splitlines()[-1:]), "no answer"))
    return Finding(
        name="import torch",
        state=State.OK,
        found=f"{threads} threads, {f'CUDA on {printable(device, 60)}' if device else 'no CUDA'}",
        figures={"threads": threads},
    )


def _no_torch(why: str) -> Finding:
    return Finding(
        name="import torch",
        state=State.WARNING,
        found=printable(why, 300),
        costs="No tracing and no training.",
        fix="pip install --force-reinstall 'poet-planner[train]'",
    )


_EXTRAS = (
    ("transformers", ("transformers",), "Hugging Face's models cannot be traced.", "transformers"),
    (
        "service",
        SERVICE_MODULES,
        "No `poet serve` and no `poet tokens`.",
        "'poet-planner[service]'",
    ),
    ("service queue", QUEUE_MODULES, "No `poet worker` on PostgreSQL.", "'poet-planner[service]'"),
    ("scikit-learn", ("sklearn",), "No examples on real digits.", "'poet-planner[train]'"),
    ("ONNX", ("onnx",), "No ONNX export of a projection net.", "'poet-planner[onnx]'"),
)


def extras() -> Iterator[Finding]:
    """What only some commands need."""
    for name, modules, costs, install in _EXTRAS:
        lacking = [module for module in modules if importlib.util.find_spec(module) is None]
        if lacking:
            found = f"without {', '.join(lacking)}"
            yield Finding(
                name=name, state=State.MISSING, found=found, costs=costs,
                fix=f"pip install {install}",
            )  # fmt: skip
        else:
            numbers = [version_of(name.lower())] if len(modules) == 1 else []
            yield Finding(name=name, state=State.OK, found=next(iter(numbers), None) or "installed")
