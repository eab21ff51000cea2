"""Shortest path over single instructions: slower than `shortest_path`, and with nothing to argue.

Every instruction that the rules allow is an arc. For tiny graphs (up to four ops) without random
ops that run again; there to show that bundling transfers and frees loses nothing.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import product

from poet_core.costs import Costs
from poet_core.graph import Role, TrainingGraph
from poet_core.plan import Budget

_State = tuple[int, tuple[int, ...], tuple[int, ...]]  # done, ram, flash


def naive_least_energy(
    graph: TrainingGraph, costs: Costs, budget: Budget, *, given_order: bool = False
) -> float | None:
    """The least energy of any schedule in which no random op runs twice; None: none fits."""
    movable = [s.id for s in graph.storages if s.persistent and s.size_bytes]
    found = [
        energy
        for places in product((1, 2, 3), repeat=len(movable))
        if (energy := _search(graph, costs, budget, given_order,
                              dict(zip(movable, places, strict=True)))) is not None
    ]  # fmt: skip
    return min(found, default=None)


def _search(
    graph: TrainingGraph, costs: Costs, budget: Budget, given_order: bool, places: dict[int, int]
) -> float | None:
    start_ram = {s for s, place in places.items() if place & 1}
    start_flash = {s for s, place in places.items() if place & 2}
    size = [budget.rounded(s.size_bytes) for s in graph.storages]
    room = budget.ram_bytes - budget.reserved_bytes
    need, give, last = graph.versions.need, graph.versions.gives, graph.versions.last
    watts = costs.idle_watts
    ram = tuple(
        0 if s.id in start_ram or (s.role is Role.INPUT and not s.persistent)
        or (s.persistent and not s.size_bytes) else -1
        for s in graph.storages
    )  # fmt: skip
    flash = tuple(0 if s.id in start_flash else -1 for s in graph.storages)
    stay = start_ram | {s.id for s in graph.storages if s.result and s.size_bytes}

    def used(resident: tuple[int, ...]) -> int:
        return sum(b for b, version in zip(size, resident, strict=True) if version >= 0)

    def arcs(state: _State) -> Iterator[tuple[float, _State]]:
        done, ram, flash = state
        for s, bytes_ in enumerate(size):
            if not bytes_:
                continue
            if ram[s] >= 0:
                yield 0.0, (done, _with(ram, s, -1), flash)
                if flash[s] != ram[s]:
                    cost = costs.page_out_joules[s] + watts * costs.page_out_seconds[s]
                    yield cost, (done, ram, _with(flash, s, ram[s]))
            elif flash[s] >= 0 and used(ram) + bytes_ <= room:
                cost = costs.page_in_joules[s] + watts * costs.page_in_seconds[s]
                yield cost, (done, _with(ram, s, flash[s]), flash)
        waiting = [op.id for op in graph.ops if not done >> op.id & 1]
        for op in graph.ops:
            if op.id not in waiting:
                if op.random or not op.recomputable:
                    continue
            elif (given_order and op.id != waiting[0]) or (
                op.random and any(graph.ops[i].random for i in waiting if i < op.id)
            ):
                continue
            if any(ram[s] != version for s, version in need[op.id].items()):
                continue
            extra = sum(size[s] for s in op.writes) + budget.rounded(op.workspace_bytes)
            if used(ram) + extra > room:
                continue
            after = list(ram)
            for s, version in give[op.id].items():
                after[s] = version
            cost = costs.op_joules[op.id] + watts * costs.op_seconds[op.id]
            yield cost, (done | 1 << op.id, tuple(after), flash)

    def ends(state: _State) -> bool:
        done, ram, flash = state
        if done != (1 << len(graph.ops)) - 1 or any(flash[s] != last[s] for s in start_flash):
            return False
        for item in graph.storages:
            wanted = item.id in stay if item.size_bytes else item.persistent or item.result
            if wanted and ram[item.id] != last[item.id]:
                return False
            if not wanted and item.size_bytes and ram[item.id] >= 0:
                return False
        return True

    if used(ram) > room:
        return None
    queue: list[tuple[float, _State]] = [(0.0, (0, ram, flash))]
    closed: set[_State] = set()
    while queue:
        energy, state = heapq.heappop(queue)
        if state in closed:
            continue
        if ends(state):
            return energy
        closed.add(state)
        for more, after in arcs(state):
            if after not in closed:
                heapq.heappush(queue, (energy + more, after))
    return None


def _with(versions: tuple[int, ...], storage: int, version: int) -> tuple[int, ...]:
    return (*versions[:storage], version, *versions[storage + 1 :])
