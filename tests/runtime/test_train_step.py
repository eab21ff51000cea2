"""TrainStep against eager PyTorch: every loss, every state tensor and the generator, to the bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import nn

from poet_core.baseline import keep_everything
from poet_core.plan import Do, Schedule
from poet_core.simulate import simulate
from poet_runtime import TrainStep
from poet_runtime.program import Program
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Build,
    Outcome,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    tied,
    trained,
)

BUILDS: list[Build] = [mlp_momentum, norm_and_dropout, convolution, tied]
STEPS = 4  # a stale copy shows in the second or third
SEEDS = range(6)


def replayed(
    build: Build, program: Program, schedule: Schedule, steps: int, folder: Path
) -> Outcome:
    model, loss_fn, optimizer = build()
    data = batches(build, steps)
    plan = hand_made_plan(program.graph, schedule)
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, log=True,
        paging_directory=folder, flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        losses = trained(step, data)
        assert step.executed == list(schedule.instructions)
        return outcome(model, optimizer, losses)


@pytest.fixture(scope="module", params=BUILDS, ids=lambda build: build.__name__)
def build(request: pytest.FixtureRequest) -> Build:
    chosen: Build = request.param
    return chosen


@pytest.fixture(scope="module")
def program(build: Build) -> Program:
    return trace(*build(), batches(build, 1)[0])


def test_without_a_budget_it_is_eager(build: Build) -> None:
    data = batches(build, STEPS)
    model, loss_fn, optimizer = build()
    with TrainStep(model, loss_fn, optimizer, data[0]) as step:
        torch.manual_seed(1)
        assert outcome(model, optimizer, trained(step, data)) == eager(build, data)


def test_paging_everything_is_eager(build: Build, program: Program, tmp_path: Path) -> None:
    schedule = page_everything(program.graph)
    found = replayed(build, program, schedule, STEPS, tmp_path)
    assert found == eager(build, batches(build, STEPS))


@pytest.mark.parametrize("seed", SEEDS)
def test_any_valid_schedule_is_eager(
    build: Build, program: Program, seed: int, tmp_path: Path
) -> None:
    schedule = random_schedule(program.graph, seed)
    found = replayed(build, program, schedule, STEPS, tmp_path)
    assert found == eager(build, batches(build, STEPS))


def test_the_random_schedules_run_random_ops_again() -> None:
    """So that the tests above say something about generators, recompute and both homes."""
    graph = trace(*norm_and_dropout(), batches(norm_and_dropout, 1)[0]).graph
    schedules = [random_schedule(graph, seed) for seed in SEEDS]
    again: Counter[int] = Counter()
    for schedule in schedules:
        runs = Counter(i.target for i in schedule.instructions if i.do is Do.COMPUTE)
        again.update(op for op, count in runs.items() if count > 1)
    assert any(graph.ops[op].random for op in again)
    assert any(not graph.ops[op].random for op in again)
    assert any(set(s.start_ram) & set(s.start_flash) for s in schedules)


def test_twenty_steps_equal_the_unconstrained_replay_and_eager(tmp_path: Path) -> None:
    program = trace(*norm_and_dropout(), batches(norm_and_dropout, 1)[0])
    schedules = (
        keep_everything(program.graph),
        page_everything(program.graph),
        random_schedule(program.graph, 3),
    )
    kept, paged, mixed = (
        replayed(norm_and_dropout, program, schedule, 20, tmp_path) for schedule in schedules
    )
    assert kept == paged == mixed == eager(norm_and_dropout, batches(norm_and_dropout, 20))


def test_learning_rate_schedules_take_effect_without_a_new_plan(tmp_path: Path) -> None:
    build, data = norm_and_dropout, batches(norm_and_dropout, 6)
    program = trace(*build(), data[0])

    def halve(number: int, _model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        optimizer.param_groups[0]["lr"] = 1e-2 * 0.5**number

    model, loss_fn, optimizer = build()
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, paging_directory=tmp_path,
        flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        losses = []
        for number, batch in enumerate(data):
            losses += trained(step, [batch])
            halve(number, model, optimizer)
        found = outcome(model, optimizer, losses)
    assert found == eager(build, data, after=halve)
    assert found != eager(build, data)


def test_autocast_and_inference_mode_around_a_step_change_nothing() -> None:
    data = batches(mlp_momentum, STEPS)
    model, loss_fn, optimizer = mlp_momentum()
    with TrainStep(model, loss_fn, optimizer, data[0]) as step:
        torch.manual_seed(1)
        losses = trained(step, data[:1])
        with torch.autocast("cpu", dtype=torch.bfloat16):
            losses += trained(step, data[1:2])
        with torch.inference_mode():
            losses += trained(step, data[2:3])
        losses += trained(step, data[3:])
        assert outcome(model, optimizer, losses) == eager(mlp_momentum, data)


def test_the_summary_and_the_judgement_are_of_this_plan(program: Program, build: Build) -> None:
    model, loss_fn, optimizer = build()
    data = batches(build, 1)
    with TrainStep(model, loss_fn, optimizer, data[0], program=program) as step:
        plan = step.plan
        judged = simulate(program.graph, plan.costs, plan.budget, plan.schedule)
        assert step.judgement == judged
        assert step.summary().peak_bytes == judged.peak_bytes
        assert step.program is program
