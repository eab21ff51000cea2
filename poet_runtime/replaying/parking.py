"""Parking: between model and optimizer, which own the state, and a step, which uses it.

    live     model and optimizer hold every value; flash holds nothing that counts
    parked   storages of start.flash that are not in start.ram are on flash only

A step parks first, `write_back` makes it live again; what the user changes while it is live
counts, because the next step parks anew. A tensor that is split (`wholes`) is one tensor while it is
live and its parts while it is parked. Invariant: a value has one true place at a time.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator, Mapping

import torch

from poet_core.plan import Schedule
from poet_runtime.flash.flash_file import address_of, memory_view
from poet_runtime.flash.flash_layout import FlashLayout
from poet_runtime.flash.paging import Paging
from poet_runtime.program import Program
from poet_runtime.replaying.call_facts import moved_storages
from poet_runtime.replaying.owners import Holders
from poet_runtime.replaying.replay import lies_as, tensor_of
from poet_runtime.replaying.wholes import Whole
from poet_runtime.torch_device import host_pieces


class Parking:
    """The persistent storages of one program under one schedule. `pager` None: nothing pages."""

    def __init__(
        self,
        program: Program,
        schedule: Schedule,
        layout: FlashLayout,
        holders: Holders,
        pager: Paging | None,
    ) -> None:
        graph = self._graph = program.graph
        self._holders, self._pager, self._layout = holders, pager, layout
        self._on_flash = frozenset(schedule.start_flash)
        self._parked_only = self._on_flash - frozenset(schedule.start_ram)
        zero_bytes = tuple(s.id for s in graph.storages if s.persistent and not s.size_bytes)
        self._in_ram = tuple(schedule.start_ram) + zero_bytes
        self._moved = moved_storages(program, schedule)
        self.is_parked = False

    def park(self) -> None:
        """Takes over the state: writes start.flash and empties the holders of what is only there.

        Raises ReplayError (`state_changed`) before anything is changed, and faults of the disk.
        """
        self._holders.check()
        self._holders.drop_gradients()
        self.is_parked = True
        for storage in self._holders.bindings:
            # One at a time: optimizer state that is made here and parked never adds up in RAM.
            self._holders.prepare(storage)
            if storage in self._on_flash:
                pager, place = self._paging(), self._layout.homes[storage]
                pager.wait(pager.page_out(storage, place, self._holders.fetch(storage)))
            if storage in self._parked_only:
                self._holders.empty(storage)

    def resident(self) -> dict[int, torch.Tensor]:
        """The persistent storages that a step finds in RAM. The holders of those that the step
        frees or replaces are emptied, so that a free is real."""
        tensors: dict[int, torch.Tensor] = {}
        for storage in self._in_ram:
            tensors[storage] = self._holders.fetch(storage)
            if storage in self._moved:
                self._holders.empty(storage)
        return tensors

    def settle(self, moved: Mapping[int, torch.Tensor]) -> None:
        """Gives the holders what a finished step has left in RAM."""
        for storage, tensor in moved.items():
            self._holders.assign(storage, self._as_held(storage, tensor))

    def write_back(self) -> None:
        """Brings everything on flash back to its holder."""
        if not self.is_parked:
            return
        for storage, binding in self._holders.bindings.items():
            if storage in self._parked_only and binding.part is None:
                self._holders.assign(storage, self._brought(storage))
        for whole in self._holders.wholes.values():
            if whole.split:
                self._holders.give(whole, self.value(whole))
        self.is_parked = False

    def value(self, whole: Whole) -> torch.Tensor:
        """The value of an owner's tensor, brought into RAM where it is not there; what is parked
        stays parked."""
        if not self.is_parked:
            return self._holders.held(whole)
        if not whole.split:
            return self._brought(*whole.storages)
        tensor = whole.blank()
        for storage, rows in whole.views(tensor):
            rows.copy_(self._brought(storage))
        return tensor

    def size_bytes(self, whole: Whole) -> int:
        """Bytes of an owner's tensor."""
        return sum(self._graph.storages[storage].size_bytes for storage in whole.storages)

    def pieces(self, whole: Whole) -> Iterator[memoryview]:
        """The bytes of an owner's tensor while it is parked, wherever they are, without taking them
        into RAM whole; on the I/O thread (see Paging.pieces)."""
        if not whole.split:
            return self._pieces(*whole.storages)
        parts = (piece for storage in whole.storages for piece in self._pieces(storage))
        return _in_blocks(parts)

    def _brought(self, storage: int) -> torch.Tensor:
        """The value of a storage: what is in RAM, or what is on flash, in new memory."""
        if storage not in self._parked_only:
            return self._holders.fetch(storage)
        tensor, pager = self._holders.blank(storage), self._paging()
        pager.wait(pager.page_in(storage, self._layout.homes[storage], tensor))
        return tensor

    def _pieces(self, storage: int) -> Iterator[memoryview]:
        if self.is_parked and storage in self._parked_only:
            place, size_bytes = (
                self._layout.homes[storage],
                self._graph.storages[storage].size_bytes,
            )
            yield from self._paging().pieces(storage, place, size_bytes)
            return
        yield from host_pieces(self._holders.fetch(storage).untyped_storage())

    def abandon(self) -> None:
        """After a fault: every holder that lost its value gets its shape back, filled with NaN (or
        zero for integers), so that load_state_dict works and nothing else passes for a result."""
        for whole in self._holders.wholes.values():
            tensor = self._holders.held(whole)
            if tensor.shape != torch.Size(whole.spec.size):
                tensor = whole.blank() if whole.split else self._holders.blank(*whole.storages)
                tensor.fill_(float("nan") if tensor.is_floating_point() else 0)
            self._holders.give(whole, tensor)
        self.is_parked = False

    def reallocate(self) -> None:
        """Moves what is in RAM to new memory: an allocator's log that begins now sees all of it."""
        for storage in self._in_ram:
            self._holders.move(storage)

    def _as_held(self, storage: int, tensor: torch.Tensor) -> torch.Tensor:
        spec = self._holders.bindings[storage].spec
        return tensor if lies_as(tensor, spec) else tensor_of(tensor, spec)

    def _paging(self) -> Paging:
        assert self._pager is not None, "start.flash is not empty, so TrainStep made a pager"
        return self._pager


_STREAM_BYTES = 2**20


def _in_blocks(pieces: Iterable[memoryview]) -> Iterator[memoryview]:
    """The same bytes in pieces of whole blocks, but for the last: a file past the page cache is
    written at blocks, and parts end where their rows do. A piece is good until the next one."""
    with mmap.mmap(-1, _STREAM_BYTES) as buffer:
        view, filled = memory_view(address_of(buffer), _STREAM_BYTES), 0
        for piece in pieces:
            begin = 0
            while begin < len(piece):
                count = min(len(piece) - begin, _STREAM_BYTES - filled)
                view[filled : filled + count] = piece[begin : begin + count]
                filled, begin = filled + count, begin + count
                if filled == _STREAM_BYTES:
                    yield view
                    filled = 0
        if filled:
            yield view[:filled]
