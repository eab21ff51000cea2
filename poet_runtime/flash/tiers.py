"""Where copies of storages lie: bytes at offsets, in a file on flash or in the host's memory.

    Tier              what a pager asks of it; called by the I/O thread only
    ├── FileTier          the paging file
    └── HostMemoryTier    one preallocated pool of RAM (`host_memory`): the second tier of a GPU

Invariant: a call either moves every byte or raises OSError, and the room for all copies is there
from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from poet_runtime.flash.paging_file import FlashOptions, PagingFile, open_paging_file


class Tier(Protocol):
    """Room for copies. Copies begin at multiples of a block, and a copy's last block is its own."""

    @property
    def where(self) -> str:
        """The place, for people."""

    @property
    def direct(self) -> bool | None:
        """Whether transfers go past the page cache; None where there is none to go past."""

    @property
    def host_bytes(self) -> int:
        """RAM of the host that the tier takes, beside any plan."""

    @property
    def end(self) -> Callable[[], None]:
        """What gives the room back; it does not hold the tier, and it does no harm twice."""

    def write(self, address: int, size_bytes: int, offset: int) -> None:
        """Copies `size_bytes` of the memory at `address` to `offset`."""

    def read(self, address: int, size_bytes: int, offset: int) -> None:
        """Fills `size_bytes` of the memory at `address` from `offset`."""


class FileTier:
    """A paging file. Raises what `open_paging_file` does."""

    def __init__(self, size_bytes: int, directory: Path, options: FlashOptions) -> None:
        self.file: PagingFile = open_paging_file(size_bytes, directory, options)

    where = "flash"

    @property
    def direct(self) -> bool:
        """See Tier."""
        return self.file.flash.direct

    @property
    def host_bytes(self) -> int:
        """See Tier. The buffer for memory that is not aligned is not counted."""
        return 0

    @property
    def end(self) -> Callable[[], None]:
        """See Tier."""
        return self.file.remove

    def write(self, address: int, size_bytes: int, offset: int) -> None:
        """See Tier."""
        self.file.flash.write(address, size_bytes, self.file.begin + offset)

    def read(self, address: int, size_bytes: int, offset: int) -> None:
        """See Tier."""
        self.file.flash.read(address, size_bytes, self.file.begin + offset)
