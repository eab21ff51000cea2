"""Random small training graphs, costs, budgets and valid schedules, all from one `random.Random`.

Every number is a multiple of 1/8, so sums of costs are exact in floating point and two accounts of
the same schedule must agree to the last bit. Nothing here judges a schedule: a walk may come out
invalid (it returns None where it knows), and whoever uses it asks the judge and the interpreter.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from random import Random

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Instruction, Problem, Schedule


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """How large and how strange a random graph may be; chances are per op or per storage."""

    most_ops: int = 6
    most_persistent: int = 3
    most_inputs: int = 2
    most_bytes: int = 5
    second_output: float = 0.2
    overwrite: float = 0.12
    mutate: float = 0.3
    zero_bytes: float = 0.08
    random_op: float = 0.2
    run_once: float = 0.12
    workspace: float = 0.25


PLAIN = Shape()
TINY = Shape(most_ops=4, most_persistent=1, most_inputs=1, most_bytes=3)


def random_graph(rng: Random, shape: Shape = PLAIN) -> TrainingGraph:
    """A valid training graph of 1 to `most_ops` ops."""
    storages: list[Storage] = []

    def add(role: Role, *, persistent: bool = False) -> int:
        size = 0 if rng.random() < shape.zero_bytes else rng.randint(1, shape.most_bytes)
        storages.append(
            Storage(
                id=len(storages),
                name=f"s{len(storages)}",
                size_bytes=size,
                role=role,
                persistent=persistent,
                result=rng.random() < 0.15,
            )
        )
        return len(storages) - 1

    for _ in range(rng.randint(0, shape.most_inputs)):
        add(Role.INPUT, persistent=rng.random() < 0.1)
    for _ in range(rng.randint(0, shape.most_persistent)):
        add(rng.choice((Role.PARAMETER, Role.BUFFER, Role.OPTIMIZER_STATE)), persistent=True)
    ops: list[Op] = []
    for op_id in range(rng.randint(1, shape.most_ops)):
        known = list(range(len(storages)))
        rng.shuffle(known)
        reads = [known.pop() for _ in range(min(len(known), rng.choice((0, 1, 1, 1, 2, 2, 3))))]
        mutates = [known.pop()] if known and rng.random() < shape.mutate else []
        writes = [known.pop()] if known and rng.random() < shape.overwrite else []
        if rng.random() < 0.75 or not (mutates or writes):
            writes.append(add(rng.choice((Role.ACTIVATION, Role.GRADIENT))))
        if rng.random() < shape.second_output:
            writes.append(add(Role.ACTIVATION))
        ops.append(
            Op(
                id=op_id,
                name=f"o{op_id}",
                kind="test",
                phase=rng.choice(tuple(Phase)),
                reads=tuple(reads),
                writes=tuple(writes),
                mutates=tuple(mutates),
                workspace_bytes=rng.randint(1, 4) if rng.random() < shape.workspace else 0,
                recomputable=rng.random() >= shape.run_once,
                random=rng.random() < shape.random_op,
            )
        )
    return TrainingGraph(
        storages=tuple(storages), ops=tuple(ops), rng_state_bytes=rng.choice((0, 0, 1, 2, 3))
    )


def random_costs(rng: Random, graph: TrainingGraph, *, idle: bool = True) -> Costs:
    """Costs in eighths; now and then zero, so that ties occur."""

    def table(length: int, most: int) -> tuple[float, ...]:
        return tuple(rng.randint(0, most) / 8 for _ in range(length))

    ops, storages = len(graph.ops), len(graph.storages)
    paging = rng.choice((4, 16, 120))  # paging cheap, comparable, dear
    return Costs(
        op_seconds=table(ops, 24),
        op_joules=table(ops, 24),
        page_in_seconds=table(storages, paging),
        page_in_joules=table(storages, paging),
        page_out_seconds=table(storages, paging),
        page_out_joules=table(storages, paging),
        idle_watts=rng.choice((0.0, 0.0, 0.5, 1.0)) if idle else 0.0,
    )


def random_budget(rng: Random, ram_bytes: int) -> Budget:
    """A budget without flash, time and energy limits."""
    return Budget(
        ram_bytes=ram_bytes,
        reserved_bytes=rng.choice((0, 0, 1, 3)),
        alignment_bytes=rng.choice((1, 1, 2, 4)),
        overlap=rng.random() < 0.5,
    )


def random_problem(rng: Random, shape: Shape = PLAIN, allowed: Allowed | None = None) -> Problem:
    """A problem whose RAM is between the floor and keep-everything's peak, without overlap."""
    allowed = allowed or Allowed()
    graph = random_graph(rng, shape)
    costs = random_costs(rng, graph)
    budget = replace(random_budget(rng, 0), overlap=False)
    keep = judge_keep_everything(
        graph, costs, reserved_bytes=budget.reserved_bytes, alignment_bytes=budget.alignment_bytes
    )
    floor = ram_floor(graph, budget, paging=allowed.page).floor_bytes
    budget = replace(budget, ram_bytes=rng.randint(floor, max(floor, keep.peak_bytes)))
    return Problem(graph=graph, costs=costs, budget=budget, allowed=allowed)


def random_walk(rng: Random, graph: TrainingGraph) -> Schedule | None:
    """A schedule that pages, frees, recomputes and reorders at random; None where it got stuck."""
    walk = _Walk(rng, graph)
    return walk.schedule() if walk.run() else None


_DEEPEST_RECOMPUTE = 4


@dataclass
class _Walk:
    """Follows versions on the way and only does what it believes to be legal."""

    rng: Random
    graph: TrainingGraph
    instructions: list[Instruction] = field(default_factory=list)
    ram: dict[int, int] = field(default_factory=dict)
    flash: dict[int, int] = field(default_factory=dict)
    done: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.start_ram: list[int] = []
        self.start_flash: list[int] = []
        self.giver = {
            (storage, version): op.id
            for op in self.graph.ops
            for storage, version in self.graph.versions.gives[op.id].items()
        }
        for storage in self.graph.storages:
            if not self.graph.begins_resident(storage.id):
                continue
            place = self.rng.choice(("ram", "ram", "flash", "both"))
            if not storage.persistent or not storage.size_bytes:
                self.ram[storage.id] = 0
                continue
            if place != "flash":
                self.start_ram.append(storage.id)
                self.ram[storage.id] = 0
            if place != "ram":
                self.start_flash.append(storage.id)
                self.flash[storage.id] = 0

    def schedule(self) -> Schedule:
        return Schedule(
            start_ram=tuple(self.start_ram),
            start_flash=tuple(self.start_flash),
            instructions=tuple(self.instructions),
        )

    def run(self) -> bool:
        reorders = self.rng.random() < 0.5
        busy = self.rng.choice((0.0, 0.2, 0.5))
        while len(self.done) < len(self.graph.ops):
            waiting = [op.id for op in self.graph.ops if op.id not in self.done]
            while self.rng.random() < busy:
                self._fidget()
            first_random = next((i for i in waiting if self.graph.ops[i].random), None)
            ready = [i for i in waiting if not self.graph.ops[i].random or i == first_random]
            op_id = self.rng.choice(ready) if reorders and self.rng.random() < 0.3 else waiting[0]
            if not self._compute(op_id, 0) and not (
                op_id != waiting[0] and self._compute(waiting[0], 0)
            ):
                return False
        return self._close()

    def _do(self, what: Do, target: int) -> None:
        self.instructions.append(Instruction(what, target))

    def _fidget(self) -> None:
        """A random page-out or free that need not be useful."""
        resident = [s for s in self.ram if self.graph.storages[s].size_bytes]
        if not resident:
            return
        storage = self.rng.choice(resident)
        if self.flash.get(storage) != self.ram[storage]:
            if self.rng.random() < 0.6:
                self._do(Do.PAGE_OUT, storage)
                self.flash[storage] = self.ram[storage]
            elif (storage, self.ram[storage]) not in self.giver:
                return
        if self.rng.random() < 0.7:
            self._free(storage)

    def _free(self, storage: int) -> None:
        self._do(Do.FREE, storage)
        del self.ram[storage]

    def _compute(self, op_id: int, depth: int) -> bool:
        op = self.graph.ops[op_id]
        if op_id in self.done and not op.recomputable:
            return False
        need = self.graph.versions.need[op_id]
        for _ in range(2):  # fetching one input may undo another
            for storage, version in need.items():
                if not self._fetch(storage, version, depth):
                    return False
        if any(self.ram.get(storage) != version for storage, version in need.items()):
            return False
        self._do(Do.COMPUTE, op_id)
        self.done.add(op_id)
        self.ram.update(self.graph.versions.gives[op_id])
        return True

    def _fetch(self, storage: int, version: int, depth: int) -> bool:
        if self.ram.get(storage) == version:
            return True
        if self.flash.get(storage) == version:
            if storage in self.ram:
                self._free(storage)
            self._do(Do.PAGE_IN, storage)
            self.ram[storage] = version
            return True
        giver = self.giver.get((storage, version))
        if giver is None or giver not in self.done or depth >= _DEEPEST_RECOMPUTE:
            return False
        return self._compute(giver, depth + 1)

    def _close(self) -> bool:
        """Bring the step back to where it began, results in RAM."""
        graph, last = self.graph, self.graph.versions.last
        stay = set(self.start_ram) | {s.id for s in graph.storages if s.result and s.size_bytes}
        for storage in sorted(stay | set(self.start_flash)):
            if self.flash.get(storage) != last[storage] and not self._fetch(
                storage, last[storage], 0
            ):
                return False
            if storage in self.start_flash and self.flash.get(storage) != last[storage]:
                self._do(Do.PAGE_OUT, storage)
                self.flash[storage] = last[storage]
        for storage in sorted(stay):
            if not self._fetch(storage, last[storage], 0):
                return False
        for storage in sorted(self.ram.keys() - stay):
            if graph.storages[storage].size_bytes:
                self._free(storage)
        return True
