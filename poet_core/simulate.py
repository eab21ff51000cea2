"""THE JUDGE: replays a schedule on paper, with exact bytes, versions and two clocks.

It enforces the rules of docs/rules.md and nothing else, and imports no planner. Each rule that a
schedule breaks is a PlanError with its own code, the instruction, the storage and, for a budget,
how many bytes over. Memory is counted in program order, never in clock time, so a slow disk cannot
make a plan unsafe.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.flash_account import FlashAccount
from poet_core.graph import Op, TrainingGraph
from poet_core.plan import Allowed, Budget, Claims, Do, Instruction, Schedule
from poet_core.text import printable

INSTRUCTIONS_PER_OP = 64
"""A schedule holds at most this many instructions an op: a bound for everyone who reads one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The judge's figures. `memory_bytes[i]` is the RAM in use during instruction i;
    `initial_bytes` what is in use before the first. `peak_instruction` -1: before the first."""

    peak_bytes: int
    peak_instruction: int
    step_seconds: float
    energy_joules: float
    flash_peak_bytes: int
    flash_bytes_written: int
    compute_runs: int
    transfer_count: int
    initial_bytes: int
    memory_bytes: tuple[int, ...]

    @property
    def claims(self) -> Claims:
        """The figures in the form in which a plan claims them."""
        return Claims(
            peak_bytes=self.peak_bytes,
            step_seconds=self.step_seconds,
            energy_joules=self.energy_joules,
            flash_peak_bytes=self.flash_peak_bytes,
            flash_bytes_written=self.flash_bytes_written,
        )


def simulate(
    graph: TrainingGraph,
    costs: Costs,
    budget: Budget,
    schedule: Schedule,
    allowed: Allowed | None = None,
) -> Judgement:
    """Judge `schedule`. Raises PlanError at the first broken rule, else returns the figures."""
    _check_costs(graph, costs)
    _check_instructions(graph, schedule.instructions)
    if allowed is not None:
        _check_allowed(schedule, allowed)
    machine = _Machine(graph, costs, budget, schedule)
    for position, instruction in enumerate(schedule.instructions):
        machine.step(position, instruction)
    return machine.finish()


def _check_costs(graph: TrainingGraph, costs: Costs) -> None:
    ops, storages = len(graph.ops), len(graph.storages)
    per_storage = (
        costs.page_in_seconds, costs.page_in_joules, costs.page_out_seconds, costs.page_out_joules
    )  # fmt: skip
    for table, expected in [(costs.op_seconds, ops), (costs.op_joules, ops)] + [
        (table, storages) for table in per_storage
    ]:
        if len(table) != expected:
            raise PlanError(
                f"Costs name {len(table)} items where the graph has {expected}.",
                code="costs_for_other_graph",
            )


def _check_instructions(graph: TrainingGraph, instructions: Sequence[Instruction]) -> None:
    most = INSTRUCTIONS_PER_OP * len(graph.ops)
    if len(instructions) > most:
        raise PlanError(
            f"Expected at most {most} instructions ({INSTRUCTIONS_PER_OP} an op), "
            f"got {len(instructions)}.",
            code="too_many_instructions",
        )
    for position, instruction in enumerate(instructions):
        compute = instruction.do is Do.COMPUTE
        known = len(graph.ops) if compute else len(graph.storages)
        if not 0 <= instruction.target < known:
            what = "op" if compute else "storage"
            raise PlanError(
                f"Instruction {position} names {what} {instruction.target}; the graph has {known}.",
                code=f"unknown_{what}",
                details={"instruction": position},
            )


def _check_allowed(schedule: Schedule, allowed: Allowed) -> None:
    """Hold the schedule to what its problem allows."""
    seen: set[int] = set()
    newest = -1
    for position, instruction in enumerate(schedule.instructions):
        details = {"instruction": position}
        if instruction.do is Do.COMPUTE:
            op_id = instruction.target
            if op_id in seen and not allowed.rematerialize:
                raise PlanError(
                    f"Instruction {position} runs op {op_id} again; the problem does not allow "
                    "rematerialization.", code="rematerialization_not_allowed", details=details,
                )  # fmt: skip
            if op_id not in seen and op_id < newest and not allowed.reorder:
                raise PlanError(
                    f"Instruction {position} first runs op {op_id} after op {newest}; the problem "
                    "does not allow reordering.", code="reordering_not_allowed", details=details,
                )  # fmt: skip
            newest = max(newest, op_id)
            seen.add(op_id)
        elif instruction.do is not Do.FREE and not allowed.page:
            raise PlanError(
                f"Instruction {position} is a {instruction.do}; the problem does not allow paging.",
                code="paging_not_allowed", details=details,
            )  # fmt: skip
    if schedule.start_flash and not allowed.page:
        raise PlanError(
            "The plan starts with storages in flash; the problem does not allow paging.",
            code="paging_not_allowed",
        )


class _Machine:
    """The state: ram[s] and flash[s] (a version or nothing), bytes in use, the clocks T and D."""

    def __init__(
        self, graph: TrainingGraph, costs: Costs, budget: Budget, schedule: Schedule
    ) -> None:
        self._graph, self._costs, self._budget = graph, costs, budget
        self._schedule = schedule
        self._bytes = [budget.rounded(storage.size_bytes) for storage in graph.storages]
        self._ram: dict[int, int] = {}
        self._flash: dict[int, int] = {}
        self._start()
        self._used = budget.reserved_bytes + sum(self._bytes[storage] for storage in self._ram)
        runs = Counter(i.target for i in schedule.instructions if i.do is Do.COMPUTE)
        self._runs_planned = runs
        self._runs_done: Counter[int] = Counter()
        self._newest_random = -1
        self._rng_bytes = budget.rounded(graph.rng_state_bytes)
        self._program_clock = self._lane_clock = 0.0
        self._arrival: dict[int, float] = {}
        self._departure: dict[int, float] = {}
        self._joules = 0.0
        self._flash_account = FlashAccount(graph, schedule, budget)
        self._memory: list[int] = []
        self._initial = self._peak = self._used
        self._peak_position = -1
        if self._used > budget.ram_bytes:
            self._over_budget(-1, self._used, "before the first instruction")

    def step(self, position: int, instruction: Instruction) -> None:
        """Carry out one instruction."""
        if instruction.do is Do.COMPUTE:
            in_use = self._compute(position, self._graph.ops[instruction.target])
        else:
            storage = instruction.target
            if not self._graph.storages[storage].size_bytes:
                self._refuse("zero_bytes", position, f"names storage {storage}, which has 0 bytes "
                             "and is always resident", storage)  # fmt: skip
            if instruction.do is Do.PAGE_OUT:
                self._page_out(position, storage)
            elif instruction.do is Do.PAGE_IN:
                self._page_in(position, storage)
            else:
                self._free(position, storage)
            in_use = self._used
        self._memory.append(in_use)
        if in_use > self._budget.ram_bytes:
            self._over_budget(position, in_use, f"during instruction {position}")
        if in_use > self._peak:
            self._peak, self._peak_position = in_use, position

    def finish(self) -> Judgement:
        """Check that the step is a cycle and within its limits; return the figures."""
        for op in self._graph.ops:
            if not self._runs_done[op.id]:
                self._refuse("op_never_ran", None, f"op {op.id} ({printable(op.name)}) never runs",
                             op=op.id)  # fmt: skip
        self._check_end_ram()
        self._check_end_flash()
        seconds = max(self._program_clock, self._lane_clock)
        joules = self._joules + self._costs.idle_watts * seconds
        budget = self._budget
        if not math.isfinite(joules):
            self._refuse("figures_overflow", None, "the energy of the step is no finite number")
        if budget.step_seconds is not None and seconds > budget.step_seconds:
            self._refuse("time_exceeded", None,
                         f"the step takes {seconds:.9g} s, over {budget.step_seconds:.9g} s")  # fmt: skip
        if budget.energy_joules is not None and joules > budget.energy_joules:
            self._refuse("energy_exceeded", None,
                         f"the step takes {joules:.9g} J, over {budget.energy_joules:.9g} J")  # fmt: skip
        return Judgement(
            peak_bytes=self._peak,
            peak_instruction=self._peak_position,
            step_seconds=seconds,
            energy_joules=joules,
            flash_peak_bytes=self._flash_account.peak_bytes,
            flash_bytes_written=self._flash_account.bytes_written,
            compute_runs=sum(self._runs_done.values()),
            transfer_count=self._flash_account.transfer_count,
            initial_bytes=self._initial,
            memory_bytes=tuple(self._memory),
        )

    def _start(self) -> None:
        schedule, graph = self._schedule, self._graph
        for place, names in (("ram", schedule.start_ram), ("flash", schedule.start_flash)):
            if len(set(names)) != len(names):
                self._refuse("start_duplicate", None, f"start.{place} names a storage twice")
            for storage in names:
                known = 0 <= storage < len(graph.storages)
                if not known or not graph.storages[storage].persistent:
                    self._refuse("start_not_persistent", None,
                                 f"start.{place} names storage {storage}, which is not a "
                                 "persistent storage of the graph", storage)  # fmt: skip
                if not graph.storages[storage].size_bytes:
                    self._refuse("zero_bytes", None, f"start.{place} names storage {storage}, "
                                 "which has 0 bytes and is always resident", storage)  # fmt: skip
        self._ram = dict.fromkeys(schedule.start_ram, 0)
        self._flash = dict.fromkeys(schedule.start_flash, 0)
        for item in graph.storages:
            if not graph.begins_resident(item.id):
                continue
            if not item.persistent or not item.size_bytes:
                self._ram[item.id] = 0
            elif item.id not in self._ram and item.id not in self._flash:
                self._refuse("start_missing", None, f"persistent storage {item.id} is neither in "
                             "start.ram nor in start.flash", item.id)  # fmt: skip

    def _compute(self, position: int, op: Op) -> int:
        again = self._runs_done[op.id] > 0
        if again and not op.recomputable:
            self._refuse("not_recomputable", position,
                         f"runs op {op.id} again, which must run exactly once", op=op.id)  # fmt: skip
        if op.random and not again:
            if op.id < self._newest_random:
                self._refuse("random_order", position, f"first runs random op {op.id} after random "
                             f"op {self._newest_random}: the generator's order changes", op=op.id)  # fmt: skip
            self._newest_random = op.id
        self._runs_done[op.id] += 1
        for storage, version in self._graph.versions.need[op.id].items():
            self._check_found(position, op, storage, version)
        replays = op.random and self._runs_planned[op.id] > 1
        if replays and not again:
            self._used += self._rng_bytes
        in_use = self._used + self._budget.rounded(op.workspace_bytes)
        in_use += sum(self._bytes[storage] for storage in op.writes)
        self._used += sum(self._bytes[storage] for storage in op.writes if storage not in self._ram)
        if replays and self._runs_done[op.id] == self._runs_planned[op.id]:
            self._used -= self._rng_bytes
        self._ram.update(self._graph.versions.gives[op.id])
        waits = [self._arrival.get(storage, 0.0) for storage in op.touches]
        waits += [self._departure.get(storage, 0.0) for storage in op.writes + op.mutates]
        begin = max(self._program_clock, max(waits, default=0.0))
        self._program_clock = begin + self._costs.op_seconds[op.id]
        self._joules += self._costs.op_joules[op.id]
        return in_use

    def _check_found(self, position: int, op: Op, storage: int, version: int) -> None:
        found = self._ram.get(storage)
        if found is None:
            self._refuse("not_resident", position, f"runs op {op.id}, which needs storage "
                         f"{storage} in RAM", storage, op=op.id)  # fmt: skip
        if found != version:
            self._refuse("wrong_version", position, f"runs op {op.id}, which needs version "
                         f"{version} of storage {storage}; RAM holds version {found}", storage,
                         op=op.id)  # fmt: skip

    def _page_out(self, position: int, storage: int) -> None:
        version = self._ram.get(storage)
        if version is None:
            self._refuse("page_out_not_resident", position,
                         f"pages out storage {storage}, which is not in RAM", storage)  # fmt: skip
        if self._flash.get(storage) == version:
            self._refuse("page_out_redundant", position, f"pages out version {version} of storage "
                         f"{storage}, which flash holds already", storage)  # fmt: skip
        self._flash[storage] = version
        self._transfer(position, storage)
        self._departure[storage] = self._occupy_lane(self._costs.page_out_seconds[storage])
        self._joules += self._costs.page_out_joules[storage]

    def _page_in(self, position: int, storage: int) -> None:
        if storage in self._ram:
            self._refuse("page_in_resident", position,
                         f"pages in storage {storage}, which is in RAM already", storage)  # fmt: skip
        if storage not in self._flash:
            self._refuse("page_in_no_copy", position,
                         f"pages in storage {storage}, of which flash holds no copy", storage)  # fmt: skip
        self._ram[storage] = self._flash[storage]
        self._used += self._bytes[storage]
        self._transfer(position, storage)
        self._arrival[storage] = self._occupy_lane(self._costs.page_in_seconds[storage])
        self._joules += self._costs.page_in_joules[storage]

    def _free(self, position: int, storage: int) -> None:
        if storage not in self._ram:
            self._refuse("free_not_resident", position,
                         f"frees storage {storage}, which is not in RAM", storage)  # fmt: skip
        del self._ram[storage]
        self._used -= self._bytes[storage]
        pending = max(self._arrival.get(storage, 0.0), self._departure.get(storage, 0.0))
        self._program_clock = max(self._program_clock, pending)

    def _occupy_lane(self, seconds: float) -> float:
        self._lane_clock = max(self._program_clock, self._lane_clock) + seconds
        if not self._budget.overlap:
            self._program_clock = self._lane_clock
        return self._lane_clock

    def _transfer(self, position: int, storage: int) -> None:
        excess = self._flash_account.excess_after(position)
        if excess is not None:
            code, message, over = excess
            self._refuse(code, position, message, storage, bytes_over=over)

    def _check_end_ram(self) -> None:
        graph = self._graph
        expected = set(self._schedule.start_ram)
        expected |= {item.id for item in graph.storages if item.result and item.size_bytes}
        for storage in sorted(expected - self._ram.keys()):
            code = "result_missing" if graph.storages[storage].result else "not_back_in_ram"
            self._refuse(code, None, f"storage {storage} must be in RAM at the end and is not",
                         storage)  # fmt: skip
        for storage in sorted(self._ram.keys() - expected):
            if graph.storages[storage].size_bytes:
                self._refuse("left_in_ram", None, f"storage {storage} is still in RAM at the end",
                             storage)  # fmt: skip
            elif graph.storages[storage].persistent or graph.storages[storage].result:
                expected.add(storage)
        for storage in sorted(expected):
            if self._ram[storage] != graph.versions.last[storage]:
                self._refuse("old_version_in_ram", None, f"storage {storage} ends in RAM at "
                             f"version {self._ram[storage]}, not {graph.versions.last[storage]}",
                             storage)  # fmt: skip

    def _check_end_flash(self) -> None:
        last = self._graph.versions.last
        for storage in self._schedule.start_flash:
            if self._flash[storage] != last[storage]:
                self._refuse("old_version_in_flash", None, f"storage {storage} ends in flash at "
                             f"version {self._flash[storage]}, not {last[storage]}", storage)  # fmt: skip

    def _over_budget(self, position: int, in_use: int, where: str) -> NoReturn:
        over = in_use - self._budget.ram_bytes
        raise PlanError(
            f"The plan uses {in_use} bytes of RAM {where}, {over} over the budget of "
            f"{self._budget.ram_bytes}.",
            code="ram_exceeded",
            details={"instruction": position, "bytes_over": over},
        )

    def _refuse(
        self,
        code: str,
        position: int | None,
        message: str,
        storage: int | None = None,
        **amounts: int,
    ) -> NoReturn:
        details: dict[str, str | int | float | bool | None] = {**amounts}
        if position is not None:
            message = f"Instruction {position} {message}"
            details["instruction"] = position
        else:
            message = message[0].upper() + message[1:]
        if storage is not None:
            details["storage"] = storage
            if 0 <= storage < len(self._graph.storages):
                details["storage_name"] = printable(self._graph.storages[storage].name)
        raise PlanError(f"{message}.", code=code, details=details)
