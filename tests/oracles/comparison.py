"""Judge against interpreter: valid cases, their mutants, and the first disagreement.

`stream` yields (case, costs, expected) for ever: random graphs, their walks and keep-everything,
then chains of mutants, where an accepted mutant is often the next one to be damaged.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from random import Random
from types import ModuleType

from poet_core import simulate as the_judge
from poet_core.baseline import keep_everything
from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.plan import Allowed, Budget, Schedule
from poet_core.simulate import Judgement
from tests.oracles.generate import (
    PLAIN,
    Shape,
    random_budget,
    random_costs,
    random_graph,
    random_walk,
)
from tests.oracles.interpreter import Figures, Reference, Wrong, interpret, reference
from tests.oracles.mutants import Case, mutant

_UNLIMITED = 2**50
_MUTANTS_PER_BASE = 60


class Disagreement(AssertionError):
    """Judge and interpreter do not say the same of a case."""


@dataclass
class Tally:
    """What was compared. `codes` counts the judge's refusals, `bases` the valid starting points."""

    mutants: int = 0
    accepted: int = 0
    bases: int = 0
    codes: Counter[str] = field(default_factory=Counter)


def valid_cases(rng: Random, shape: Shape = PLAIN) -> Iterator[tuple[Case, Costs, Reference]]:
    """Cases that the interpreter accepts, on random graphs, under random budgets; for ever."""
    while True:
        graph = random_graph(rng, shape)
        costs, expected = random_costs(rng, graph), reference(graph)
        schedules: list[Schedule] = [keep_everything(graph)]
        schedules += [walk for _ in range(4) if (walk := random_walk(rng, graph)) is not None]
        for schedule in schedules:
            budget = random_budget(rng, _UNLIMITED)
            try:
                figures = interpret(graph, costs, budget, schedule, Allowed(), expected)
            except Wrong:
                continue
            tight = rng.choice((0, 0, 1, 3, _UNLIMITED))
            yield (
                Case(
                    graph=graph,
                    budget=replace(budget, ram_bytes=figures.peak_bytes + tight),
                    schedule=schedule,
                    allowed=Allowed(),
                    figures=figures,
                ),
                costs,
                expected,
            )


def compare(
    case: Case, costs: Costs, expected: Reference, judge: Callable[..., Judgement]
) -> Figures | str:
    """The figures that both find, or the judge's code where both refuse. Else: Disagreement."""
    inputs = (case.graph, costs, case.budget, case.schedule, case.allowed)
    try:
        interpreted: Figures | str = interpret(*inputs, expected)
    except Wrong as wrong:
        interpreted = str(wrong)
    try:
        judgement = judge(*inputs)
    except PlanError as error:
        if isinstance(interpreted, Figures):
            raise Disagreement(
                f"judge: {error.code}: {error}; interpreter: right\n{case}"
            ) from None
        return error.code
    if isinstance(interpreted, str):
        raise Disagreement(f"judge: accepted; interpreter: {interpreted}\n{case}")
    for name, figure in asdict(interpreted).items():
        if getattr(judgement, name) != figure:
            raise Disagreement(f"judge: {judgement}; interpreter: {interpreted}\n{case}")
    return interpreted


def compare_mutants(
    seed: int, mutants: int, judge: ModuleType = the_judge, shape: Shape = PLAIN
) -> Tally:
    """Compare `mutants` mutants of valid cases."""
    rng, tally = Random(seed), Tally()
    for base, costs, expected in valid_cases(rng, shape):
        tally.bases += 1
        if not isinstance(compare(base, costs, expected, judge.simulate), Figures):
            raise Disagreement(f"judge refuses a valid case\n{base}")
        current = base
        for _ in range(_MUTANTS_PER_BASE):
            case = mutant(rng, current)
            outcome = compare(case, costs, expected, judge.simulate)
            tally.mutants += 1
            if isinstance(outcome, Figures):
                tally.accepted += 1
                if rng.random() < 0.3 and len(case.schedule.instructions) < 60:
                    current = replace(case, figures=outcome, budget=_relaxed(rng, case.budget))
            else:
                tally.codes[outcome] += 1
            if rng.random() < 0.1:
                current = base
            if tally.mutants >= mutants:
                return tally
    raise AssertionError("the stream of cases ended")


def _relaxed(rng: Random, budget: Budget) -> Budget:
    """Limits do not pile up along a chain of mutants."""
    return replace(
        budget,
        ram_bytes=budget.ram_bytes + rng.choice((0, 2)),
        flash_bytes=None,
        flash_write_bytes=None,
        step_seconds=None,
        energy_joules=None,
    )
