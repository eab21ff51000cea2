"""Checksums of what goes to flash: taken on the way out, compared on the way in.

One thread moves the bytes and sums them, so a checksum's cost is added to the transfer. Page sums
cost least of those that see every byte (benchmarks.flash): hence the default.

Invariant: equal bytes have equal checksums however they were cut into pieces.
"""

from __future__ import annotations

import zlib
from enum import Enum
from typing import Protocol

import numpy as np

PAGE_BYTES = 4096
_WORDS = PAGE_BYTES // 8
_SAMPLE = 16
_MASK = 2**64 - 1
_GOLDEN = 0x9E3779B97F4A7C15  # odd (2**64 over the golden ratio): no two pages weigh the same


class Checksums(Enum):
    """What a checksum covers."""

    SUMS = "every byte: each page's sum of 64-bit words, times an odd weight of the page's position"
    CRC = "every byte: CRC-32, as zlib computes it"
    SAMPLED = "one page in 16, another set at each write: CRC-32; a fault elsewhere goes unseen"
    NONE = "nothing: for copies in memory that nobody doubts"


class Digest(Protocol):
    """A checksum in the making. Every piece but the last is a multiple of PAGE_BYTES."""

    def update(self, piece: memoryview) -> None:
        """Adds the next bytes. Releases the interpreter's lock while it reads them."""

    def value(self) -> int:
        """The checksum of all bytes so far."""


def new_digest(kind: Checksums, write: int) -> Digest:
    """`write`: any number that changes from write to write; a sample's phase is taken from it."""
    if kind is Checksums.SUMS:
        return SumsDigest()
    if kind is Checksums.CRC:
        return CrcDigest()
    if kind is Checksums.NONE:
        return NoDigest()
    return SampledDigest(write % _SAMPLE)


class NoDigest:
    """Looks at nothing."""

    def update(self, piece: memoryview) -> None:
        """See Digest."""

    def value(self) -> int:
        """See Digest."""
        return 0


class CrcDigest:
    """CRC-32 of every byte."""

    def __init__(self) -> None:
        self._crc = 0

    def update(self, piece: memoryview) -> None:
        """See Digest."""
        self._crc = zlib.crc32(piece, self._crc)

    def value(self) -> int:
        """See Digest."""
        return self._crc


class SumsDigest:
    """Weighted page sums, modulo 2**64.

    A change within one page is seen unless it leaves the page's sum of words as it was, which no
    change inside a single word does; pages that changed places are seen because weights differ.
    """

    def __init__(self) -> None:
        self._pages = 0
        self._length = 0
        self._total = 0

    def update(self, piece: memoryview) -> None:
        """See Digest."""
        whole = len(piece) - len(piece) % PAGE_BYTES
        if whole:
            self._add(piece[:whole])
        if whole < len(piece):
            self._add(memoryview(bytes(piece[whole:]).ljust(PAGE_BYTES, b"\0")))
        self._length += len(piece)

    def value(self) -> int:
        """See Digest."""
        return (self._total + self._length * _GOLDEN) & _MASK

    def _add(self, pages: memoryview) -> None:
        words = np.frombuffer(pages, dtype=np.uint64).reshape(-1, _WORDS)
        sums = words.sum(axis=1, dtype=np.uint64)
        first, self._pages = self._pages, self._pages + len(sums)
        positions = np.arange(first + 1, self._pages + 1, dtype=np.uint64)
        weights = positions * np.uint64(_GOLDEN) | np.uint64(1)
        self._total = (self._total + int((sums * weights).sum(dtype=np.uint64))) & _MASK


class SampledDigest:
    """CRC-32 of the pages whose number is `phase` modulo 16."""

    def __init__(self, phase: int) -> None:
        self._phase = phase
        self._pages = 0
        self._crc = 0

    def update(self, piece: memoryview) -> None:
        """See Digest."""
        count = -(-len(piece) // PAGE_BYTES)
        for page in range((self._phase - self._pages) % _SAMPLE, count, _SAMPLE):
            self._crc = zlib.crc32(piece[page * PAGE_BYTES : (page + 1) * PAGE_BYTES], self._crc)
        self._pages += count

    def value(self) -> int:
        """See Digest."""
        return self._crc
