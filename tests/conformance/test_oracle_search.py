"""The exact oracle against the judge, a naive search, random schedules and itself."""

from dataclasses import replace
from random import Random

import pytest

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.graph import TrainingGraph
from poet_core.plan import Allowed, Budget
from poet_core.simulate import simulate
from tests.oracles.generate import (
    PLAIN,
    TINY,
    Shape,
    random_problem,
    random_walk,
)
from tests.oracles.interpreter import interpret, reference
from tests.oracles.naive_search import naive_least_energy
from tests.oracles.shortest_path import TooLarge, least_energy

MOST_STATES = 1_500
SMALL = Shape(most_ops=4, most_persistent=2)
CHAINS = Shape(
    most_ops=6, most_persistent=1, most_inputs=1, mutate=0.1, overwrite=0.0, run_once=0.0
)
Parts = tuple[TrainingGraph, Costs, Budget]


def random_parts(rng: Random, shape: Shape = PLAIN) -> Parts:
    """Graph, costs and budget of a random problem."""
    problem = random_problem(rng, shape)
    return problem.graph, problem.costs, problem.budget


def check_orders(graph: TrainingGraph, costs: Costs, budget: Budget) -> str:
    """Oracle against judge and interpreter, given order against any order; how they relate."""
    outcomes = []
    for given_order in (True, False):
        best = least_energy(graph, costs, budget, given_order=given_order, most_states=MOST_STATES)
        if best is not None:
            allowed = Allowed(reorder=not given_order)
            judged = simulate(graph, costs, budget, best.schedule, allowed)
            assert judged.energy_joules == best.energy_joules
            figures = interpret(graph, costs, budget, best.schedule, allowed, reference(graph))
            assert figures.energy_joules == best.energy_joules
            assert best.energy_joules >= costs.base_joules
        outcomes.append(best)
    given, any_order = outcomes
    if any_order is None:
        assert given is None
        return "infeasible"
    if given is None:
        return "only by reordering"
    assert any_order.energy_joules <= given.energy_joules
    if any_order.energy_joules < given.energy_joules:
        return "reordering pays"
    return "overhead" if given.energy_joules > costs.base_joules else "free"


def check_many(seed: int, graphs: int) -> dict[str, int]:
    rng = Random(seed)
    counts: dict[str, int] = {}
    for _ in range(graphs):
        try:
            kind = check_orders(*random_parts(rng))
        except TooLarge:
            kind = "too large"
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def test_every_schedule_of_the_oracle_is_accepted_with_its_energy() -> None:
    counts = check_many(1, 1000)
    # The problems are neither all trivial nor all the same.
    assert counts["overhead"] > 100
    assert counts["reordering pays"] > 20
    assert counts.get("too large", 0) < 20


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_schedule_of_the_oracle_is_accepted_with_its_energy_20_000_graphs() -> None:
    counts = check_many(2, 20_000)
    assert sum(counts.values()) - counts.get("too large", 0) > 19_000


def _without_random_ops(graph: TrainingGraph) -> TrainingGraph:
    """The naive search does not know how a generator's state is held."""
    return replace(graph, ops=tuple(replace(op, random=False) for op in graph.ops))


def check_naive(seed: int, graphs: int) -> None:
    rng = Random(seed)
    for _ in range(graphs):
        graph, costs, budget = random_parts(rng, TINY)
        graph = _without_random_ops(graph)
        budget = replace(budget, ram_bytes=budget.ram_bytes - rng.choice((0, 0, 0, 1)))
        for given_order in (True, False):
            best = least_energy(graph, costs, budget, given_order=given_order)
            naive = naive_least_energy(graph, costs, budget, given_order=given_order)
            assert naive == (None if best is None else best.energy_joules)


def test_bundling_transfers_and_frees_loses_nothing() -> None:
    check_naive(3, 120)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_bundling_transfers_and_frees_loses_nothing_5_000_graphs() -> None:
    check_naive(4, 5_000)


def test_no_random_schedule_is_cheaper_than_the_oracle() -> None:
    rng = Random(5)
    compared = equal = 0
    while compared < 600:
        graph, costs, budget = random_parts(rng)
        walk = random_walk(rng, graph)
        if walk is None:
            continue
        try:
            judged = simulate(graph, costs, replace(budget, ram_bytes=10**6), walk)
        except PlanError:
            continue
        budget = replace(budget, ram_bytes=judged.peak_bytes)
        best = least_energy(graph, costs, budget)
        assert best is not None
        assert best.energy_joules <= judged.energy_joules
        compared += 1
        equal += best.energy_joules == judged.energy_joules
    assert 0 < equal < compared


def test_energy_never_falls_when_the_budget_shrinks() -> None:
    rng = Random(6)
    risen = 0
    for _ in range(150):
        graph, costs, budget = random_parts(rng, SMALL)
        energies = []
        for less in range(3):
            smaller = replace(budget, ram_bytes=max(0, budget.ram_bytes - 2 * less))
            best = least_energy(graph, costs, smaller)
            energies.append(float("inf") if best is None else best.energy_joules)
        assert energies == sorted(energies)
        risen += energies[0] < energies[-1]
    assert risen > 30


def test_what_is_not_allowed_only_costs_energy() -> None:
    rng = Random(7)
    worse = {"page": 0, "rematerialize": 0}
    for _ in range(300):
        graph, costs, budget = random_parts(rng, CHAINS)
        costs = replace(costs, page_in_joules=tuple(20 * cost for cost in costs.page_in_joules))
        best = least_energy(graph, costs, budget)
        for name in worse:
            limited = least_energy(graph, costs, budget, **{name: False})
            if limited is None:
                worse[name] += best is not None
                continue
            assert best is not None
            assert limited.energy_joules >= best.energy_joules
            simulate(graph, costs, budget, limited.schedule, Allowed(**{name: False}))
            worse[name] += limited.energy_joules > best.energy_joules
    assert worse["page"] > 40
    assert worse["rematerialize"] > 10


def test_a_time_limit_is_met_and_only_costs_energy() -> None:
    rng = Random(8)
    tighter = 0
    for _ in range(400):
        graph, costs, budget = random_parts(rng, SMALL)
        best = least_energy(graph, costs, budget)
        if best is None:
            continue
        seconds = simulate(graph, costs, budget, best.schedule).step_seconds
        limited = replace(budget, step_seconds=max(costs.base_seconds, seconds - 0.125))
        found = least_energy(graph, costs, limited)
        if found is not None:
            simulate(graph, costs, limited, found.schedule)
            assert found.energy_joules >= best.energy_joules
            tighter += found.energy_joules > best.energy_joules
    assert tighter > 2


def test_published_unit_chain() -> None:
    """The n = 2 unit chain of POET: RAM 3, page cost 0.4, optimum 5.8 (design notes, solvers)."""
    graph, costs = unit_chain(2, page_joules=0.4)
    best = least_energy(graph, costs, Budget(ram_bytes=3), given_order=True)
    assert best is not None
    assert best.energy_joules == pytest.approx(5.8, rel=1e-12)


@pytest.mark.parametrize(
    ("size", "ram_bytes", "both", "remat", "page"),
    # Published optima of the unit chains, page in = page out = 5.
    [(3, 3, 10, 10, 27), (3, 4, 8, 8, 17), (3, 5, 7, 7, 7)],
)
def test_published_unit_chains(
    size: int, ram_bytes: int, both: float, remat: float, page: float
) -> None:
    graph, costs = unit_chain(size, page_joules=5.0)
    budget = Budget(ram_bytes=ram_bytes)
    for expected, how in (
        (both, {}), (remat, {"page": False}), (page, {"rematerialize": False}),
    ):  # fmt: skip
        best = least_energy(graph, costs, budget, given_order=True, **how)
        assert best is not None
        assert best.energy_joules == expected


def test_an_op_that_runs_twice_between_two_first_runs() -> None:
    """Sizes 1, 3, 1, 4, 1, edges 0-1-2, 0-4, 2-4, RAM 4: `C0 C1 C2 C3 R0 R1 R2 R0 C4` costs 9."""
    graph, costs = _chain_graph([1, 3, 1, 4, 1], [(0, 1), (1, 2), (0, 4), (2, 4)], 1000.0)
    best = least_energy(graph, costs, Budget(ram_bytes=4), given_order=True)
    assert best is not None
    assert best.energy_joules == 9


def unit_chain(size: int, page_joules: float) -> tuple[TrainingGraph, Costs]:
    """Nodes 0..2n, edges (i, i+1) and (i, 2n-i) for i < n; every node costs 1 and weighs 1."""
    edges = [(i, i + 1) for i in range(2 * size)] + [(i, 2 * size - i) for i in range(size)]
    return _chain_graph([1] * (2 * size + 1), sorted(set(edges)), page_joules)


def _chain_graph(
    sizes: list[int], edges: list[tuple[int, int]], page_joules: float
) -> tuple[TrainingGraph, Costs]:
    from poet_core.graph import Op, Phase, Role, Storage

    nodes = len(sizes)
    graph = TrainingGraph(
        storages=tuple(
            Storage(
                id=node, name=str(node), size_bytes=size, role=Role.ACTIVATION,
                result=node == nodes - 1,
            )
            for node, size in enumerate(sizes)
        ),
        ops=tuple(
            Op(
                id=node, name=str(node), kind="unit", phase=Phase.FORWARD,
                reads=tuple(source for source, sink in edges if sink == node), writes=(node,),
            )
            for node in range(nodes)
        ),
    )  # fmt: skip
    costs = Costs(
        op_seconds=(1.0,) * nodes,
        op_joules=(1.0,) * nodes,
        page_in_seconds=(0.0,) * nodes,
        page_in_joules=(page_joules,) * nodes,
        page_out_seconds=(0.0,) * nodes,
        page_out_joules=(page_joules,) * nodes,
    )
    return graph, costs
