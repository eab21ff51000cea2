"""The variants of a method that recomputes: as lists of ops, with the peaks that the judge finds.

A variant is what runs in which order; nothing is paged, persistent storages stay in RAM. Its peak does
not depend on the budget, nor on a device beside how bytes are counted, so variants are made and judged
once for a graph and kept in build/benchmarks/poet-experiments/variants. Invariant: what is read back
was made by these very sources; a variant that the judge refuses without a budget (it would run an op
again after an update of what that reads) is not there.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.planner_passes import Passes
from benchmarks.planner_store import REPOSITORY
from poet_core.errors import PlanError
from poet_core.plan import Allowed, Problem
from poet_core.simulate import simulate
from poet_solvers.occurrences import Sequence, StepModel, sequence_schedule, step_model

Ways = Callable[[Passes], Iterable[Sequence]]

VARIANTS = REPOSITORY / "build" / "benchmarks" / "poet-experiments" / "variants"
SOURCES = (
    "poet_core/*.py",
    "solvers/poet_solvers/occurrences.py",
    "solvers/poet_solvers/values.py",
    "benchmarks/alternatives.py",
    "benchmarks/planner_passes.py",
    "benchmarks/planner_partitioner.py",
    "benchmarks/poet_experiments_blocks.py",
    "benchmarks/poet_experiments_griewank.py",
    "benchmarks/poet_experiments_variants.py",
)

_UNLIMITED_BYTES = 2**62


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """`ops`: every run in order; of an op the first is its first run."""

    ops: np.ndarray[Any, Any]
    peak_bytes: int

    def cost(self, op_cost: np.ndarray[Any, Any]) -> float:
        """What the runs cost together."""
        return float(op_cost[self.ops].sum())

    def sequence(self, start_ram: frozenset[int], ops_of_step: int) -> Sequence:
        """The runs, later ones of an op under new numbers."""
        seen: set[int] = set()
        runs, number = list[tuple[int, int]](), ops_of_step
        for op in map(int, self.ops):
            runs.append((number if op in seen else op, op))
            number += op in seen
            seen.add(op)
        return Sequence(runs=tuple(runs), paged=frozenset(), start_ram=start_ram)


def variants(
    problem: Problem, graph_sha256: str, passes: Passes, name: str, ways: Ways
) -> list[Variant]:
    """All of a method, made or read back; the first is the step as it is."""
    budget = problem.budget
    key = (name, graph_sha256, str(budget.alignment_bytes), str(budget.reserved_bytes), _sources())
    path = VARIANTS / f"{hashlib.sha256('|'.join(key).encode()).hexdigest()[:24]}.npz"
    if path.is_file():
        with np.load(path) as kept:
            parts = np.split(kept["ops"], np.cumsum(kept["lengths"])[:-1])
            peaks = kept["peaks"]
        return [
            Variant(ops=ops, peak_bytes=int(peak)) for ops, peak in zip(parts, peaks, strict=True)
        ]
    unlimited = replace(budget, ram_bytes=_UNLIMITED_BYTES, step_seconds=None, energy_joules=None)
    model = step_model(replace(problem, budget=unlimited, allowed=Allowed(page=False)))
    plain = passes.run_again(passes.saved, lambda _storage: ())
    found = list(_judged(model, chain((plain,), ways(passes))))
    if found:
        _keep(path, found)
    return found


def _judged(model: StepModel, sequences: Iterable[Sequence]) -> Iterator[Variant]:
    problem = model.problem
    for sequence in sequences:
        schedule = sequence_schedule(model, sequence)
        try:
            found = simulate(
                problem.graph, problem.costs, problem.budget, schedule, problem.allowed
            )
        except PlanError:
            continue
        ops = np.array([op for _number, op in sequence.runs], np.int32)
        yield Variant(ops=ops, peak_bytes=found.peak_bytes)


def _keep(path: Path, found: list[Variant]) -> None:
    """Whole or not at all, whoever else writes the same."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    with partial.open("wb") as file:
        np.savez_compressed(
            file,
            ops=np.concatenate([one.ops for one in found]),
            lengths=np.array([len(one.ops) for one in found], np.int64),
            peaks=np.array([one.peak_bytes for one in found], np.int64),
        )
    partial.replace(path)


@lru_cache(maxsize=1)
def _sources() -> str:
    digest = hashlib.sha256()
    for path in sorted({path for pattern in SOURCES for path in REPOSITORY.glob(pattern)}):
        digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0")
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()
