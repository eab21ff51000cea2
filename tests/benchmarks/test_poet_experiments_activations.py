"""A step as POET's paper counts it: what weighs nothing, what goes, and that it can be planned."""

from __future__ import annotations

import pytest

from benchmarks.poet_experiments_activations import activations_only, parameter_gradients
from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Budget
from poet_core.problem import make_problem
from poet_core.simulate import simulate
from poet_solvers.evict import best_evict_schedule
from poet_solvers.values import value_table


def storage(number: int, name: str, role: Role, size_bytes: int = 64) -> Storage:
    persistent = role in (Role.PARAMETER, Role.OPTIMIZER_STATE, Role.BUFFER)
    return Storage(
        id=number,
        name=name,
        size_bytes=size_bytes,
        role=role,
        persistent=persistent,
        result=role is Role.RESULT,
    )


@pytest.fixture
def step() -> TrainingGraph:
    """Two layers that share a weight: its gradient is added up from two parts."""
    names = [
        ("x", Role.INPUT), ("w", Role.PARAMETER), ("momentum", Role.OPTIMIZER_STATE),
        ("mean", Role.BUFFER), ("a", Role.ACTIVATION), ("loss", Role.RESULT),
        ("grad a", Role.GRADIENT), ("grad w", Role.GRADIENT), ("more of grad w", Role.GRADIENT),
        ("new mean", Role.ACTIVATION),
    ]  # fmt: skip
    storages = tuple(storage(i, name, role) for i, (name, role) in enumerate(names))

    def op(
        number: int,
        phase: Phase,
        reads: tuple[int, ...] = (),
        writes: tuple[int, ...] = (),
        mutates: tuple[int, ...] = (),
    ) -> Op:
        return Op(
            id=number, name=f"op{number}", kind="k", phase=phase, flops=10, workspace_bytes=8,
            reads=reads, writes=writes, mutates=mutates,
        )  # fmt: skip

    return TrainingGraph(
        storages=storages,
        ops=(
            op(0, Phase.FORWARD, reads=(0, 1), writes=(4, 9)),
            op(1, Phase.FORWARD, reads=(4, 1), writes=(5,)),
            op(2, Phase.BACKWARD, reads=(5, 4), writes=(6, 7)),
            op(3, Phase.BACKWARD, reads=(6, 0), writes=(8,)),
            op(4, Phase.BACKWARD, reads=(8,), mutates=(7,)),
            op(5, Phase.UPDATE, mutates=(1, 2, 7)),
            op(6, Phase.UPDATE, reads=(9,), writes=(3,)),
        ),
    )


def test_what_an_update_touches_and_what_is_added_into_it_are_gradients_of_parameters(
    step: TrainingGraph,
) -> None:
    assert {step.storages[one].name for one in parameter_gradients(step)} == {
        "grad w",
        "more of grad w",
    }


def test_only_activations_their_gradients_inputs_and_results_weigh_anything(
    step: TrainingGraph,
) -> None:
    seen = activations_only(step)
    assert {one.name for one in seen.storages if one.size_bytes} == {
        "x", "a", "loss", "grad a", "new mean",
    }  # fmt: skip
    assert {one.name for one in seen.storages if not one.size_bytes} == {
        "w",
        "grad w",
        "more of grad w",
    }


def test_updates_go_and_the_other_ops_stay_as_they_were_but_for_workspace(
    step: TrainingGraph,
) -> None:
    seen = activations_only(step)
    assert [(op.name, op.phase, op.flops) for op in seen.ops] == [
        (op.name, op.phase, op.flops) for op in step.ops if op.phase is not Phase.UPDATE
    ]
    assert not any(op.workspace_bytes for op in seen.ops)
    for op, before in zip(seen.ops, step.ops, strict=False):
        assert [seen.storages[one].name for one in op.touches] == [
            step.storages[one].name for one in before.touches
        ]


def test_an_activation_that_an_update_reads_is_no_gradient(step: TrainingGraph) -> None:
    """A batch norm's new mean is written back by an update; it is an activation all the same."""
    assert step.storages[9].name == "new mean"
    assert 9 not in parameter_gradients(step)


def test_a_traced_step_with_a_tied_weight_is_planned_and_judged_at_its_floor() -> None:
    pytest.importorskip("torch")
    from examples import bert
    from poet_runtime.tracing.trace import trace

    model, loss_fn, optimizer, batch = bert.step_tiny()
    whole = trace(model, loss_fn, optimizer, batch, measure_workspace=False).graph
    seen = activations_only(whole)
    sizes = {one.name: one.size_bytes for one in seen.storages}
    parameters = {name for name, _ in model.named_parameters()}
    assert parameters & sizes.keys()
    assert all(sizes[name] == 0 for name in parameters & sizes.keys())
    # The tied word embedding: both parts of its gradient are of the weight's size, and weigh nothing.
    words = 4 * model.get_parameter("words.weight").numel()
    gradients = [one for one in whole.storages if one.role is Role.GRADIENT]
    parts = [one.name for one in gradients if one.size_bytes == words]
    assert len(parts) >= 2
    assert all(sizes[name] == 0 for name in parts)

    device = load_device("raspberry-pi-4b")
    keep = judge_keep_everything(seen, costs_on(seen, device), alignment_bytes=64)
    all_of_it = judge_keep_everything(whole, costs_on(whole, device), alignment_bytes=64)
    assert 0 < keep.peak_bytes < all_of_it.peak_bytes
    floor = ram_floor(seen, Budget(ram_bytes=1, alignment_bytes=64)).floor_bytes
    problem = make_problem(seen, device, ram_bytes=floor)
    schedule = best_evict_schedule(problem, value_table(seen, problem.budget))
    assert schedule is not None
    judged = simulate(seen, problem.costs, problem.budget, schedule, problem.allowed)
    assert judged.peak_bytes <= floor < keep.peak_bytes
