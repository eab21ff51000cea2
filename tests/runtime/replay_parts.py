"""Hand-made schedules and small models for the tests of the replay. No planner takes part."""

from __future__ import annotations

import random
from collections import Counter

from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.plan import Do, Instruction, Plan, PlannedBy, Schedule
from poet_core.problem import make_problem
from poet_runtime.planner import plan_of

BY_HAND = PlannedBy(formulation="hand-made", solver="none", status="made by a test", wall_seconds=0)


def hand_made_plan(graph: TrainingGraph, schedule: Schedule, ram_bytes: int | None = None) -> Plan:
    """A schedule as a plan for the host."""
    host = load_device("host")
    return plan_of(
        make_problem(graph, host, ram_bytes=ram_bytes or host.ram_bytes), schedule, BY_HAND
    )


class Impossible(Exception):
    """The random choices so far lead nowhere."""


class Builder:
    """Writes a valid schedule op by op, keeping the versions that RAM and flash hold."""

    def __init__(self, graph: TrainingGraph, start_ram: set[int], start_flash: set[int]) -> None:
        self.graph = graph
        self.start_ram, self.start_flash = start_ram, start_flash
        self.ram = dict.fromkeys(start_ram, 0)
        self.flash = dict.fromkeys(start_flash, 0)
        for storage in graph.storages:
            inside = not storage.persistent or not storage.size_bytes
            if graph.begins_resident(storage.id) and inside:
                self.ram[storage.id] = 0
        self.instructions: list[Instruction] = []
        self.updated = False

    def do(self, do: Do, target: int) -> None:
        self.instructions.append(Instruction(do, target))
        if do is Do.PAGE_OUT:
            self.flash[target] = self.ram[target]
        elif do is Do.PAGE_IN:
            self.ram[target] = self.flash[target]
        elif do is Do.FREE:
            del self.ram[target]
        else:
            self.ram.update(self.graph.versions.gives[target])

    def compute(self, op_id: int) -> None:
        self.do(Do.COMPUTE, op_id)

    def save(self, storage: int) -> None:
        if self.flash.get(storage) != self.ram[storage]:
            self.do(Do.PAGE_OUT, storage)

    def schedule(self) -> Schedule:
        return Schedule(
            start_ram=tuple(sorted(self.start_ram)),
            start_flash=tuple(sorted(self.start_flash)),
            instructions=tuple(self.instructions),
        )


def uses_left(graph: TrainingGraph) -> Counter[int]:
    return Counter(storage for op in graph.ops for storage in op.reads + op.mutates)


def page_everything(graph: TrainingGraph) -> Schedule:
    """Every persistent storage starts on flash; after each op everything leaves RAM."""
    real = {s.id for s in graph.storages if s.size_bytes}
    persistent = {s.id for s in graph.storages if s.persistent} & real
    results = {s.id for s in graph.storages if s.result}
    builder, left = Builder(graph, set(), set(persistent)), uses_left(graph)

    def leave(storage: int) -> None:
        if left[storage] or storage in persistent:
            builder.save(storage)
        builder.do(Do.FREE, storage)

    for storage in sorted(set(builder.ram) & real):
        leave(storage)
    for op in graph.ops:
        for storage in op.reads + op.mutates:
            if storage not in builder.ram:
                builder.do(Do.PAGE_IN, storage)
        builder.compute(op.id)
        left.subtract(op.reads + op.mutates)
        for storage in op.touches:
            if storage in real and not (storage in results and not left[storage]):
                leave(storage)
    return builder.schedule()


def random_schedule(graph: TrainingGraph, seed: int) -> Schedule:
    """A valid schedule made of random choices: where persistent storages start, what leaves RAM
    after each op, whether it comes back by a page-in or by running its op again."""
    for attempt in range(200):
        try:
            return _attempt(graph, random.Random(seed * 1000 + attempt))
        except Impossible:
            continue
    raise AssertionError(f"no valid random schedule for seed {seed}")


def _attempt(graph: TrainingGraph, chance: random.Random) -> Schedule:
    persistent = [s.id for s in graph.storages if s.persistent and s.size_bytes]
    results = {s.id for s in graph.storages if s.result}
    places = {storage: chance.choice(("ram", "flash", "both")) for storage in persistent}
    builder = Builder(
        graph,
        {s for s in persistent if places[s] != "flash"},
        {s for s in persistent if places[s] != "ram"},
    )
    maker = _makers(graph)
    left = uses_left(graph)

    def bring(storage: int, version: int, depth: int = 0) -> None:
        if builder.ram.get(storage) == version:
            return
        if storage in builder.ram:
            raise Impossible
        if builder.flash.get(storage) == version:
            builder.do(Do.PAGE_IN, storage)
            return
        op_id = maker.get((storage, version))
        if op_id is None or depth > 4 or not graph.ops[op_id].recomputable:
            raise Impossible
        if graph.ops[op_id].mutates:
            raise Impossible
        for needed, its_version in graph.versions.need[op_id].items():
            bring(needed, its_version, depth + 1)
        builder.compute(op_id)

    sizes = [s.size_bytes for s in graph.storages]
    for op in graph.ops:
        for storage, version in graph.versions.need[op.id].items():
            bring(storage, version)
        builder.compute(op.id)
        left.subtract(op.reads + op.mutates)
        for storage in sorted(builder.ram):
            if not sizes[storage] or (storage in results and not left[storage]):
                continue
            if not left[storage] and storage not in persistent:
                builder.do(Do.FREE, storage)
            elif chance.random() < 0.3:
                if chance.random() < 0.6 or storage in persistent:
                    builder.save(storage)
                builder.do(Do.FREE, storage)
    _close_cycle(builder, persistent)
    return builder.schedule()


def _close_cycle(builder: Builder, persistent: list[int]) -> None:
    last = builder.graph.versions.last
    for storage in persistent:
        at_home = storage in builder.start_ram
        if storage not in builder.ram and (at_home or builder.flash.get(storage) != last[storage]):
            if builder.flash.get(storage) != last[storage]:
                raise Impossible
            builder.do(Do.PAGE_IN, storage)
        if storage in builder.start_flash and builder.flash[storage] != last[storage]:
            builder.do(Do.PAGE_OUT, storage)
        if not at_home and storage in builder.ram:
            builder.do(Do.FREE, storage)


def _makers(graph: TrainingGraph) -> dict[tuple[int, int], int]:
    """Which op gives a storage a version."""
    return {
        (storage, version): op.id
        for op in graph.ops
        for storage, version in graph.versions.gives[op.id].items()
        if storage in op.writes
    }
