"""StreamPager: storages between a GPU and locked host memory, carried by the copy stream alone.

No thread waits and no byte passes through Python: a page_out is issued behind what the program has
issued on its stream, `wait` lets what the program issues next stand behind the copy. So memory is
counted in program order here as well: a storage that is freed after its wait may be written again
only by what comes after the copy.

Invariant: one copy stream carries everything in the order asked for; a ticket's mark therefore
stands for all tickets before it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch

from poet_core.errors import ReplayError, UsageError
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.flash_file import blocks_of, memory_view
from poet_runtime.flash.host_memory import HostMemoryTier, PageLock
from poet_runtime.flash.io_lane import IoLane
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.streams import Mark, Streams, bytes_of

_STREAM_BYTES = 2**20


@dataclass(slots=True)
class _Newest:
    """The newest copy's mark: what must be over before the pool goes."""

    mark: Mark = None


class StreamPager:
    """See `paging.Paging`. Raises ReplayError (`host_memory_full`), and UsageError
    (`flash_options`) where checksums are asked for, which nothing here could take."""

    def __init__(
        self,
        size_bytes: int,
        streams: Streams,
        options: FlashOptions,
        page_lock: PageLock | None = None,
    ) -> None:
        if options.checksums not in (None, Checksums.NONE):
            raise UsageError(
                "Expected no checksums of copies that go from a GPU to the host's memory, got "
                f"{options.checksums.name}.",
                code="flash_options",
                hint="Leave checksums out, or page to flash.",
            )
        self._streams = streams
        self.tier = HostMemoryTier(size_bytes, page_lock)
        self._newest = _Newest()
        # The thread carries no transfer; checkpoints are written on it.
        self.lane = IoLane(options.stall_seconds)
        self.lane.at_end(_ending(streams, self._newest, self.tier.end))
        self._waiting: deque[tuple[int, Mark]] = deque()
        self._known: set[int] = set()
        self._fault: ReplayError | None = None
        self.tickets = self.bytes_written = self.bytes_read = 0

    @property
    def host_bytes(self) -> int:
        """See Paging."""
        return self.tier.host_bytes

    def page_out(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """See Paging."""
        memory = bytes_of(tensor.untyped_storage())
        self._known.add(storage)
        self.bytes_written += blocks_of(len(memory))
        return self._copy(self._place(offset, len(memory)), memory)

    def page_in(self, storage: int, offset: int, tensor: torch.Tensor) -> int:
        """See Paging."""
        memory = bytes_of(tensor.untyped_storage())
        if storage not in self._known:
            self._fault = self._fault or _unknown(storage)
        self.bytes_read += blocks_of(len(memory))
        return self._copy(memory, self._place(offset, len(memory)))

    def wait(self, ticket: int) -> None:
        """See Paging. The program itself does not stop."""
        if self._fault is not None:
            fault = self._fault
            raise ReplayError(
                fault.message, code=fault.code, hint=fault.hint, details=fault.details
            )
        reached: Mark = None
        while self._waiting and self._waiting[0][0] <= ticket:
            _, reached = self._waiting.popleft()
        if reached is not None:
            self._streams.hold(reached)

    def quiet(self) -> None:
        """See Paging: the device knows nothing of who still needs its memory."""
        if self._newest.mark is not None:
            with suppress(RuntimeError):  # a device that has failed copies nothing more
                self._streams.finish(self._newest.mark)

    def pieces(self, storage: int, offset: int, size_bytes: int) -> Iterator[memoryview]:
        """See Paging; a piece is good until the next page_out to its place."""
        if storage not in self._known:
            raise _unknown(storage)
        if self._newest.mark is not None:
            self._streams.finish(self._newest.mark)
        begin = self.tier.pool.data_ptr() + offset
        for done in range(0, size_bytes, _STREAM_BYTES):
            yield memory_view(begin + done, min(_STREAM_BYTES, size_bytes - done))

    def close(self) -> None:
        """See Paging."""
        self.lane.close()

    def _place(self, offset: int, size_bytes: int) -> torch.Tensor:
        return self.tier.pool[offset : offset + size_bytes]

    def _copy(self, target: torch.Tensor, source: torch.Tensor) -> int:
        if not self.lane.open:
            raise ReplayError("The pager is closed.", code="flash_io")
        self.tickets += 1
        if self._fault is not None:
            return self.tickets
        mark = self._streams.copy(target, source, self._streams.mark())
        self._waiting.append((self.tickets, mark))
        self._newest.mark = mark
        return self.tickets


def _ending(streams: Streams, newest: _Newest, end: Callable[[], None]) -> Callable[[], None]:
    """Holds no StreamPager, so that a forgotten one can be collected."""

    def ending() -> None:
        if newest.mark is not None:
            streams.finish(newest.mark)
        end()

    return ending


def _unknown(storage: int) -> ReplayError:
    return ReplayError(
        f"Storage {storage} was to come from the host's memory, where it has never gone.",
        code="flash_corrupt",
        hint="This is a defect of the plan or the replay: please report it with the model.",
        details={"storage": storage},
    )
