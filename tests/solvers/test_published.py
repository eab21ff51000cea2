"""POET's published model: every published optimum, and the rules against an exact oracle."""

import random
import threading

import pytest

from benchmarks.published_optima import agrees, published_answer, solve_row
from benchmarks.published_rows import ROWS, load_graph
from poet_core.errors import BudgetError, DocumentError, GraphError, PlanningError, UsageError
from poet_solvers.backends import SolveLimits, SolveStatus
from poet_solvers.poet_published import peak_bytes, solve_published
from poet_solvers.published_graph import (
    PublishedGraph,
    PublishedNode,
    read_published_graph,
    unit_chain,
)
from poet_solvers.published_model import MAX_NODES, published_model
from tests.solvers.published_oracle import least_joules

LIMITS = SolveLimits(wall_seconds=280, threads=1)
backends = pytest.mark.parametrize("backend", ["cbc", "highs"])


@backends
@pytest.mark.parametrize(
    "row",
    [pytest.param(row, id=row.title, marks=[pytest.mark.slow] if row.slow else []) for row in ROWS],
)
def test_a_published_optimum_is_reproduced(row, backend):
    graph = load_graph(row.graph)
    if graph is None:
        absent = sum(load_graph(other.graph) is None for other in ROWS)
        pytest.skip(f"{absent} of {len(ROWS)} rows need POET_INSTANCES; {row.graph} is not here")
    solution = solve_row(row, graph, backend=backend, limits=LIMITS)
    assert agrees(row, published_answer(solution)), (
        solution.status,
        solution.energy_joules,
        row.optimum_joules,
    )
    if row.optimum_joules is not None:
        assert solution.peak_bytes <= row.ram_bytes
        assert solution.bound_joules == pytest.approx(solution.energy_joules, rel=1e-6)


def test_the_table_is_whole():
    """17 rows of instances and 44 of unit chains: as many as were published."""
    chains = [row for row in ROWS if row.graph.startswith("unit-chain")]
    assert (len(ROWS) - len(chains), len(chains)) == (17, 44)
    assert len({(row.graph, row.ram_bytes, row.mode) for row in ROWS}) == len(ROWS)


def test_the_committed_instances_are_found_without_any_setting(monkeypatch, tmp_path):
    monkeypatch.setenv("POET_INSTANCES", str(tmp_path))
    for name, nodes in (("linear-a72", 27), ("linear-m0", 27), ("transformer-a72", 19)):
        assert len(load_graph(name).nodes) == nodes
    assert load_graph("resnet18_cifar-a72") is None


MODES = {
    "both": {"paging": True, "rematerialization": True},
    "remat only": {"paging": False, "rematerialization": True},
    "page only": {"paging": True, "rematerialization": False},
    "neither": {"paging": False, "rematerialization": False},
}


# Of `_random_graph`, at its floor: paging pays, recomputing pays, both together pay.
PAGING_PAYS = (3, 7, 17, 18, 39)
RECOMPUTING_PAYS = (4, 51, 54, 74, 91)
BOTH_PAY = (158,)


@backends
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("ratio", [None, 1.0])
@pytest.mark.parametrize("seed", PAGING_PAYS + RECOMPUTING_PAYS + BOTH_PAY)
def test_the_model_equals_an_exact_search_over_poets_rules(seed, ratio, mode, backend):
    graph = _random_graph(random.Random(seed))
    problem = {"ram_bytes": _floor(graph), **MODES[mode]}
    seconds = None if ratio is None else ratio * graph.total_seconds
    expected = least_joules(graph, seconds=seconds, **problem)
    solution = solve_published(graph, time_ratio=ratio, backend=backend, limits=LIMITS, **problem)
    if expected is None:
        assert solution.status is SolveStatus.INFEASIBLE
    else:
        assert solution.status is SolveStatus.OPTIMAL
        assert solution.energy_joules == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("seed", PAGING_PAYS + RECOMPUTING_PAYS + BOTH_PAY)
def test_the_cases_need_what_they_are_named_for(seed):
    """A case that fits as it stands would prove nothing about paging or recomputation."""
    graph = _random_graph(random.Random(seed))
    tight = {"ram_bytes": _floor(graph), "seconds": None}
    best = {mode: least_joules(graph, **tight, **allowed) for mode, allowed in MODES.items()}
    without_paging, without_recomputing = best["remat only"], best["page only"]
    if seed not in RECOMPUTING_PAYS:
        assert without_paging is None or without_paging > best["both"]
    if seed not in PAGING_PAYS:
        assert without_recomputing is None or without_recomputing > best["both"]


def test_the_oracle_knows_a_unit_chain_by_hand():
    """n=2, RAM 3, transfers of 0.4: 5 computes and one round trip."""
    chain = unit_chain(2, page_joules=0.4)
    both = {"seconds": None, "paging": True, "rematerialization": True}
    assert least_joules(chain, ram_bytes=3, **both) == pytest.approx(5.8)
    assert solve_published(chain, ram_bytes=3, limits=LIMITS).energy_joules == pytest.approx(5.8)


def test_a_solutions_cells_tell_the_story_of_its_energy():
    chain = unit_chain(2, page_joules=0.4)
    solution = solve_published(chain, ram_bytes=3, limits=LIMITS)
    assert solution.computed == {(t, t) for t in range(5)}
    assert [i for _, i in solution.paged_out] == [i for _, i in solution.paged_in] == [0]
    (out_stage, _), (in_stage, _) = *solution.paged_out, *solution.paged_in
    assert (out_stage, 0) in solution.in_ram
    assert (in_stage, 0) in solution.in_flash
    assert out_stage < in_stage < 4
    assert solution.compute_seconds == 0.0
    assert solution.peak_bytes == 3


@backends
def test_an_output_is_paged_out_no_sooner_than_the_stage_after_its_own(backend):
    """Node 1 needs all of RAM, so node 0 must go at once, and POET cannot page it out by then."""
    graph = PublishedGraph(nodes=tuple(map(_node, (3, 4, 1, 1))), edges=((0, 3),))
    page_only = {"rematerialization": False, "backend": backend, "limits": LIMITS}
    assert solve_published(graph, ram_bytes=4, **page_only).status is SolveStatus.INFEASIBLE
    assert solve_published(graph, ram_bytes=7, **page_only).energy_joules == 4.0
    again = solve_published(graph, ram_bytes=4, backend=backend, limits=LIMITS)
    assert again.energy_joules == 5.0
    assert sum(node == 0 for _, node in again.computed) == 2


def test_the_peak_counts_what_poet_counts():
    """0 (3 bytes) -> 1 (1) -> 2 (1), and 0 -> 2: kept, dropped and computed again, counted twice."""
    sizes = (3, 1, 1)
    graph = PublishedGraph(nodes=tuple(map(_node, sizes)), edges=((0, 1), (0, 2), (1, 2)))
    once = frozenset({(0, 0), (1, 1), (2, 2)})
    kept = frozenset({(1, 0), (2, 0), (2, 1)})
    assert peak_bytes(graph, computed=once, in_ram=kept) == 5
    again = once | {(2, 0)}
    assert peak_bytes(graph, computed=again, in_ram=kept - {(2, 0)}) == 5
    assert peak_bytes(graph, computed=again, in_ram=kept) == 8


def test_a_peak_one_byte_over_the_budget_is_no_solution():
    """2 GB and one byte: within every solver's tolerance, outside of the budget."""
    graph = PublishedGraph(nodes=(_node(1_234_567_891), _node(765_432_109)), edges=((0, 1),))
    assert solve_published(graph, ram_bytes=2_000_000_000, limits=LIMITS).peak_bytes == 2 * 10**9
    short = solve_published(graph, ram_bytes=2_000_000_000 - 1, limits=LIMITS)
    assert short.status in (SolveStatus.INFEASIBLE, SolveStatus.FAILED)
    assert (short.energy_joules, short.computed) == (None, frozenset())


def test_bytes_are_counted_in_their_common_unit():
    """A budget between two multiples of the unit is worth the lower one, exactly."""
    graph = PublishedGraph(nodes=(_node(6), _node(10)), edges=((0, 1),))
    for ram_bytes, status in ((16, "OPTIMAL"), (17, "OPTIMAL"), (15, "INFEASIBLE")):
        assert solve_published(graph, ram_bytes=ram_bytes, limits=LIMITS).status.name == status
    used = published_model(graph, ram_bytes=17).problem.variablesDict()["U_1_1"]
    assert used.upBound == 8


def test_a_graph_without_bytes_or_seconds_is_solved():
    graph = PublishedGraph(nodes=(_node(0), _node(0)), edges=((0, 1),))
    assert solve_published(graph, ram_bytes=0, time_ratio=1.0, limits=LIMITS).energy_joules == 2.0


def test_a_cancelled_solve_has_no_solution():
    cancel = threading.Event()
    cancel.set()
    solution = solve_published(unit_chain(3, page_joules=1.0), ram_bytes=3, cancel=cancel)
    assert solution.status is SolveStatus.CANCELLED
    assert (solution.energy_joules, solution.peak_bytes) == (None, None)
    assert solution.computed == solution.in_ram == frozenset()


def test_what_makes_no_sense_is_refused():
    chain = unit_chain(1, page_joules=1.0)
    with pytest.raises(BudgetError):
        solve_published(chain, ram_bytes=-1)
    for ratio in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError):
            solve_published(chain, ram_bytes=3, time_ratio=ratio)
    with pytest.raises(PlanningError) as caught:
        solve_published(unit_chain(MAX_NODES // 2, page_joules=1.0), ram_bytes=3)
    assert caught.value.code == "model_too_large"
    assert caught.value.details == {"nodes": MAX_NODES + 1, "max_nodes": MAX_NODES}


@pytest.mark.parametrize(
    ("nodes", "edges"),
    [
        ((), ()),
        ((1, 1), ((1, 0),)),
        ((1, 1), ((0, 0),)),
        ((1, 1), ((0, 2),)),
        ((1, 1), ((-1, 1),)),
        ((1, 1), ((0, 1), (0, 1))),
        ((1, -1), ()),
    ],
)
def test_graphs_that_contradict_themselves_are_refused(nodes, edges):
    with pytest.raises(GraphError):
        PublishedGraph(nodes=tuple(map(_node, nodes)), edges=edges)


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        '{"nodes": [], "edges": 3}',
        '{"nodes": [{"bytes": 1}], "edges": []}',
        (
            '{"nodes": [{"bytes": 1.5, "seconds": 0, "compute_joules": 0, "page_in_joules": 0, '
            '"page_out_joules": 0}], "edges": []}'
        ),
    ],
)
def test_texts_that_are_no_instance_are_refused(text):
    with pytest.raises(DocumentError):
        read_published_graph(text)


def test_a_cost_that_is_not_a_number_is_refused():
    text = (
        '{"nodes": [{"bytes": 1, "seconds": NaN, "compute_joules": 0, "page_in_joules": 0, '
        '"page_out_joules": 0}], "edges": []}'
    )
    with pytest.raises(GraphError, match="seconds"):
        read_published_graph(text)


def _node(size: int) -> PublishedNode:
    return PublishedNode(
        bytes=size, seconds=0.0, compute_joules=1.0, page_in_joules=1.0, page_out_joules=1.0
    )


def _random_graph(draw: random.Random) -> PublishedGraph:
    """Five nodes in a chain whose late nodes read early ones, as a backward pass does.

    Joules in eighths and whole seconds, so that sums are exact.
    """
    nodes = tuple(
        PublishedNode(
            bytes=draw.randint(1, 4),
            seconds=float(draw.randint(1, 3)),
            compute_joules=draw.randint(1, 12) / 8,
            page_in_joules=draw.randint(0, 4) / 8,
            page_out_joules=draw.randint(0, 4) / 8,
        )
        for _ in range(5)
    )
    chain = {(k - 1, k) for k in range(1, 5)}
    across = {edge for edge in ((0, 4), (1, 4), (0, 3), (1, 3)) if draw.random() < 0.6}
    return PublishedGraph(nodes=nodes, edges=tuple(sorted(chain | across)))


def _floor(graph: PublishedGraph) -> int:
    """The largest node with its inputs: below this there is no solution at all."""
    return max(
        node.bytes + sum(graph.nodes[i].bytes for i, k in graph.edges if k == number)
        for number, node in enumerate(graph.nodes)
    )
