"""The arena of this process: the allocator that bounds resident memory, seen from Python.

The arena (poet_runtime/native) is a library that a process is started with: it answers
posix_memalign and free in libc's place, so every tensor is in it from the first one on.

    arena_environment(...)   what to start a child with, so that it has one
    Arena.active()           the arena of this process, or None
    statistics(), limit()    what it holds; what it may hold

Invariant: nothing here allocates from the arena or changes what a block's address decides; a
process without an arena trains the same bits, and `why_no_arena` says what cannot be promised.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Self

from poet_core.errors import ReplayError

GRANULE_BYTES = 1 << 16
"""The unit of the arena: a block of its own begins at one, pages come and go by it."""

_VERSION = 3  # POET_ARENA_VERSION in native/arena.h
_LOADER = "LD_PRELOAD"  # ld.so(8); its entries are separated by colons and spaces


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaStatistics:
    """What the arena holds, in bytes but for counts and tags; native/arena.h has the same names.

    `in_use`: asked for with an alignment, as tensors are, and not freed; `plain`: malloc's large
    blocks; `span`: both in whole granules and slabs; `resident`: what may have pages. A tag is what `Arena.tag` was at that moment, -1 for none. `fresh`: handed out
    without pages, so to be faulted in; `returned`: given back. `excesses`: allocations that took
    more in use than `planned`; `over_limit`: those that the resident limit could not hold.
    """

    in_use_bytes: int
    peak_in_use_bytes: int
    peak_in_use_tag: int
    plain_bytes: int
    peak_plain_bytes: int
    peak_plain_tag: int
    blocks: int
    span_bytes: int
    peak_span_bytes: int
    resident_bytes: int
    peak_resident_bytes: int
    peak_resident_tag: int
    largest_hole_bytes: int
    reached_bytes: int
    resident_limit_bytes: int
    planned_bytes: int
    fresh_bytes: int
    returned_bytes: int
    returns: int
    excesses: int
    first_excess_tag: int
    first_excess_bytes: int
    over_limit: int
    first_over_limit_tag: int
    refused: int


class _Statistics(ctypes.Structure):
    # Counters are unsigned there and far below 2**63; tags are signed.
    _fields_ = [(field.name, ctypes.c_int64) for field in fields(ArenaStatistics)]


class Arena:
    """The functions of one loaded library. Any thread may call them."""

    def __init__(self, library: ctypes.CDLL) -> None:
        version = library.poet_arena_version()
        if version != _VERSION:
            raise ReplayError(
                f"Expected version {_VERSION} of the arena, got {version}.",
                code="arena_version",
                hint="Install poet-planner again, so that its library is built anew.",
            )
        library.poet_arena_limit.argtypes = [ctypes.c_uint64, ctypes.c_int]
        library.poet_arena_plan.argtypes = [ctypes.c_uint64]
        library.poet_arena_read.argtypes = [ctypes.POINTER(_Statistics)]
        library.poet_arena_held.restype = ctypes.c_uint64
        library.poet_arena_tag.restype = ctypes.POINTER(ctypes.c_int64)
        self.library = library
        # Writing through a view costs a fifth of a call, and the replay writes it at every op.
        self.tag_view = memoryview(library.poet_arena_tag().contents).cast("B").cast("q")

    @classmethod
    def active(cls) -> Self | None:
        """The arena that this process allocates from, or None where it was started without one."""
        if sys.platform != "linux":
            return None
        library = ctypes.CDLL(None)
        if not hasattr(library, "poet_arena_version"):
            return None
        arena = cls(library)
        return arena if library.poet_arena_available() else None

    @property
    def tag(self) -> int:
        """What is going on: the number of an instruction, by convention; -1 for nothing."""
        return self.tag_view[0]

    @tag.setter
    def tag(self, number: int) -> None:
        self.tag_view[0] = number

    def statistics(self) -> ArenaStatistics:
        """The counters now."""
        found = _Statistics()
        self.library.poet_arena_read(ctypes.byref(found))
        return ArenaStatistics(
            **{field.name: getattr(found, field.name) for field in fields(ArenaStatistics)}
        )

    def held_bytes(self) -> int:
        """What it really holds in RAM, from the system (mincore, a millisecond for each GiB): less
        than `resident_bytes` where blocks have pages that nobody has touched yet."""
        return int(self.library.poet_arena_held())

    def limit(self, resident_bytes: int | None, *, hard: bool = False) -> None:
        """Bounds the arena's resident memory, rounded down to granules; None lifts the bound.

        What does not fit is still allocated and counted in `over_limit`, or, with `hard`, refused:
        PyTorch then raises its "can't allocate memory".
        """
        self.library.poet_arena_limit(resident_bytes or 0, hard)

    def plan(self, in_use_bytes: int | None) -> None:
        """Says what is in use at most if all goes as planned: more is an excess, with its tag."""
        self.library.poet_arena_plan(in_use_bytes or 0)

    def reset(self) -> None:
        """Peaks, excesses and flows begin again from now."""
        self.library.poet_arena_reset()

    def trim(self) -> None:
        """Gives back every page that no block is in."""
        self.library.poet_arena_trim()


@dataclass(frozen=True, slots=True, kw_only=True)
class ArenaPeak:
    """What the arena saw while something ran, in bytes and tags. `begin`: what was in use before
    and is none of its business; `peak` and `end` are over that."""

    begin_bytes: int
    peak_bytes: int
    peak_tag: int
    end_bytes: int
    peak_resident_bytes: int
    excesses: int
    first_excess_tag: int
    first_excess_bytes: int


@contextmanager
def arena_peak(
    arena: Arena, *, begin_bytes: int | None = None, planned_bytes: int | None = None
) -> Iterator[Callable[[], ArenaPeak]]:
    """Yields a function that gives the peak since the block began.

    `begin_bytes`: what is in use and does not count (default: all of it). `planned_bytes`: what may
    be in use at most over that; an allocation beyond it by more than a granule is an excess.
    """
    arena.reset()
    begin = arena.statistics().in_use_bytes if begin_bytes is None else begin_bytes
    arena.plan(None if planned_bytes is None else begin + planned_bytes + GRANULE_BYTES)

    def peak() -> ArenaPeak:
        found = arena.statistics()
        return ArenaPeak(
            begin_bytes=begin,
            peak_bytes=found.peak_in_use_bytes - begin,
            peak_tag=found.peak_in_use_tag,
            end_bytes=found.in_use_bytes - begin,
            peak_resident_bytes=found.peak_resident_bytes,
            excesses=found.excesses,
            first_excess_tag=found.first_excess_tag,
            first_excess_bytes=max(0, found.first_excess_bytes - begin),
        )

    try:
        yield peak
    finally:
        arena.plan(None)


def library_path() -> Path | None:
    """The library that pip built with this package, or None where it could not be built."""
    # A library, not a module: it is found like one, so that editable installs work, and never imported.
    spec = importlib.util.find_spec("poet_runtime._arena")
    return Path(spec.origin) if spec is not None and spec.origin else None


def why_no_arena(library: Path | None = None) -> str:
    """Why a child started here would have no arena; "" where it would have one."""
    if sys.platform != "linux":
        return "The arena is for Linux: elsewhere no library can answer for libc's allocator."
    path = library or library_path()
    if path is None:
        return "The arena was not built: install poet-planner where a C compiler and CMake are."
    if any(separator in str(path) for separator in " :"):
        return f"The arena's path has a space or a colon, which {_LOADER} cannot name: {path}"
    return ""


def arena_environment(
    environment: Mapping[str, str] | None = None, *, library: Path | None = None
) -> dict[str, str]:
    """The environment (default: this process's) with which a child has an arena.

    Raises ReplayError (`no_arena`) where it would have none.
    """
    reason = why_no_arena(library)
    if reason:
        raise ReplayError(
            reason,
            code="no_arena",
            hint="Training works without it; resident memory is then bounded by the cgroup only.",
        )
    changed = dict(os.environ if environment is None else environment)
    path = str(library or library_path())
    changed[_LOADER] = ":".join(part for part in (path, changed.get(_LOADER, "")) if part)
    # One heap for libc's own small blocks, and what is large gone with its free: the threshold is
    # libc's default (mallopt(3)), named so that it stays there instead of growing with use.
    changed.setdefault("MALLOC_ARENA_MAX", "1")
    changed.setdefault("MALLOC_MMAP_THRESHOLD_", str(128 << 10))
    return changed
