"""The one assembly of graph, device and budget."""

import dataclasses

import pytest

from poet_core.baseline import judge_keep_everything, keep_everything
from poet_core.devices import load_device
from poet_core.errors import DeviceError, UsageError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Objective
from poet_core.problem import make_problem
from poet_core.simulate import simulate


def small_graph(op_count=3):
    storages = [Storage(id=0, name="x", size_bytes=100, role=Role.INPUT)]
    ops = []
    for index in range(op_count):
        last = index == op_count - 1
        role = Role.RESULT if last else Role.ACTIVATION
        storages.append(
            Storage(id=index + 1, name=f"s{index}", size_bytes=100, role=role, result=last)
        )
        ops.append(
            Op(id=index, name=f"op{index}", kind="k", phase=Phase.FORWARD, reads=(index,),
               writes=(index + 1,), flops=10**6 + index * 10**5)
        )  # fmt: skip
    return TrainingGraph(storages=tuple(storages), ops=tuple(ops))


TX2 = load_device("jetson-tx2")


def test_the_device_fixes_what_is_the_devices():
    problem = make_problem(small_graph(), TX2, ram_bytes=10**6)
    assert problem.budget.alignment_bytes == TX2.alignment_bytes
    assert problem.budget.overlap
    assert problem.budget.flash_bytes == TX2.flash_bytes
    assert problem.budget.step_seconds is None
    assert problem.device_name == "jetson-tx2"
    assert problem.allowed == Allowed()


def test_what_the_user_chooses_is_passed_on():
    problem = make_problem(
        small_graph(), TX2, ram_bytes=10**6, step_seconds=2.0, energy_joules=3.0, flash_bytes=10**9,
        flash_write_bytes=77, objective=Objective.TIME, allowed=Allowed(page=False),
    )  # fmt: skip
    budget = problem.budget
    assert (budget.step_seconds, budget.energy_joules) == (2.0, 3.0)
    assert (budget.flash_bytes, budget.flash_write_bytes) == (10**9, 77)
    assert problem.objective is Objective.TIME
    assert not problem.allowed.page


def test_flash_bytes_cannot_widen_the_device():
    problem = make_problem(small_graph(), TX2, ram_bytes=10**6, flash_bytes=2**50)
    assert problem.budget.flash_bytes == TX2.flash_bytes


def test_ratios_are_of_keep_everything():
    problem = make_problem(small_graph(), TX2, ram_bytes=10**6, time_ratio=1.5, energy_ratio=2.0)
    base = judge_keep_everything(problem.graph, problem.costs)
    assert problem.budget.step_seconds == pytest.approx(1.5 * base.step_seconds)
    assert problem.budget.energy_joules == pytest.approx(2.0 * base.energy_joules)


def test_keep_everything_fits_a_ratio_of_exactly_one():
    # Seconds whose sum depends on the order and method of adding.
    device = dataclasses.replace(TX2, flops_per_second=3.3, flops_per_joule=7.7)
    graph = small_graph(op_count=400)
    problem = make_problem(graph, device, ram_bytes=10**6, time_ratio=1.0, energy_ratio=1.0)
    assert simulate(graph, problem.costs, problem.budget, keep_everything(graph)).compute_runs


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"ram_bytes": 0}, "ram_invalid"),
        ({"ram_bytes": -5}, "ram_invalid"),
        ({"ram_bytes": 10**6, "time_ratio": 0.9}, "ratio_invalid"),
        ({"ram_bytes": 10**6, "time_ratio": float("nan")}, "ratio_invalid"),
        ({"ram_bytes": 10**6, "time_ratio": 1.1, "step_seconds": 1.0}, "time_limit_twice"),
        ({"ram_bytes": 10**6, "energy_ratio": 1.1, "energy_joules": 1.0}, "energy_limit_twice"),
        ({"ram_bytes": 10**6, "step_seconds": float("inf")}, "time_invalid"),
        ({"ram_bytes": 10**6, "step_seconds": -1.0}, "time_invalid"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(arguments, code):
    with pytest.raises(UsageError) as caught:
        make_problem(small_graph(), TX2, **arguments)
    assert caught.value.code == code


def test_a_profile_whose_costs_overflow_is_refused():
    device = dataclasses.replace(TX2, flops_per_second=1e-300, flops_per_joule=5e-324)
    with pytest.raises(DeviceError) as caught:
        make_problem(small_graph(), device, ram_bytes=10**6)
    assert caught.value.code == "costs_not_finite"
