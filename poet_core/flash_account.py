"""The judge's account of flash: bytes alive after each transfer, and bytes written a step.

Part of the judge (`simulate`) and, like it, free of planners. Invariant: everything is known ahead
from the schedule alone, because a copy's life ends with a page_in that is yet to come.
"""

from __future__ import annotations

from collections import Counter

from poet_core.errors import PlanError
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Schedule


class FlashAccount:
    """Bytes alive in flash after each transfer, and bytes written, known ahead from the schedule.

    A non-persistent copy lives from its page_out to its last page_in; a persistent storage that is
    ever in flash holds its place all step.
    """

    def __init__(self, graph: TrainingGraph, schedule: Schedule, budget: Budget) -> None:
        self._budget = budget
        self.bytes_written = 0
        self.transfer_count = 0
        self._written_by: dict[int, int] = {}
        self._alive_at: dict[int, int] = {}
        resident = set(schedule.start_flash)
        copies: dict[int, list[list[int]]] = {}
        for position, instruction in enumerate(schedule.instructions):
            storage = instruction.target
            if instruction.do is Do.PAGE_OUT:
                self.bytes_written += graph.storages[storage].size_bytes
                if graph.storages[storage].persistent:
                    resident.add(storage)
                else:
                    copies.setdefault(storage, []).append([position, position])
            elif instruction.do is Do.PAGE_IN and storage in copies:
                copies[storage][-1][1] = position
            if instruction.do in (Do.PAGE_OUT, Do.PAGE_IN):
                self.transfer_count += 1
                self._written_by[position] = self.bytes_written
        always = sum(graph.storages[storage].size_bytes for storage in resident)
        begins: Counter[int] = Counter()
        ends: Counter[int] = Counter()
        for storage, intervals in copies.items():
            for first, last in intervals:
                begins[first] += graph.storages[storage].size_bytes
                ends[last] += graph.storages[storage].size_bytes
        alive = self.peak_bytes = always
        for position in sorted(self._written_by):
            alive += begins[position]
            self._alive_at[position] = alive
            self.peak_bytes = max(self.peak_bytes, alive)
            alive -= ends[position]
        if budget.flash_bytes is not None and always > budget.flash_bytes:
            raise PlanError(
                f"Persistent storages take {always} bytes of flash, {always - budget.flash_bytes} "
                f"over the capacity of {budget.flash_bytes}.",
                code="flash_exceeded",
                details={"bytes_over": always - budget.flash_bytes},
            )

    def excess_after(self, position: int) -> tuple[str, str, int] | None:
        """The limit that the transfer at `position` breaks: (code, message, bytes over), if any."""
        alive, limit = self._alive_at[position], self._budget.flash_bytes
        if limit is not None and alive > limit:
            return (
                "flash_exceeded",
                (f"brings flash to {alive} bytes, {alive - limit} over its capacity of {limit}"),
                alive - limit,
            )
        written, cap = self._written_by[position], self._budget.flash_write_bytes
        if cap is not None and written > cap:
            return (
                "flash_writes_exceeded",
                (
                    f"brings the flash writes of the step to {written} bytes, {written - cap} over "
                    f"the cap of {cap}"
                ),
                written - cap,
            )
        return None
