"""The arena against a model of it: a private copy of the library, driven through ctypes."""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import sys
import threading
from pathlib import Path

import pytest

from poet_core.errors import ReplayError
from poet_runtime.memory.arena import (
    GRANULE_BYTES,
    Arena,
    arena_environment,
    arena_peak,
    why_no_arena,
)
from tests.runtime.native_arena import arena_library

KIB, MIB = 1 << 10, 1 << 20


class Driver:
    """An arena of its own, not the process's: blocks are taken and freed by explicit calls."""

    def __init__(self, path: Path) -> None:
        library = ctypes.CDLL(str(path))
        library.poet_arena_allocate.restype = ctypes.c_void_p
        library.poet_arena_allocate.argtypes = [ctypes.c_size_t, ctypes.c_size_t]
        library.poet_arena_resize.restype = ctypes.c_void_p
        library.poet_arena_resize.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        library.poet_arena_release.argtypes = [ctypes.c_void_p]
        library.poet_arena_usable.restype = ctypes.c_size_t
        library.poet_arena_usable.argtypes = [ctypes.c_void_p]
        library.poet_arena_owns.argtypes = [ctypes.c_void_p]
        self.library, self.arena = library, Arena(library)

    def take(self, size: int, alignment: int = 64) -> int:
        address: int | None = self.library.poet_arena_allocate(alignment, size)
        if address is None:
            raise MemoryError(size)
        return address

    def free(self, address: int) -> None:
        self.library.poet_arena_release(address)

    def usable(self, address: int) -> int:
        size: int = self.library.poet_arena_usable(address)
        return size

    def resize(self, address: int, size: int) -> int:
        moved: int = self.library.poet_arena_resize(address, size)
        return moved


@pytest.fixture
def driver(tmp_path: Path) -> Driver:
    # A copy, because the loader knows a path once: each test begins with an empty arena.
    return Driver(Path(shutil.copy(arena_library(), tmp_path / "_arena.so")))


def fill(address: int, size: int, byte: int) -> None:
    ctypes.memset(address, byte, size)


def holds(address: int, size: int, byte: int) -> bool:
    return ctypes.string_at(address, size) == bytes([byte]) * size


def pages_in_ram(begin: int, size: int) -> int:
    """Bytes of [begin, begin + size) that the system holds, from /proc/self/pagemap (proc(5))."""
    page = os.sysconf("SC_PAGESIZE")
    with Path("/proc/self/pagemap").open("rb") as pagemap:
        pagemap.seek(begin // page * 8)
        entries = pagemap.read(-(-size // page) * 8)
    present = sum(
        int.from_bytes(entries[at : at + 8], sys.byteorder) >> 63
        for at in range(0, len(entries), 8)
    )
    return present * page


def random_size(generator: random.Random) -> int:
    """Small ones, those around the border to whole granules, and large ones."""
    kind = generator.random()
    if kind < 0.5:
        return generator.randint(1, 40 * KIB)
    if kind < 0.6:
        return generator.choice([1, 63, 64, 65, 32 * KIB, 32 * KIB + 1, 64 * KIB, 64 * KIB + 1])
    return generator.randint(64 * KIB, 3 * MIB)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit_bytes", [None, 24 * MIB])
def test_random_work_against_a_model(driver: Driver, seed: int, limit_bytes: int | None) -> None:
    """No block overlaps another or loses its bytes; every counter is the model's."""
    generator = random.Random(seed)
    live: dict[int, tuple[int, int]] = {}
    peak = in_use = 0
    driver.arena.limit(limit_bytes)
    for number in range(1500):
        many = in_use > 16 * MIB
        if live and generator.random() < (0.7 if many else 0.4):
            address = generator.choice(list(live))
            size, byte = live.pop(address)
            assert holds(address, size, byte)
            if generator.random() < 0.2:
                new_size = random_size(generator)
                address = driver.resize(address, new_size)
                assert holds(address, min(size, new_size), byte)
                # Both are there while the bytes are copied.
                peak = max(peak, in_use - size + new_size)
                in_use += new_size - size
                fill(address, new_size, byte)
                live[address] = (new_size, byte)
            else:
                driver.free(address)
                in_use -= size
        else:
            size, alignment = random_size(generator), 1 << generator.randint(3, 17)
            address, byte = driver.take(size, alignment), number % 251
            assert address % alignment == 0
            assert address % 64 == 0
            assert driver.usable(address) >= size
            fill(address, size, byte)
            live[address] = (size, byte)
            in_use += size
            peak = max(peak, in_use)
        if number % 50 == 0:
            check_counters(driver, live, in_use)
    ends = 0
    for address, (size, byte) in sorted(live.items()):
        assert address >= ends
        assert holds(address, size, byte)
        ends = address + size
    found = driver.arena.statistics()
    # A block that moves is there twice for a moment, which the model does not say.
    assert peak <= found.peak_in_use_bytes <= peak + 3 * MIB
    for address in live:
        driver.free(address)
    found = driver.arena.statistics()
    assert (found.in_use_bytes, found.blocks, found.span_bytes) == (0, 0, 0)
    assert found.largest_hole_bytes == found.reached_bytes  # everything has grown together again


def check_counters(driver: Driver, live: dict[int, tuple[int, int]], in_use: int) -> None:
    found = driver.arena.statistics()
    assert found.in_use_bytes == in_use == sum(size for size, _ in live.values())
    assert found.blocks == len(live)
    assert in_use <= found.span_bytes <= found.resident_bytes
    assert found.peak_in_use_bytes >= in_use
    if found.resident_limit_bytes and not found.over_limit:
        assert found.peak_resident_bytes <= found.resident_limit_bytes
    begin = min(live, default=0) & -GRANULE_BYTES
    if begin:
        end = max(address + size for address, (size, _) in live.items())
        assert pages_in_ram(begin, end - begin) <= driver.arena.held_bytes() <= found.resident_bytes


@pytest.mark.parametrize("size", [1, 64, 65, 1024, 1025, 20 * KIB, 32 * KIB, 64 * KIB, MIB])
def test_usable_size_is_at_most_a_quarter_more_or_a_granule(driver: Driver, size: int) -> None:
    usable = driver.usable(driver.take(size))
    assert size <= usable
    assert usable <= (max(64, size + 63, size * 5 // 4) if size <= 32 * KIB else size + 64 * KIB)


def test_untouched_pages_are_not_held(driver: Driver) -> None:
    block = driver.take(8 * MIB)
    fill(block, 3 * MIB, 1)
    assert driver.arena.held_bytes() == 3 * MIB
    assert driver.arena.statistics().resident_bytes == 8 * MIB


def test_freed_pages_serve_the_next_block(driver: Driver) -> None:
    first = driver.take(8 * MIB)
    fill(first, 8 * MIB, 1)
    driver.free(first)
    driver.arena.reset()
    assert driver.take(8 * MIB) == first
    found = driver.arena.statistics()
    assert (found.fresh_bytes, found.returned_bytes) == (0, 0)


def test_the_smallest_hole_that_fits_is_taken(driver: Driver) -> None:
    blocks = [driver.take(size * MIB) for size in (4, 1, 2, 1, 3, 1)]
    for hole in (0, 2, 4):
        driver.free(blocks[hole])
    assert driver.take(2 * MIB) == blocks[2]
    assert driver.take(2 * MIB + 1) == blocks[4]
    assert driver.arena.statistics().largest_hole_bytes == 4 * MIB


def test_pages_go_back_only_when_the_limit_would_be_exceeded(driver: Driver) -> None:
    driver.arena.limit(10 * MIB)
    blocks = [driver.take(2 * MIB) for _ in range(5)]
    for block in blocks:
        fill(block, 2 * MIB, 7)
    for block in blocks[::2]:
        driver.free(block)
    assert driver.arena.statistics().returned_bytes == 0
    large = driver.take(5 * MIB)  # fits no hole: the last one grows, and pages of others must go
    fill(large, 5 * MIB, 9)
    found = driver.arena.statistics()
    assert found.returned_bytes == 3 * MIB
    assert found.resident_bytes == found.peak_resident_bytes == 10 * MIB
    assert found.over_limit == 0
    assert all(holds(block, 2 * MIB, 7) for block in blocks[1::2])
    reached = found.reached_bytes
    assert pages_in_ram(min(blocks), reached) <= 10 * MIB


def test_what_no_page_given_back_can_hold_is_counted_with_its_tag(driver: Driver) -> None:
    driver.arena.limit(4 * MIB)
    driver.arena.tag = 41
    kept = driver.take(3 * MIB)
    driver.arena.tag = 42
    beyond = driver.take(2 * MIB)
    driver.arena.tag = 43
    found = driver.arena.statistics()
    assert (found.over_limit, found.first_over_limit_tag, found.refused) == (1, 42, 0)
    assert (found.peak_in_use_bytes, found.peak_in_use_tag) == (5 * MIB, 42)
    driver.free(beyond)
    driver.arena.limit(4 * MIB, hard=True)
    with pytest.raises(MemoryError):
        driver.take(2 * MIB)
    with pytest.raises(MemoryError):
        driver.take(1 << 62)
    assert driver.arena.statistics().refused == 1
    assert holds(kept, 3 * MIB, 0)
    assert driver.take(MIB)  # what fits still comes


def test_a_limit_set_later_gives_back_at_once(driver: Driver) -> None:
    blocks = [driver.take(MIB) for _ in range(8)]
    for block in blocks:
        fill(block, MIB, 3)
    for block in blocks[:6]:
        driver.free(block)
    driver.arena.limit(3 * MIB)
    assert driver.arena.statistics().resident_bytes == 3 * MIB
    driver.arena.limit(None)
    driver.arena.trim()
    assert driver.arena.statistics().resident_bytes == 2 * MIB
    assert pages_in_ram(min(blocks), 8 * MIB) <= 2 * MIB
    assert all(holds(block, MIB, 3) for block in blocks[6:])


def test_an_excess_over_the_plan_names_the_first_that_made_it(driver: Driver) -> None:
    before = driver.take(MIB)
    with arena_peak(driver.arena, planned_bytes=2 * MIB) as peak:
        driver.arena.tag = 1
        driver.free(driver.take(2 * MIB))
        assert peak().excesses == 0
        for tag in (2, 3):
            driver.arena.tag = tag
            driver.free(driver.take(3 * MIB))
        found = peak()
    assert (found.excesses, found.first_excess_tag, found.first_excess_bytes) == (2, 2, 3 * MIB)
    assert (found.begin_bytes, found.peak_bytes, found.peak_tag) == (MIB, 3 * MIB, 2)
    assert found.end_bytes == 0
    driver.free(before)


def test_small_blocks_share_granules_and_leave_none_behind(driver: Driver) -> None:
    blocks = [driver.take(100) for _ in range(5000)]
    found = driver.arena.statistics()
    assert found.in_use_bytes == 500_000
    assert found.span_bytes <= 11 * GRANULE_BYTES  # 128 bytes a slot and its entry
    assert len(set(blocks)) == 5000
    random.Random(0).shuffle(blocks)
    for block in blocks:
        driver.free(block)
    assert driver.arena.statistics().span_bytes == 0


def test_what_is_not_its_own_it_does_not_own(driver: Driver) -> None:
    block = driver.take(MIB)
    foreign = ctypes.create_string_buffer(8)
    assert driver.library.poet_arena_owns(block)
    assert not driver.library.poet_arena_owns(ctypes.addressof(foreign))
    assert not driver.library.poet_arena_owns(None)


def test_threads(driver: Driver) -> None:
    """Four threads, each with blocks that it alone knows; ctypes lets go of Python's lock."""
    faults: list[str] = []

    def work(seed: int) -> None:
        generator = random.Random(seed)
        live: dict[int, int] = {}
        for _ in range(1500):
            if live and generator.random() < 0.5:
                address, size = live.popitem()
                if not holds(address, size, seed):
                    faults.append(f"thread {seed}: {size} bytes at {address:#x} changed")
                driver.free(address)
            else:
                size = generator.choice([64, 3000, 30_000, 70_000, 300_000])
                address = driver.take(size)
                fill(address, size, seed)
                live[address] = size
        for address in live:
            driver.free(address)

    driver.arena.limit(8 * MIB)
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert faults == []
    found = driver.arena.statistics()
    assert (found.in_use_bytes, found.blocks, found.span_bytes) == (0, 0, 0)


def test_without_an_arena_it_says_so(tmp_path: Path) -> None:
    assert Arena.active() is None  # the tests' own process was started without one
    spaced = tmp_path / "a b.so"
    assert "space" in why_no_arena(spaced)
    with pytest.raises(ReplayError) as caught:
        arena_environment({}, library=spaced)
    assert caught.value.code == "no_arena"


def test_the_environment_keeps_what_was_preloaded(tmp_path: Path) -> None:
    path = arena_library()
    changed = arena_environment({"LD_PRELOAD": "/lib/other.so", "A": "b"}, library=path)
    assert changed["LD_PRELOAD"] == f"{path}:/lib/other.so"
    assert changed["A"] == "b"
    assert arena_environment({}, library=path)["LD_PRELOAD"] == str(path)
