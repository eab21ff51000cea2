"""Where in the paging file each copy lies.

A persistent storage keeps one place all step, and across steps. A copy of any other storage lives
from its page_out to its last page_in; copies whose lives do not meet may share bytes. Invariant:
two copies that are alive at the same instruction never overlap. One lane carries out transfers in
program order, so sharing is safe in time as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from poet_core.graph import TrainingGraph
from poet_core.plan import Do, Schedule
from poet_runtime.flash.flash_file import BLOCK_BYTES

PLACE_BYTES = BLOCK_BYTES
"""Copies begin at multiples of a block, and a copy's last block is its own (see FlashFile)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """One transfer of the step: which storage, which way, and where its copy lies in the file."""

    storage: int
    outward: bool
    offset: int
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FlashLayout:
    """`transfers` in program order; `homes`: the offsets of persistent storages."""

    transfers: tuple[Transfer, ...]
    homes: Mapping[int, int]
    size_bytes: int


@dataclass(slots=True)
class _Copy:
    storage: int
    size_bytes: int
    first: int
    last: int
    offset: int = -1


def lay_out(graph: TrainingGraph, schedule: Schedule) -> FlashLayout:
    """Places for every copy of a valid schedule: largest first, each at the lowest free offset."""
    end = len(schedule.instructions)
    sizes = [-(-storage.size_bytes // PLACE_BYTES) * PLACE_BYTES for storage in graph.storages]
    homes = {storage: _Copy(storage, sizes[storage], -1, end) for storage in schedule.start_flash}
    copies = list(homes.values())
    newest: dict[int, _Copy] = dict(homes)
    used: list[tuple[int, bool, _Copy]] = []
    for position, instruction in enumerate(schedule.instructions):
        storage = instruction.target
        if instruction.do is Do.PAGE_OUT:
            if graph.storages[storage].persistent:
                if storage not in homes:
                    homes[storage] = newest[storage] = _Copy(storage, sizes[storage], -1, end)
                    copies.append(homes[storage])
            else:
                newest[storage] = _Copy(storage, sizes[storage], position, position)
                copies.append(newest[storage])
            used.append((storage, True, newest[storage]))
        elif instruction.do is Do.PAGE_IN:
            newest[storage].last = max(newest[storage].last, position)
            used.append((storage, False, newest[storage]))
    _place(copies)
    return FlashLayout(
        transfers=tuple(
            Transfer(
                storage=storage,
                outward=outward,
                offset=copy.offset,
                size_bytes=graph.storages[storage].size_bytes,
            )
            for storage, outward, copy in used
        ),
        homes={storage: copy.offset for storage, copy in homes.items()},
        size_bytes=max((copy.offset + copy.size_bytes for copy in copies), default=0),
    )


def _place(copies: list[_Copy]) -> None:
    placed: list[_Copy] = []
    for copy in sorted(copies, key=lambda item: (-item.size_bytes, item.first, item.storage)):
        offset = 0
        for other in placed:  # sorted by offset
            if other.last < copy.first or copy.last < other.first:
                continue
            if offset + copy.size_bytes <= other.offset:
                break
            offset = max(offset, other.offset + other.size_bytes)
        copy.offset = offset
        placed.append(copy)
        placed.sort(key=lambda item: item.offset)
