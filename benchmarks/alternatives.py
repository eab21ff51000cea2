"""What one would do without this planner, on the same graphs and under the same judge.

    checkpointing    torch.utils.checkpoint in k segments: inner activations are dropped, a segment runs
                     again before the first backward op that needs one of them; the last segment is kept
    partitioner      PyTorch's activation_memory_budget: a knapsack says which dear ops may run again, a
                     minimum cut what is saved (`planner_partitioner`)
    greedy eviction  in the style of Capuchin: at the first moment over the budget, page or rematerialize
                     the tensor that frees most bytes for its cost (`planner_eviction`)
    page everything  saved-tensor hooks to disk: whatever the backward pass needs goes out and comes back

Each is given at its best: every number of segments, every share of the activations, both ways of
bringing a page back; the cheapest that fits is answered. Invariant: a schedule that leaves here was
accepted by the judge for the problem asked; None says that no variant fits or that it does not
apply (no backward pass, no paging). All keep the given order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, pairwise

from benchmarks.instances import Instance
from benchmarks.planner_eviction import evictions
from benchmarks.planner_partitioner import partitions
from benchmarks.planner_passes import Passes, read_passes
from poet_core.errors import PlanError
from poet_core.plan import Allowed, Budget, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.evict import judged_cost
from poet_solvers.occurrences import Sequence, sequence_schedule, step_model

CHECKPOINTING, PARTITIONER, EVICTION, PAGE_EVERYTHING = (
    "checkpointing",
    "partitioner",
    "greedy eviction",
    "page everything",
)
ALTERNATIVES = (CHECKPOINTING, PARTITIONER, EVICTION, PAGE_EVERYTHING)

# Every number of segments up to here, then each by a quarter more than the one before.
_EVERY_SEGMENT_COUNT = 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One schedule of an alternative with what the judge says of it when RAM is unlimited."""

    schedule: Schedule
    peak_bytes: int
    cost: float


class Alternatives:
    """The alternatives for one instance: variants that know no budget are judged once."""

    def __init__(self, instance: Instance) -> None:
        self._unlimited = Problem(
            graph=instance.graph,
            costs=instance.costs,
            budget=Budget(ram_bytes=2**62),
            allowed=Allowed(page=instance.paging, reorder=False),
        )
        self._model = step_model(self._unlimited)
        self._passes = read_passes(instance.graph)
        self._variants: dict[str, list[Variant]] = {}

    def schedule(self, name: str, problem: Problem) -> Schedule | None:
        """The cheapest schedule of an alternative that the judge accepts; None where there is none."""
        schedules: Iterable[Schedule]
        if name == EVICTION:
            schedules = evictions(problem)
        else:
            ram_bytes = problem.budget.ram_bytes
            fitting = [one for one in self._judged(name) if one.peak_bytes <= ram_bytes]
            schedules = (one.schedule for one in sorted(fitting, key=lambda one: one.cost)[:1])
        accepted = [
            (cost, schedule)
            for schedule in schedules
            if (cost := judged_cost(problem, schedule)) is not None
        ]
        return min(accepted, key=lambda one: one[0])[1] if accepted else None

    def _judged(self, name: str) -> list[Variant]:
        if name not in self._variants:
            sequences = self._sequences(name, self._passes) if self._passes else ()
            self._variants[name] = [
                one for sequence in sequences if (one := self._variant(sequence)) is not None
            ]
        return self._variants[name]

    def _sequences(self, name: str, passes: Passes) -> Iterable[Sequence]:
        if name == PAGE_EVERYTHING:
            return self._paged_sequences(passes) if self._unlimited.allowed.page else ()
        ways: dict[str, Callable[[Passes], Iterable[Sequence]]] = {
            CHECKPOINTING: checkpointed,
            PARTITIONER: partitions,
        }
        return ways[name](passes)

    def _variant(self, sequence: Sequence) -> Variant | None:
        problem = self._unlimited
        schedule = sequence_schedule(self._model, sequence)
        try:
            judged = simulate(
                problem.graph, problem.costs, problem.budget, schedule, problem.allowed
            )
        except PlanError:
            return None
        return Variant(schedule=schedule, peak_bytes=judged.peak_bytes, cost=judged.energy_joules)

    def _paged_sequences(self, passes: Passes) -> Iterator[Sequence]:
        """Every saved activation goes out; it comes back for each use, or stays from the first on."""
        runs = tuple((op.id, op.id) for op in passes.graph.ops)
        uses = {
            self._model.table.first_of[storage]: passes.backward_uses[storage]
            for storage in passes.saved
            if passes.graph.storages[storage].size_bytes
        }
        for most in (None, 1):
            paged = frozenset((value, op) for value, ops in uses.items() for op in ops[:most])
            yield Sequence(runs=runs, paged=paged, start_ram=self._model.persistent)


def checkpointed(passes: Passes) -> Iterator[Sequence]:
    """Checkpointing in 1, 2, 3 ... segments of equal ops, bytes or cost, cut there or at the narrowest
    place nearby (where a user would draw the line between two blocks)."""
    seen: set[tuple[int, ...]] = set()
    count, segments = passes.forward_ops, 1
    while segments <= count:
        for cuts in cuts_of(passes, segments):
            if cuts not in seen:
                seen.add(cuts)
                yield _with_segments(passes, cuts)
        segments = max(
            segments + 1, 0 if segments < _EVERY_SEGMENT_COUNT else math.ceil(1.25 * segments)
        )


def cuts_of(passes: Passes, segments: int) -> Iterator[tuple[int, ...]]:
    """Cut c: before forward op c. Cuts of equal weight, and the same moved to where little crosses."""
    count = passes.forward_ops
    reach = max(1, count // (2 * segments))
    by_ops, by_bytes = [1.0] * count, [float(size) for size in passes.op_bytes]
    for weights in (by_ops, by_bytes, [float(flops) for flops in passes.op_flops]):
        total = list(accumulate(weights))
        targets = [total[-1] * part / segments for part in range(1, segments)]
        cuts = sorted({sum(sofar <= target for sofar in total) for target in targets} - {0, count})
        yield tuple(cuts)
        narrow = {
            min(
                range(max(1, cut - reach), min(count, cut + reach + 1)),
                key=lambda place, cut=cut: (passes.crossing_bytes[place], abs(place - cut)),  # type: ignore[misc]
            )
            for cut in cuts
        }
        yield tuple(sorted(narrow))


def _with_segments(passes: Passes, cuts: tuple[int, ...]) -> Sequence:
    """Kept: what one segment's forward pass takes from another, and the last segment."""
    bounds = [0, *cuts, passes.forward_ops]
    segment_of = [
        number for number, (begin, end) in enumerate(pairwise(bounds)) for _ in range(begin, end)
    ]
    last = len(bounds) - 2
    kept = {
        storage
        for storage, producer in passes.producer.items()
        if segment_of[producer] == last
        or any(segment_of[use] != segment_of[producer] for use in passes.forward_uses[storage])
    }
    together: dict[int, list[int]] = {}
    for storage in passes.saved - kept:
        together.setdefault(segment_of[passes.producer[storage]], []).append(storage)
    return passes.run_again(
        frozenset(kept), lambda storage: together[segment_of[passes.producer[storage]]]
    )
