"""poet.addresses/1: what is written is read back, and nothing else is believed."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from poet_core.documents import canonical_json
from poet_core.errors import DocumentError, PlanError, PlanningError
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_solvers.addresses import Addresses, addresses_to_document, place, read_addresses
from tests.solvers.test_addresses_moves import moving_case, random_plans

Case = tuple[TrainingGraph, Plan, Addresses]


@pytest.fixture(scope="module")
def moving() -> Case:
    return moving_case()


def test_addresses_are_read_back_as_they_were_written(moving: Case) -> None:
    some = [(graph, plan, place(graph, plan, looks=1)) for graph, plan in random_plans(60)]
    assert len(some) > 20
    for graph, plan, addresses in [*some, moving]:
        text = canonical_json(addresses_to_document(addresses, plan))
        assert read_addresses(text, graph, plan) == addresses


def changed(case: Case, path: tuple[str | int, ...], value: object) -> str:
    """The document with another value at `path`; without it for None."""
    _, plan, addresses = case
    document = json.loads(canonical_json(addresses_to_document(addresses, plan)))
    inside: Any = document
    for step in path[:-1]:
        inside = inside[step]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return json.dumps(document)


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("schema",), "poet.addresses/2", "wrong_schema"),
        (("plan_sha256",), "0" * 64, "addresses_for_other_plan"),
        (("graph_sha256",), "0" * 64, "addresses_for_other_plan"),
        (("peak_bytes",), 1, "document_invalid"),
        (("moved_bytes",), 0, "document_invalid"),
        (("more",), 0, "unknown_field"),
        (("moves",), None, "missing_field"),
        (("placed", 0, 0), "nothing", "wrong_value"),
        (("placed", 0, 4), -1, "out_of_range"),
        (("placed", 0, 4), 1.0, "wrong_type"),
        (("placed", 0, 5), None, "document_invalid"),
    ],
)
def test_other_documents_are_refused(
    moving: Case, path: tuple[str | int, ...], value: object, code: str
) -> None:
    with pytest.raises(DocumentError) as refused:
        read_addresses(changed(moving, path, value), moving[0], moving[1])
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("path", "value", "code"),
    [
        (("placed", 0), None, "addresses_incomplete"),
        (("placed", 0, 2), 10**6, "addresses_incomplete"),
        (("placed", 0, 4), 10**6, "addresses_outside"),
        (("arena_bytes",), 1, "addresses_outside"),
        (("moves", 0, 3), 10**6, "addresses_move"),
        (("moves", 0, 0), 10**6, "addresses_move"),
    ],
)
def test_addresses_that_no_device_could_use_are_refused(
    moving: Case, path: tuple[str | int, ...], value: object, code: str
) -> None:
    with pytest.raises(PlanningError) as refused:
        read_addresses(changed(moving, path, value), moving[0], moving[1])
    assert refused.value.code == code


def test_addresses_of_a_plan_that_lies_are_refused(moving: Case) -> None:
    graph, plan, addresses = moving
    lying = replace(plan, claims=replace(plan.claims, peak_bytes=plan.claims.peak_bytes + 1))
    with pytest.raises(PlanError) as refused:
        read_addresses(canonical_json(addresses_to_document(addresses, lying)), graph, lying)
    assert refused.value.code == "claim_mismatch"
