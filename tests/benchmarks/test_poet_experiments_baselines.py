"""The baselines of POET's experiments on chains and small steps whose answers are worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import poet_experiments_baselines as baselines
from benchmarks import poet_experiments_variants
from benchmarks.planner_passes import read_passes, turn
from benchmarks.poet_experiments_blocks import block_of, blocks_of
from benchmarks.poet_experiments_griewank import first_part, revolved
from benchmarks.poet_experiments_methods import BASELINES, POETS_OPTIMUM
from benchmarks.poet_experiments_points import Point, PointContext, Scope, Series
from benchmarks.poet_experiments_published import published_schedule
from benchmarks.published_rows import ROWS, PublishedRow
from poet_core.baseline import judge_keep_everything
from poet_core.costs import Costs
from poet_core.errors import BudgetError, PlanningError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Allowed, Budget, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_solvers.occurrences import sequence_schedule, step_model
from poet_solvers.published_graph import PublishedGraph, unit_chain
from poet_solvers.published_problem import published_problem

METHODS = {method.name: method for method in BASELINES}
PAGE_IN, PAGE_OUT = 0.25, 0.5


@pytest.fixture(autouse=True)
def _variants_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poet_experiments_variants, "VARIANTS", tmp_path)


def training_step(layers: int, *, weight_bytes: int = 2, batch_norm: bool = False) -> TrainingGraph:
    """Forward ops of blocks `layers.0` .., each with a weight; backward ops that give the gradient of
    the input and of the weight; each weight's update right behind. Activations have one byte.

    `batch_norm`: every forward op also gives new statistics, which update a buffer at the end.
    """
    storages: list[Storage] = []
    ops: list[Op] = []

    def storage(name: str, role: Role, size: int = 1, persistent: bool = False) -> int:
        number = len(storages)
        storages.append(
            Storage(id=number, name=name, size_bytes=size, role=role, persistent=persistent)
        )
        return number

    def op(
        name: str,
        phase: Phase,
        module: str,
        reads: tuple[int, ...],
        writes: tuple[int, ...] = (),
        mutates: tuple[int, ...] = (),
    ) -> None:
        ops.append(
            Op(id=len(ops), name=name, kind="node", phase=phase, module=module, flops=1,
               reads=reads, writes=writes, mutates=mutates)
        )  # fmt: skip

    weights = [storage(f"w{n}", Role.PARAMETER, weight_bytes, True) for n in range(layers)]
    buffers = [storage(f"b{n}", Role.BUFFER, 1, True) for n in range(layers * batch_norm)]
    batch = storage("batch", Role.INPUT)
    outputs, news = list[int](), list[int]()
    for layer in range(layers):
        outputs.append(storage(f"y{layer}", Role.ACTIVATION))
        reads = (outputs[-2] if layer else batch, weights[layer])
        if batch_norm:
            news.append(storage(f"new{layer}", Role.ACTIVATION))
            op(f"f{layer}", Phase.FORWARD, f"layers.{layer}.fc", reads=(*reads, buffers[layer]),
               writes=(outputs[-1], news[-1]))  # fmt: skip
        else:
            op(f"f{layer}", Phase.FORWARD, f"layers.{layer}.fc", reads=reads, writes=(outputs[-1],))
    gradient = -1
    for layer in reversed(range(layers)):
        before = () if layer == layers - 1 else (gradient,)
        gradient = storage(f"g{layer}", Role.GRADIENT)
        of_weight = storage(f"gw{layer}", Role.GRADIENT)
        reads = (*before, outputs[layer], weights[layer])
        op(f"bw{layer}", Phase.BACKWARD, "", reads=reads, writes=(gradient, of_weight))
        op(f"u{layer}", Phase.UPDATE, "", reads=(of_weight,), mutates=(weights[layer],))
    for layer in range(layers * batch_norm):
        op(f"ub{layer}", Phase.UPDATE, "", reads=(news[layer],), writes=(buffers[layer],))
    return TrainingGraph(name="step", storages=tuple(storages), ops=tuple(ops))


def problem_of(graph: TrainingGraph, ram_bytes: int, *, page: bool = True) -> Problem:
    ops, storages = len(graph.ops), len(graph.storages)
    costs = Costs(
        op_seconds=(1.0,) * ops,
        op_joules=(1.0,) * ops,
        page_in_seconds=(0.0,) * storages,
        page_in_joules=(PAGE_IN,) * storages,
        page_out_seconds=(0.0,) * storages,
        page_out_joules=(PAGE_OUT,) * storages,
    )
    budget = Budget(ram_bytes=ram_bytes)
    return Problem(graph=graph, costs=costs, budget=budget, allowed=Allowed(page=page))


def context_of(problem: Problem, published: PublishedGraph | None = None) -> PointContext:
    series = Series(network="small", scope=Scope.SGD, device="none")
    ram_bytes = problem.budget.ram_bytes
    return PointContext(
        point=Point(series=series, label="100", ram_bytes=ram_bytes),
        budgets_bytes=(ram_bytes,),
        device=None,
        published=published,
        graph_sha256=graph_sha256(problem.graph),
    )


def ask(name: str, problem: Problem) -> Judgement | None:
    answer = METHODS[name].run(problem, 1.0, context_of(problem))
    if answer is None:
        return None
    assert isinstance(answer, Schedule)
    return simulate(problem.graph, problem.costs, problem.budget, answer, problem.allowed)


def extra(name: str, graph: TrainingGraph, ram_bytes: int) -> float | None:
    problem = problem_of(graph, ram_bytes)
    judged = ask(name, problem)
    return None if judged is None else judged.energy_joules - problem.costs.base_joules


def peak(graph: TrainingGraph) -> int:
    return judge_keep_everything(graph, problem_of(graph, 1).costs).peak_bytes


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", [name for name in METHODS if name != POETS_OPTIMUM])
def test_with_all_its_ram_a_method_costs_nothing_more_unless_it_pages_everything(
    name: str, batch_norm: bool
) -> None:
    graph = training_step(5, batch_norm=batch_norm)
    found = extra(name, graph, peak(graph) + 1)
    saved = 5 * (1 + batch_norm)
    assert found == pytest.approx(saved * (PAGE_IN + PAGE_OUT) if "page" in name else 0.0)


@pytest.mark.parametrize("batch_norm", [False, True])
@pytest.mark.parametrize("name", [name for name in METHODS if name != POETS_OPTIMUM])
def test_every_method_saves_activations_of_a_whole_step_under_the_judge(
    name: str, batch_norm: bool
) -> None:
    graph = training_step(8, batch_norm=batch_norm)
    # The partitioner counts what is saved: of a plain chain all of it comes back before the first use.
    vain = name == baselines.PARTITIONER and not batch_norm
    assert (extra(name, graph, peak(graph) - 2) is None) == vain


def test_what_recomputes_keeps_the_state_in_ram_and_what_pages_everything_does_not() -> None:
    graph = training_step(6, weight_bytes=10)
    state = 6 * 10
    for name in (baselines.SQRT, baselines.GRIEWANK, baselines.BLOCKS, baselines.PARTITIONER):
        assert extra(name, graph, state - 1) is None
    assert extra(baselines.PAGE_EVERYTHING, graph, 20) is not None
    # One weight, its gradient and three activations at most: 10 + 1 + 3.
    assert extra(baselines.CAPUCHIN, graph, 20) is not None


def test_the_mildest_way_to_page_is_taken_that_fits() -> None:
    graph = training_step(6, weight_bytes=10)
    ample = extra(baselines.PAGE_EVERYTHING, graph, peak(graph))
    tight = extra(baselines.PAGE_EVERYTHING, graph, 20)
    assert ample == pytest.approx(6 * (PAGE_IN + PAGE_OUT))
    assert ample is not None
    assert tight is not None
    # Each weight comes for the forward and for the backward pass and goes once, but the last stays in
    # between at the turn, as does its activation.
    assert tight == pytest.approx(ample + 6 * (2 * PAGE_IN + PAGE_OUT), abs=3.0)


def test_a_method_that_cannot_express_a_problem_says_why() -> None:
    graph = training_step(4)
    unpaged = problem_of(graph, peak(graph), page=False)
    with pytest.raises(PlanningError) as caught:
        METHODS[baselines.PAGE_EVERYTHING].run(unpaged, 1.0, context_of(unpaged))
    assert caught.value.code == "not_applicable"
    chain = published_problem(unit_chain(3, page_joules=1.0), ram_bytes=7)
    with pytest.raises(PlanningError, match="modules"):
        METHODS[baselines.BLOCKS].run(chain, 1.0, context_of(chain))
    traced = problem_of(graph, peak(graph))
    with pytest.raises(PlanningError, match="square"):
        METHODS[POETS_OPTIMUM].run(traced, 1.0, context_of(traced))


# -- revolve ----------------------------------------------------------------------------------


def test_snapshots_lie_at_binomial_distances() -> None:
    # Ten stages are what three stored ones and two runs each can reverse: (3 + 2 choose 3).
    assert first_part(10, 2) == 4
    assert first_part(2, 1) == 1
    for length in range(2, 40):
        for snapshots in range(1, 6):
            assert 1 <= first_part(length, snapshots) < length


def _least_advances(stages: int, snapshots: int) -> int:
    """Forward steps beside each stage's own run, by trying every place for the next snapshot."""
    best = {(1, s): 0 for s in range(snapshots + 1)}
    for length in range(2, stages + 1):
        best[length, 0] = length * (length - 1) // 2
        for s in range(1, snapshots + 1):
            best[length, s] = min(
                first + best[length - first, s - 1] + best[first, s] for first in range(1, length)
            )
    return best[stages, snapshots]


@pytest.mark.parametrize("snapshots", [1, 2, 3, 4])
@pytest.mark.parametrize("layers", [5, 9, 14])
def test_on_a_chain_revolve_runs_no_more_than_the_best_schedule(
    layers: int, snapshots: int
) -> None:
    passes = read_passes(training_step(layers))
    assert passes is not None
    cuts = tuple(range(1, layers))
    found = [
        sum(op < layers for _number, op in sequence.runs) for sequence in revolved(passes, [cuts])
    ]
    # Runs of forward ops: each stage's advances, and its own run where it was not the last.
    counts = (1, 2, 3, 4, 6, 8, 12, 16)
    runs = found[counts.index(snapshots)]
    advances = runs - layers
    # The first sweep's advances are the forward pass itself.
    assert advances <= _least_advances(layers, snapshots)


def test_fewer_snapshots_take_less_ram_and_more_runs() -> None:
    graph = training_step(30, weight_bytes=0)
    passes = read_passes(graph)
    assert passes is not None
    model = step_model(problem_of(graph, 10**6, page=False))
    found = []
    for sequence in revolved(passes, [tuple(range(1, 30))]):
        schedule = sequence_schedule(model, sequence)
        judged = simulate(graph, model.problem.costs, model.problem.budget, schedule)
        found.append((judged.peak_bytes, judged.energy_joules))
    peaks, joules = zip(*found, strict=True)
    assert list(peaks) == sorted(peaks)
    assert peaks[0] < peaks[-1] < 30
    assert list(joules) == sorted(joules, reverse=True)


# -- blocks, turns ----------------------------------------------------------------------------


def test_blocks_are_members_of_lists_and_other_ops_belong_to_none() -> None:
    assert block_of("encoder.layer.3.attention.query") == "encoder.layer.3"
    assert block_of("head") == ""
    passes = read_passes(training_step(3))
    assert passes is not None
    assert blocks_of(passes) == [(0, 1), (1, 2), (2, 3)]


def test_a_list_of_layers_turns_where_most_is_awaited() -> None:
    for half in (2, 3, 5):
        graph = published_problem(unit_chain(half, page_joules=1.0), ram_bytes=9).graph
        assert turn(graph) in (half, half + 1)


def test_values_that_an_update_takes_are_made_once() -> None:
    graph = training_step(6, batch_norm=True)
    passes = read_passes(graph)
    assert passes is not None
    assert {graph.storages[s].name for s in passes.fixed} == {f"new{n}" for n in range(6)}


# -- variants ---------------------------------------------------------------------------------


def test_variants_are_read_back_as_they_were_made(tmp_path: Path) -> None:
    graph = training_step(9)
    first = [extra(baselines.SQRT, graph, ram) for ram in range(peak(graph) - 4, peak(graph))]
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert not list(tmp_path.glob("*.partial"))
    again = [extra(baselines.SQRT, graph, ram) for ram in range(peak(graph) - 4, peak(graph))]
    assert first == again
    assert any(first)


# -- POET's own optimum -----------------------------------------------------------------------


_ROWS = [row for row in ROWS if row.graph == "unit-chain-3-5.0" and row.ram_bytes == 3]


@pytest.mark.parametrize("row", _ROWS, ids=lambda row: row.mode)
def test_the_published_optimum_is_a_schedule_that_the_judge_takes(row: PublishedRow) -> None:
    graph = unit_chain(3, page_joules=5.0)
    problem = published_problem(
        graph, ram_bytes=row.ram_bytes, paging=row.paging, rematerialization=row.rematerialization
    )
    if row.optimum_joules is None:
        with pytest.raises(BudgetError):
            published_schedule(problem, graph)
        return
    schedule = published_schedule(problem, graph)
    judged = simulate(problem.graph, problem.costs, problem.budget, schedule, problem.allowed)
    assert judged.energy_joules == pytest.approx(row.optimum_joules)
