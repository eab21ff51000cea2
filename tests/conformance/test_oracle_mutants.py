"""The judge accepts a plan exactly when the value-level interpreter does, with the same figures."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import pytest

from poet_core.errors import PlanError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Claims, Objective, Plan, PlannedBy
from poet_core.verify import verify
from tests.oracles.broken_judges import BREAKS, broken_judge
from tests.oracles.comparison import Disagreement, compare_mutants, valid_cases
from tests.oracles.generate import PLAIN, Shape

UPDATES = Shape(most_ops=5, most_persistent=3, mutate=0.7, overwrite=0.3, random_op=0.1)
DROPOUTS = Shape(most_ops=6, random_op=0.8, mutate=0.2, run_once=0.02)
EMPTY_STORAGES = Shape(most_ops=5, zero_bytes=0.4, mutate=0.4, overwrite=0.25)

# What a mutant of a well-formed case cannot be: costs of another graph, 64 instructions an op.
NOT_BY_MUTANTS = {"costs_for_other_graph", "too_many_instructions"}


def test_judge_and_interpreter_agree_on_100_000_mutants() -> None:
    codes: Counter[str] = Counter()
    accepted = mutants = 0
    for seed, count, shape in (
        (11, 55_000, PLAIN), (12, 20_000, UPDATES), (13, 15_000, DROPOUTS), (14, 10_000, EMPTY_STORAGES),
    ):  # fmt: skip
        tally = compare_mutants(seed, count, shape=shape)
        mutants += tally.mutants
        accepted += tally.accepted
        codes += tally.codes
    assert mutants == 100_000
    assert mutants * 0.15 < accepted < mutants * 0.5  # neither side is trivial
    assert len(codes) >= 27
    assert not NOT_BY_MUTANTS & codes.keys()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", [PLAIN, UPDATES, DROPOUTS, EMPTY_STORAGES])
def test_judge_and_interpreter_agree_on_a_million_mutants(shape: Shape) -> None:
    assert compare_mutants(21, 250_000, shape=shape).accepted > 25_000


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_judge_is_caught(name: str) -> None:
    judge = broken_judge(name)
    with pytest.raises(Disagreement):
        compare_mutants(7, 30_000, judge=judge)


def test_a_plan_passes_with_the_claims_that_the_interpreter_measures_and_no_others() -> None:
    rng = Random(31)
    refused: Counter[str] = Counter()
    for case, costs, _ in islice(valid_cases(rng), 1500):
        figures = case.figures
        claims = Claims(
            peak_bytes=figures.peak_bytes,
            step_seconds=figures.step_seconds,
            energy_joules=figures.energy_joules,
            flash_peak_bytes=figures.flash_peak_bytes,
            flash_bytes_written=figures.flash_bytes_written,
        )
        plan = Plan(
            graph_sha256=graph_sha256(case.graph),
            device_name="",
            budget=case.budget,
            objective=Objective.ENERGY,
            allowed=case.allowed,
            costs=costs,
            schedule=case.schedule,
            claims=claims,
            planned_by=PlannedBy(formulation="", solver="", status="", wall_seconds=0.0),
        )
        assert verify(case.graph, plan).claims == claims
        name = rng.choice(Claims.__slots__)
        wrong = getattr(claims, name) + rng.choice((1, 7) if "bytes" in name else (1e-6, 0.125))
        with pytest.raises(PlanError) as caught:
            verify(case.graph, replace(plan, claims=replace(claims, **{name: wrong})))
        assert caught.value.code == "claim_mismatch"
        refused[caught.value.details["claim"]] += 1
    assert set(refused) == set(Claims.__slots__)
