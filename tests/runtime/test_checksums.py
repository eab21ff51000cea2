"""Checksums: the same however the bytes are cut, and different when they are different."""

from __future__ import annotations

import random
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet_runtime.flash.checksums import PAGE_BYTES, Checksums, new_digest

WHOLE = (Checksums.SUMS, Checksums.CRC)


def digest(kind: Checksums, content: bytes, cuts: tuple[int, ...] = (), write: int = 0) -> int:
    found, begin = new_digest(kind, write), 0
    for end in (*cuts, len(content)):
        found.update(memoryview(content)[begin:end])
        begin = end
    return found.value()


def content(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


@pytest.mark.parametrize("kind", list(Checksums))
@given(length=st.integers(0, 9 * PAGE_BYTES), pages=st.lists(st.integers(0, 8), max_size=3))
@settings(max_examples=40)
def test_cuts_at_pages_change_nothing(kind: Checksums, length: int, pages: list[int]) -> None:
    data = content(length)
    cuts = tuple(sorted(page * PAGE_BYTES for page in pages if page * PAGE_BYTES <= length))
    assert digest(kind, data, cuts, write=3) == digest(kind, data, write=3)


@pytest.mark.parametrize("kind", WHOLE)
@given(at=st.integers(0, 5 * PAGE_BYTES + 70), change=st.integers(1, 255))
@settings(max_examples=100)
def test_every_changed_byte_is_seen(kind: Checksums, at: int, change: int) -> None:
    data = content(5 * PAGE_BYTES + 71)
    other = bytearray(data)
    other[at] ^= change
    assert digest(kind, data) != digest(kind, bytes(other))


@pytest.mark.parametrize("kind", WHOLE)
def test_pages_that_changed_places_and_lengths_are_seen(kind: Checksums) -> None:
    data = content(4 * PAGE_BYTES)
    pages = [data[k * PAGE_BYTES : (k + 1) * PAGE_BYTES] for k in range(4)]
    seen = {
        digest(kind, b"".join(pages[k] for k in order))
        for order in ((0, 1, 2, 3), (1, 0, 2, 3), (0, 1, 3, 2), (3, 1, 2, 0), (0, 0, 2, 3))
    }
    assert len(seen) == 5
    zeros = {digest(kind, bytes(length)) for length in (0, 1, 8, 4095, 4096, 4097, 8192)}
    assert len(zeros) == 7


def test_crc_is_zlibs() -> None:
    data = content(10_000)
    assert digest(Checksums.CRC, data, (4096,)) == zlib.crc32(data)


def test_a_sample_sees_its_own_pages_and_no_others() -> None:
    data = content(40 * PAGE_BYTES)
    for write in (0, 5, 31):
        for page in range(40):
            other = bytearray(data)
            other[page * PAGE_BYTES + 9] ^= 1
            seen = digest(Checksums.SAMPLED, data, write=write) != digest(
                Checksums.SAMPLED, bytes(other), write=write
            )
            assert seen is (page % 16 == write % 16)
