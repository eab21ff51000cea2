"""Griewank and Walther's revolve (ACM TOMS 2000) on a training step.

    stages     the forward pass cut at some places; running stage j needs what crosses into it
    snapshot   what crosses into one stage, kept until that stage has been reversed
    reverse    stages are wanted last first: from the nearest snapshot the forward pass runs again up
               to the wanted stage, and free snapshots are laid on the way, at binomial distances

With s stages stored and at most t runs of a stage, (s + t choose s) stages are reversed, and no
schedule of a chain needs fewer runs. Invariant: a backward op finds what it reads: a value that is wanted after
an earlier stage has been reversed is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from collections.abc import Sequence as Ordered
from itertools import pairwise
from math import comb

from benchmarks.planner_passes import Passes
from poet_core.graph import Op
from poet_solvers.occurrences import Sequence

_STAGE_COUNTS = (8, 16, 32, 64)
_SNAPSHOTS = (1, 2, 3, 4, 6, 8, 12, 16)


def revolved(passes: Passes, ways: Iterable[tuple[int, ...]]) -> Iterator[Sequence]:
    """Each way to cut the forward pass into stages with each number of snapshots."""
    seen: set[tuple[int, ...]] = set()
    for cuts in ways:
        if cuts in seen or not cuts:
            continue
        seen.add(cuts)
        for snapshots in _SNAPSHOTS:
            if snapshots <= len(cuts):
                yield _Revolve(passes, cuts, snapshots).sequence()


def stage_counts(passes: Passes) -> Iterator[int]:
    """How many stages are tried: a few, and every op for itself."""
    yield from (count for count in _STAGE_COUNTS if count < passes.forward_ops)
    yield passes.forward_ops


class _Revolve:
    """`here`: forward values that the next backward op finds; `laid`: stages with a snapshot, from 0
    up, whose crossing values are a part of `here`."""

    def __init__(self, passes: Passes, cuts: Ordered[int], snapshots: int) -> None:
        self._passes, self._snapshots = passes, snapshots
        self._bounds = (0, *cuts, passes.forward_ops)
        self._stage_of = [
            stage
            for stage, (begin, end) in enumerate(pairwise(self._bounds))
            for _ in range(begin, end)
        ]
        self._crossing = [self._crosses(begin) for begin in self._bounds[:-1]]
        self._backward = passes.graph.ops[passes.forward_ops :]
        self._targets, late = self._order()
        self._kept = passes.fixed | late
        self._laid = [0]
        self._runs = [(op, op) for op in range(passes.forward_ops)]
        self._number = len(passes.graph.ops)

    def sequence(self) -> Sequence:
        """The whole step."""
        last = len(self._bounds) - 2
        self._lay_towards(last)
        here = self._held() | self._made(last)
        for place, op in enumerate(self._backward):
            if any(storage not in here for storage in self._forward_values(op)):
                here = self._bring(self._targets[place], self._wanted_from(place))
            self._runs.append((op.id, op.id))
        start_ram = self._passes.start_ram
        return Sequence(runs=tuple(self._runs), paged=frozenset(), start_ram=start_ram)

    def _wanted_from(self, place: int) -> set[int]:
        """What backward ops read from here on until another stage is reversed."""
        wanted = set[int]()
        for op, target in zip(self._backward[place:], self._targets[place:], strict=True):
            if target != self._targets[place]:
                break
            wanted.update(self._forward_values(op))
        return wanted

    def _bring(self, stage: int, wanted: set[int]) -> set[int]:
        """Run the forward pass again for what is `wanted` up to the end of `stage`; what is here then."""
        while self._laid[-1] > stage:
            self._laid.pop()
        begin = self._bounds[self._laid[-1]]
        self._lay_towards(stage)
        here = self._held() | wanted
        for op in self._needed_runs(begin, self._bounds[stage + 1], here):
            self._runs.append((self._number, op))
            self._number += 1
        return here

    def _lay_towards(self, stage: int) -> None:
        """Snapshots between the last one and `stage`, as far as they go."""
        free = self._snapshots - (len(self._laid) - 1)
        while free and self._laid[-1] < stage:
            length = stage + 1 - self._laid[-1]
            self._laid.append(self._laid[-1] + first_part(length, free))
            free -= 1

    def _needed_runs(self, begin: int, end: int, wanted: set[int]) -> list[int]:
        """The ops from `begin` that make `wanted`, from what is held before `begin`; an op whose
        outputs nobody wants is left out."""
        runs, missing = list[int](), wanted - self._kept
        ops, producer = self._passes.graph.ops, self._passes.producer
        for op in reversed(range(begin, end)):
            if missing.isdisjoint(ops[op].writes):
                continue
            runs.append(op)
            needed = {s for s in ops[op].reads if producer.get(s, -1) >= begin}
            missing |= needed - self._kept
        return runs[::-1]

    def _held(self) -> set[int]:
        return set(self._kept).union(*(self._crossing[stage] for stage in self._laid))

    def _made(self, stage: int) -> set[int]:
        ops = self._passes.graph.ops[self._bounds[stage] : self._bounds[stage + 1]]
        return {storage for op in ops for storage in op.writes} | self._crossing[stage]

    def _crosses(self, begin: int) -> set[int]:
        """What ops before `begin` make for the forward pass from there on."""
        return {
            storage
            for storage, op in self._passes.producer.items()
            if op < begin and any(use >= begin for use in self._passes.forward_uses[storage])
        }

    def _order(self) -> tuple[list[int], frozenset[int]]:
        """For each backward op the stage that is being reversed then, and the values that are wanted
        when their own stage has been reversed already."""
        targets, late, stage = list[int](), set[int](), len(self._bounds) - 2
        for op in self._backward:
            made_in = {
                storage: self._stage_of[self._passes.producer[storage]]
                for storage in self._forward_values(op)
                if storage not in self._crossing[stage]
            }
            late |= {storage for storage, made in made_in.items() if made > stage}
            stage = min((stage, *made_in.values()))
            targets.append(stage)
        return targets, frozenset(late)

    def _forward_values(self, op: Op) -> list[int]:
        return [s for s in (*op.reads, *op.mutates) if s in self._passes.producer]


def first_part(length: int, snapshots: int) -> int:
    """How many of `length` stages to run before the first of `snapshots` snapshots is laid; the stage
    that they begin with is stored as well."""
    if snapshots < 1 or length < 2:
        return max(1, length - 1)
    stored = snapshots + 1
    repeats = next(t for t in range(1, length + 1) if comb(stored + t, stored) >= length)
    most = comb(stored + repeats - 1, stored)
    after = comb(snapshots + repeats - 1, snapshots)
    return min(max(1, min(most, length - after)), length - 1)
