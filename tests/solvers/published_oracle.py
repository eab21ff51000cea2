"""An exact oracle for POET's published rules: best paths over what each stage begins with.

It shares nothing with the model: no variables, no rows, only sets. A stage begins with a set of
outputs in RAM and a set in flash; every choice of what to compute, keep, page in and page out is
tried. Exponential: for graphs of up to about five nodes, with whole seconds.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, combinations

from poet_solvers.published_graph import PublishedGraph

Outputs = frozenset[int]


def least_joules(
    graph: PublishedGraph,
    *,
    ram_bytes: int,
    seconds: float | None,
    paging: bool,
    rematerialization: bool,
) -> float | None:
    """The least energy under POET's rules, None where there is no way."""
    states: dict[tuple[Outputs, Outputs, float], float] = {(frozenset(), frozenset(), 0.0): 0.0}
    last = len(graph.nodes) - 1
    for stage in range(last + 1):
        following: dict[tuple[Outputs, Outputs, float], float] = {}
        for (ram, flash, spent), joules in states.items():
            for computed in _computable(graph, stage, ram, rematerialization):
                time = spent + sum(graph.nodes[i].seconds for i in computed)
                if seconds is not None and time > seconds + 1e-9:
                    continue
                reachable = ram | computed | flash
                for kept in [frozenset()] if stage == last else _subsets(reachable):
                    if _peak(graph, stage, ram, computed, kept) > ram_bytes:
                        continue
                    paid = joules + sum(graph.nodes[i].compute_joules for i in computed)
                    paid += sum(graph.nodes[i].page_in_joules for i in kept - ram - computed)
                    for out in _subsets(ram - flash) if paging else [frozenset()]:
                        total = paid + sum(graph.nodes[i].page_out_joules for i in out)
                        state = (kept, flash | out, time)
                        if total < following.get(state, float("inf")):
                            following[state] = total
        states = following
    return min(states.values(), default=None)


def _computable(
    graph: PublishedGraph, stage: int, ram: Outputs, rematerialization: bool
) -> Iterator[Outputs]:
    again = _subsets(range(stage)) if rematerialization else [frozenset()]
    for extra in again:
        computed = extra | {stage}
        if all(i in ram or i in computed for i, k in graph.edges if k in computed):
            yield computed


def _peak(graph: PublishedGraph, stage: int, ram: Outputs, computed: Outputs, kept: Outputs) -> int:
    """RAM is a list here, so that an output that is resident and computed again counts twice."""
    resident = sorted(ram)
    peak = sum(graph.nodes[i].bytes for i in resident)
    for k in range(stage + 1):
        if k not in computed:
            continue
        resident.append(k)
        peak = max(peak, sum(graph.nodes[i].bytes for i in resident))
        for i in {i for i, reader in graph.edges if reader == k}:
            read_later = any((i, j) in graph.edges and j > k for j in computed)
            if i not in kept and not read_later:
                resident.remove(i)
    return peak


def _subsets(items: Iterable[int]) -> Iterator[Outputs]:
    pool = sorted(items)
    sizes = (combinations(pool, size) for size in range(len(pool) + 1))
    return (frozenset(chosen) for chosen in chain.from_iterable(sizes))
