"""The second oracle: a value-level interpreter of schedules.

It knows nothing of versions. Storages hold values; an op's output is the hash of the op, the
storage and its input values; a random op also draws from a generator. Transfers happen at the
latest moment that the rules allow: the bytes of a page_out are read just before its storage is next
changed or freed, those of a page_in arrive when the storage is next touched, and until then RAM
holds garbage. A schedule is right when every run finds the values that document order gives it and
the step ends with document order's results and persistent values. Memory, clocks, energy and flash
are counted here a second time, from the definitions and not in the judge's way.

Imports nothing of the judge: only the vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from poet_core.costs import Costs
from poet_core.graph import Op, Role, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Instruction, Schedule

_INITIAL, _DRAW, _GARBAGE = 10**6, 10**7, 10**8
_MOST_PER_OP = 64


class Wrong(Exception):
    """The schedule breaks a rule or computes a wrong value."""


@dataclass(frozen=True, slots=True)
class Figures:
    """What the interpreter measures; the names are the judge's."""

    peak_bytes: int
    step_seconds: float
    energy_joules: float
    flash_peak_bytes: int
    flash_bytes_written: int
    memory_bytes: tuple[int, ...]  # during each instruction


@dataclass(frozen=True, slots=True)
class Reference:
    """Document order, run once: what each op finds and draws, and what each storage ends with."""

    inputs: tuple[tuple[int, ...], ...]
    draws: tuple[int, ...]
    final: tuple[int, ...]


def reference(graph: TrainingGraph) -> Reference:
    """Run the ops once in the order of the document, with all the RAM in the world."""
    values = {storage.id: hash((_INITIAL, storage.id)) for storage in graph.storages}
    state = _DRAW
    inputs: list[tuple[int, ...]] = []
    draws: list[int] = []
    for op in graph.ops:
        found = tuple(values[storage] for storage in op.reads + op.mutates)
        inputs.append(found)
        draws.append(state if op.random else 0)
        for storage in op.writes + op.mutates:
            values[storage] = _output(op, storage, found, draws[-1])
        if op.random:
            state = _next_state(state)
    return Reference(tuple(inputs), tuple(draws), tuple(values[s.id] for s in graph.storages))


def _output(op: Op, storage: int, found: tuple[int, ...], draw: int) -> int:
    return hash((op.id, storage, found, draw))


def _next_state(state: int) -> int:
    return hash((_DRAW, state))


def interpret(
    graph: TrainingGraph,
    costs: Costs,
    budget: Budget,
    schedule: Schedule,
    allowed: Allowed,
    expected: Reference,
) -> Figures:
    """Run the schedule. Raises Wrong, or returns the figures."""
    _check_form(graph, schedule, allowed)
    run = _Run(graph, schedule, expected)
    start, memory = run.replay(budget)
    peak = max(start, *memory)
    seconds = _seconds(graph, costs, budget, schedule.instructions)
    joules = _joules(costs, schedule.instructions) + costs.idle_watts * seconds
    flash_peak, written = _flash(graph, budget, schedule)
    if budget.step_seconds is not None and seconds > budget.step_seconds:
        raise Wrong("time")
    if budget.energy_joules is not None and joules > budget.energy_joules:
        raise Wrong("energy")
    return Figures(peak, seconds, joules, flash_peak, written, tuple(memory))


def _check_form(graph: TrainingGraph, schedule: Schedule, allowed: Allowed) -> None:
    """What can be said without running: ids, start sets, run counts, what is allowed."""
    program = schedule.instructions
    if len(program) > _MOST_PER_OP * len(graph.ops):
        raise Wrong("length")
    for one in program:
        known = graph.ops if one.do is Do.COMPUTE else graph.storages
        if one.target not in range(len(known)):
            raise Wrong("unknown id")
        if one.do is not Do.COMPUTE and graph.storages[one.target].size_bytes == 0:
            raise Wrong("zero-byte storage named")
    for names in (schedule.start_ram, schedule.start_flash):
        if sorted(names) != sorted(set(names)) or not set(names) <= _movable(graph):
            raise Wrong("start")
    if _movable(graph) - set(schedule.start_ram) - set(schedule.start_flash):
        raise Wrong("start incomplete")
    order = [one.target for one in program if one.do is Do.COMPUTE]
    if set(order) != set(range(len(graph.ops))):
        raise Wrong("op missing")
    if any(order.count(op.id) > 1 for op in graph.ops if not op.recomputable):
        raise Wrong("run twice")
    firsts = sorted(set(order), key=order.index)
    moves = any(one.do in (Do.PAGE_IN, Do.PAGE_OUT) for one in program)
    if not allowed.page and (moves or schedule.start_flash):
        raise Wrong("paging")
    if not allowed.rematerialize and len(order) > len(firsts):
        raise Wrong("rematerialization")
    if not allowed.reorder and firsts != sorted(firsts):
        raise Wrong("reordering")


def _movable(graph: TrainingGraph) -> set[int]:
    return {item.id for item in graph.storages if item.persistent and item.size_bytes > 0}


class _Run:
    """The values in RAM and flash, transfers that have not happened yet, and live blocks."""

    def __init__(self, graph: TrainingGraph, schedule: Schedule, expected: Reference) -> None:
        self.graph, self.schedule, self.expected = graph, schedule, expected
        self.values: dict[int, int] = {}
        self.flash = {s: hash((_INITIAL, s)) for s in schedule.start_flash}
        self.leaving: set[int] = set()
        self.coming: set[int] = set()
        self.generator = _DRAW
        self.saved: dict[int, int] = {}
        for item in graph.storages:
            ours = item.persistent and (item.id in schedule.start_ram or not item.size_bytes)
            if ours or (item.role is Role.INPUT and not item.persistent):
                self.values[item.id] = hash((_INITIAL, item.id))

    def replay(self, budget: Budget) -> tuple[int, list[int]]:
        """Carry everything out; bytes in use at the start and during each instruction."""
        program = self.schedule.instructions
        spans = _generator_spans(self.graph, program)
        grain = budget.alignment_bytes
        blocks = [_block(item.size_bytes, grain) for item in self.graph.storages]
        state_block = _block(self.graph.rng_state_bytes, grain)
        start = budget.reserved_bytes + sum(blocks[s] for s in self.values)
        memory: list[int] = []
        for position, one in enumerate(program):
            extra = state_block * sum(first <= position <= last for first, last in spans)
            if one.do is Do.COMPUTE:
                op = self.graph.ops[one.target]
                extra += sum(blocks[s] for s in op.writes if s in self.values)
                extra += _block(op.workspace_bytes, grain)
                self._compute(op)
            elif one.do is Do.PAGE_OUT:
                self._page_out(one.target)
            elif one.do is Do.PAGE_IN:
                self._page_in(one.target)
            else:
                self._free(one.target)
            live = sum(blocks[s] for s in self.values)
            memory.append(budget.reserved_bytes + live + extra)
        if max(start, *memory) > budget.ram_bytes:
            raise Wrong("memory")
        self._check_end()
        return start, memory

    def _compute(self, op: Op) -> None:
        for storage in op.reads + op.mutates + op.writes:
            self._arrive(storage)
        for storage in op.mutates + op.writes:
            self._depart(storage)
        found = tuple(self.values.get(storage, _GARBAGE) for storage in op.reads + op.mutates)
        if found != self.expected.inputs[op.id]:
            raise Wrong("input value")
        draw = 0
        if op.random:
            if op.id in self.saved:
                draw = self.saved[op.id]
            else:
                draw = self.saved[op.id] = self.generator
                self.generator = _next_state(self.generator)
            if draw != self.expected.draws[op.id]:
                raise Wrong("generator")
        for storage in op.writes + op.mutates:
            self.values[storage] = _output(op, storage, found, draw)

    def _page_out(self, storage: int) -> None:
        self._arrive(storage)
        if storage not in self.values:
            raise Wrong("page_out of nothing")
        if storage in self.leaving or self.flash.get(storage) == self.values[storage]:
            raise Wrong("page_out again")
        self.leaving.add(storage)

    def _page_in(self, storage: int) -> None:
        if storage in self.values:
            raise Wrong("page_in over a resident storage")
        if storage not in self.flash:
            raise Wrong("page_in of nothing")
        self.values[storage] = _GARBAGE
        self.coming.add(storage)

    def _free(self, storage: int) -> None:
        self._arrive(storage)
        self._depart(storage)
        if self.values.pop(storage, None) is None:
            raise Wrong("free of nothing")

    def _arrive(self, storage: int) -> None:
        if storage in self.coming:
            self.coming.remove(storage)
            self.values[storage] = self.flash[storage]

    def _depart(self, storage: int) -> None:
        if storage in self.leaving:
            self.leaving.remove(storage)
            self.flash[storage] = self.values[storage]

    def _check_end(self) -> None:
        for item in self.graph.storages:
            self._arrive(item.id)
            self._depart(item.id)
            right = self.expected.final[item.id]
            if item.size_bytes:
                stays = item.id in self.schedule.start_ram or item.result
                if stays != (item.id in self.values):
                    raise Wrong("end of step: RAM")
            else:
                stays = item.persistent or item.result
            if stays and self.values[item.id] != right:
                raise Wrong("end of step: value in RAM")
            if item.id in self.schedule.start_flash and self.flash[item.id] != right:
                raise Wrong("end of step: value in flash")


def _block(size_bytes: int, grain: int) -> int:
    return (size_bytes + grain - 1) // grain * grain


def _generator_spans(graph: TrainingGraph, program: Sequence[Instruction]) -> list[tuple[int, int]]:
    """First and last run of every random op that runs more than once."""
    spans = []
    for op in graph.ops:
        if op.random:
            runs = [i for i, one in enumerate(program) if one == Instruction(Do.COMPUTE, op.id)]
            if len(runs) > 1:
                spans.append((runs[0], runs[-1]))
    return spans


def _seconds(
    graph: TrainingGraph, costs: Costs, budget: Budget, program: Sequence[Instruction]
) -> float:
    """The longest path through the events of the step.

    The program is a chain, the I/O lane is a chain that a transfer joins when the program reaches
    it; a compute also comes after the transfers in of what it touches and out of what it changes, a
    free after all transfers of its storage.
    """
    ins: dict[int, float] = {}  # storage -> latest end of its page_ins so far
    outs: dict[int, float] = {}
    program_end = lane_end = 0.0
    for one in program:
        target = one.target
        if one.do is Do.COMPUTE:
            op = graph.ops[target]
            after = [program_end]
            after += [ins[s] for s in {*op.reads, *op.writes, *op.mutates} & ins.keys()]
            after += [outs[s] for s in {*op.writes, *op.mutates} & outs.keys()]
            program_end = max(after) + costs.op_seconds[target]
        elif one.do is Do.FREE:
            program_end = max(program_end, ins.get(target, 0.0), outs.get(target, 0.0))
        else:
            inward = one.do is Do.PAGE_IN
            seconds = (costs.page_in_seconds if inward else costs.page_out_seconds)[target]
            lane_end = max(lane_end, program_end) + seconds
            (ins if inward else outs)[target] = lane_end
            if not budget.overlap:
                program_end = lane_end
    return max(program_end, lane_end)


def _joules(costs: Costs, program: Sequence[Instruction]) -> float:
    tables = {
        Do.COMPUTE: costs.op_joules,
        Do.PAGE_IN: costs.page_in_joules,
        Do.PAGE_OUT: costs.page_out_joules,
    }
    return sum(tables[one.do][one.target] for one in program if one.do is not Do.FREE)


def _flash(graph: TrainingGraph, budget: Budget, schedule: Schedule) -> tuple[int, int]:
    """Most bytes alive in flash at any moment, and bytes written."""
    program = schedule.instructions
    sizes = [item.size_bytes for item in graph.storages]
    outs = [i for i, one in enumerate(program) if one.do is Do.PAGE_OUT]
    kept = {program[i].target for i in outs if graph.storages[program[i].target].persistent}
    lives: list[tuple[int, int, int]] = []
    for begin in outs:
        storage = program[begin].target
        if graph.storages[storage].persistent:
            continue
        end = begin
        for later in range(begin + 1, len(program)):
            if program[later] == Instruction(Do.PAGE_OUT, storage):
                break  # the next copy takes over
            if program[later] == Instruction(Do.PAGE_IN, storage):
                end = later
        lives.append((begin, end, sizes[storage]))
    base = sum(sizes[s] for s in kept | set(schedule.start_flash))
    peak = max(
        (base + sum(n for begin, end, n in lives if begin <= now <= end) for now in outs),
        default=base,
    )
    written = sum(sizes[program[i].target] for i in outs)
    if budget.flash_bytes is not None and peak > budget.flash_bytes:
        raise Wrong("flash capacity")
    if budget.flash_write_bytes is not None and written > budget.flash_write_bytes:
        raise Wrong("flash writes")
    return peak, written
