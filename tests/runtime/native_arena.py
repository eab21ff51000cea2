"""The arena's library for tests: compiled from this tree, so that an older build is never tested."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

NATIVE = Path(__file__).resolve().parents[2] / "poet_runtime" / "native"
FLAGS = ("-std=c11", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", "-pthread")


@functools.cache
def _compiled() -> Path | str:
    """The library, or why there is none. One build a process, gone when it ends."""
    if sys.platform != "linux":
        return "the arena is for Linux"
    compiler = shutil.which(os.environ.get("CC", "cc"))
    if compiler is None:
        return "no C compiler here"
    folder = Path(tempfile.mkdtemp(prefix="arena-"))
    atexit.register(shutil.rmtree, folder)
    target = folder / "_arena.so"
    sources = sorted(map(str, NATIVE.glob("*.c")))
    command = [compiler, *FLAGS, "-fvisibility=hidden", *sources, "-o", str(target), "-ldl"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return target


def arena_library() -> Path:
    """The library, or a skip with the reason."""
    found = _compiled()
    if isinstance(found, str):
        pytest.skip(found)
    return found
