"""A request means the same problem wherever it is read, and a summary says what the judge found."""

import dataclasses
import json

import pytest

from poet_core.baseline import judge_keep_everything
from poet_core.device import DeviceProfile
from poet_core.devices import load_device
from poet_core.documents import parse_json
from poet_core.errors import BudgetError, DocumentError, GraphError, UsageError
from poet_core.plan import Allowed, Bound, HoldsFor, Objective
from poet_core.plan_request import PlanRequest, request_from_document, request_to_document
from poet_core.simulate import simulate
from poet_core.summary import summarize
from tests.cli.conftest import plan_for
from tests.core.test_problem import small_graph

GRAPH = small_graph()
REQUESTS = {
    "by name": PlanRequest(graph=GRAPH, device="mkr1000", ram_bytes=1000),
    "with everything": PlanRequest(
        graph=GRAPH, device=load_device("jetson-tx2"), ram_bytes=1000, time_ratio=1.25,
        energy_joules=0.1, flash_bytes=10**6, flash_write_bytes=0, objective=Objective.TIME,
        allowed=Allowed(page=False, reorder=False), backend="highs", wall_seconds=2.5,
    ),
    "the other of each pair": PlanRequest(
        graph=GRAPH, device="host", ram_bytes=1000, step_seconds=1e-3, energy_ratio=1.5
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_survives_json(name):
    request = REQUESTS[name]
    text = json.dumps(request_to_document(request))
    again = request_from_document(parse_json(text))
    assert again == request
    assert again.problem() == request.problem()


def test_what_is_left_out_has_its_default():
    document = request_to_document(REQUESTS["by name"])
    short = {key: document[key] for key in ("graph", "device", "budget")}
    assert request_from_document(short) == REQUESTS["by name"]
    assert request_from_document(short, default_wall_seconds=7.0).wall_seconds == 7.0


def test_a_device_has_no_more_ram_than_it_has():
    with pytest.raises(UsageError) as caught:
        PlanRequest(graph=GRAPH, device="mkr1000", ram_bytes=32769).problem()
    assert caught.value.code == "ram_above_device"
    assert caught.value.details["device_ram_bytes"] == 32768


def test_below_the_floor_no_problem_is_made():
    # The widest op reads 100 bytes and writes 100, each rounded up to 104.
    with pytest.raises(BudgetError) as caught:
        PlanRequest(graph=GRAPH, device="mkr1000", ram_bytes=207).problem()
    assert caught.value.details["floor_bytes"] == 208
    assert PlanRequest(graph=GRAPH, device="mkr1000", ram_bytes=208).problem()


def test_sums_of_sizes_stay_exact():
    huge = dataclasses.replace(GRAPH.storages[0], size_bytes=2**53 - 1)
    graph = dataclasses.replace(GRAPH, storages=(huge, *GRAPH.storages[1:]))
    with pytest.raises(GraphError) as caught:
        PlanRequest(graph=graph, device="mkr1000", ram_bytes=1000).problem()
    assert caught.value.code == "graph_too_large"


@pytest.mark.parametrize("figure", ["reserved_bytes", "alignment_bytes"])
def test_sums_with_what_the_device_adds_stay_exact(figure):
    """Found by Schemathesis: a floor above 2^53, which some readers of JSON would round."""
    device = dataclasses.replace(load_device("mkr1000"), **{figure: 2**53 - 1})
    with pytest.raises(GraphError) as caught:
        PlanRequest(graph=GRAPH, device=device, ram_bytes=1000).stated_problem()
    assert caught.value.code == "graph_too_large"


def test_the_small_parts_are_read_before_the_graph():
    document = request_to_document(REQUESTS["by name"]) | {"graph": "no graph", "device": 5}
    with pytest.raises(DocumentError) as caught:
        request_from_document(document)
    assert caught.value.details["path"] == "$.device"


def test_a_profile_in_a_request_is_a_profile():
    document = request_to_document(REQUESTS["with everything"])
    assert isinstance(request_from_document(document).device, DeviceProfile)


def test_a_summary_is_the_judges():
    plan = plan_for(GRAPH)
    judgement = simulate(GRAPH, plan.costs, plan.budget, plan.schedule)
    summary = summarize(GRAPH, plan, judgement)
    keep = judge_keep_everything(GRAPH, plan.costs, alignment_bytes=8)
    assert summary.peak_bytes == summary.keep_everything_bytes == keep.peak_bytes
    assert (summary.time_ratio, summary.energy_ratio) == (1.0, 1.0)
    assert (summary.gap, summary.recomputed_ops, summary.transfers) == (None, 0, 0)
    assert "no bound" in summary.line()
    assert json.dumps(summary.to_document())


def test_a_summary_says_what_its_gap_holds_for():
    plan = plan_for(GRAPH)
    judgement = simulate(GRAPH, plan.costs, plan.budget, plan.schedule)
    lines = {}
    for holds_for in HoldsFor:
        bound = Bound(value=0.99 * plan.claims.energy_joules, holds_for=holds_for, by="test")
        lines[holds_for] = summarize(
            GRAPH, dataclasses.replace(plan, bound=bound), judgement
        ).line()
    assert "gap 1.00% (for this order)" in lines[HoldsFor.GIVEN_ORDER]
    assert "gap 1.00%," in lines[HoldsFor.ANY_ORDER]


def test_a_graph_without_work_has_no_ratios():
    ops = tuple(dataclasses.replace(op, flops=0) for op in GRAPH.ops)
    graph = dataclasses.replace(GRAPH, ops=ops)
    plan = plan_for(graph)
    summary = summarize(graph, plan, simulate(graph, plan.costs, plan.budget, plan.schedule))
    assert (summary.time_ratio, summary.energy_ratio) == (None, None)
    assert "unknown time" in summary.line()
