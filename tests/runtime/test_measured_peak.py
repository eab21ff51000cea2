"""Planned peak against the allocator's own events; and the meter against what a test hides."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.baseline import keep_everything
from poet_core.plan import Do, Schedule
from poet_runtime import TrainStep
from poet_runtime.flash import pager as pager_module
from poet_runtime.memory.measured_peak import (
    MeasuredPeak,
    measure_peak,
    measure_step_peak,
    resident_peak,
)
from poet_runtime.program import Program
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Batch,
    Build,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    trained,
)

MB = 10**6
STEPS = 3


def measured(
    build: Build, program: Program, schedule: Schedule, folder: Path, rows: int = 64
) -> tuple[int, MeasuredPeak]:
    """Planned peak, and the measured one over three steps."""
    data = batches(build, 4, rows=rows)
    model, loss_fn, optimizer = build()
    plan = hand_made_plan(program.graph, schedule)
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, paging_directory=folder,
        flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        step(*data[0])
        return step.judgement.peak_bytes, measure_step_peak(step, data[1:])


@pytest.mark.parametrize("build", [mlp_momentum, norm_and_dropout, convolution])
@pytest.mark.parametrize("kind", ["keep", "page", "random"])
def test_measured_peak_is_the_planned_peak(build: Build, kind: str, tmp_path: Path) -> None:
    program = trace(*build(), batches(build, 1, rows=64)[0])
    graph = program.graph
    schedule = {
        "keep": keep_everything(graph),
        "page": page_everything(graph),
        "random": random_schedule(graph, 2),
    }[kind]
    planned, found = measured(build, program, schedule, tmp_path)
    # The plan rounds each storage up to 64 bytes, the events do not; and it counts two states of the
    # generator for a random op that runs again, one of which is there only while it does.
    slack = 64 * len(graph.storages) + (graph.rng_state_bytes if kind == "random" else 0)
    assert planned - slack <= found.peak_bytes <= planned


def test_a_slow_disk_changes_neither_memory_nor_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every transfer ends as late as it can: what does not wait for it is found out."""
    data = batches(mlp_momentum, STEPS, rows=64)
    program = trace(*mlp_momentum(), data[0])
    transfer = pager_module._transfer

    def late(lane: Any, job: Any) -> None:
        time.sleep(0.004)
        transfer(lane, job)

    monkeypatch.setattr(pager_module, "_transfer", late)
    for schedule in (page_everything(program.graph), random_schedule(program.graph, 2)):
        model, loss_fn, optimizer = mlp_momentum()
        with TrainStep(
            model, loss_fn, optimizer, data[0], program=program, paging_directory=tmp_path,
            plan=hand_made_plan(program.graph, schedule), flash_write_bytes=2**40,
        ) as step:  # fmt: skip
            torch.manual_seed(1)
            losses: list[str] = []
            found = measure_peak(step.reallocate, partial(_extend, losses, step, data))
            assert found.peak_bytes <= step.judgement.peak_bytes
            assert found.end_bytes == found.begin_bytes
            assert outcome(model, optimizer, losses) == eager(mlp_momentum, data)


def _extend(losses: list[str], step: TrainStep, data: list[Batch]) -> None:
    losses.extend(trained(step, data))


def test_a_hidden_allocation_of_10_mb_appears(tmp_path: Path) -> None:
    """The meter reads the allocator, so an op that takes more than it told the tracer is seen."""
    program = trace(*mlp_momentum(), batches(mlp_momentum, 1, rows=64)[0])
    schedule = page_everything(program.graph)
    _, before = measured(mlp_momentum, program, schedule, tmp_path)
    hidden_at = 1
    function = program.calls[hidden_at].function

    def greedy(*args: Any, **kwargs: Any) -> Any:
        hidden = torch.ones(10 * MB, dtype=torch.uint8)
        assert hidden.numel() == 10 * MB
        return function(*args, **kwargs)

    calls = list(program.calls)
    calls[hidden_at] = replace(calls[hidden_at], function=greedy)
    planned, after = measured(
        mlp_momentum, replace(program, calls=tuple(calls)), schedule, tmp_path
    )
    assert before.peak_bytes <= planned < 10 * MB
    assert 10 * MB < after.peak_bytes <= planned + 10 * MB


def test_a_reference_that_outlives_its_free_appears(tmp_path: Path) -> None:
    """Were a name left over after a free, the measured peak would tell."""
    program = trace(*mlp_momentum(), batches(mlp_momentum, 1, rows=64)[0])
    schedule = page_everything(program.graph)
    kept: list[Any] = []
    first = next(call for call in program.calls if call.outputs)
    function = first.function

    def leaky(*args: Any, **kwargs: Any) -> Any:
        kept.append(function(*args, **kwargs))
        return kept[-1]

    calls = tuple(replace(c, function=leaky) if c is first else c for c in program.calls)
    _, before = measured(mlp_momentum, program, schedule, tmp_path)
    _, after = measured(mlp_momentum, replace(program, calls=calls), schedule, tmp_path)
    assert after.peak_bytes > before.peak_bytes


def test_blocks_from_before_are_neither_counted_nor_subtracted() -> None:
    old = [torch.ones(MB, dtype=torch.uint8) for _ in range(8)]
    first = measure_peak(lambda: None, lambda: old.append(torch.ones(MB, dtype=torch.uint8)))
    assert (first.peak_bytes, first.end_bytes) == (MB, MB)

    def replace_all() -> None:
        # The newest block is known to the allocator from the run above: its free is reported.
        old.clear()
        old.append(torch.ones(2 * MB, dtype=torch.uint8))

    second = measure_peak(lambda: None, replace_all)
    assert (second.begin_bytes, second.peak_bytes, second.end_bytes) == (0, 2 * MB, 2 * MB)


def test_what_prepare_leaves_is_counted_and_what_it_drops_is_not() -> None:
    held: list[torch.Tensor] = []

    def prepare() -> None:
        held.append(torch.ones(3 * MB, dtype=torch.uint8))
        torch.ones(50 * MB, dtype=torch.uint8)

    found = measure_peak(prepare, lambda: torch.ones(MB, dtype=torch.uint8))
    assert found.begin_bytes == 3 * MB
    assert found.peak_bytes == 4 * MB
    assert found.end_bytes == 3 * MB


def test_the_meter_changes_no_bits(tmp_path: Path) -> None:
    from poet_runtime.fingerprint import fingerprint

    data = batches(norm_and_dropout, 4)
    prints = []
    for meter in (False, True):
        model, loss_fn, optimizer = norm_and_dropout()
        with TrainStep(model, loss_fn, optimizer, data[0]) as step:
            torch.manual_seed(1)
            step(*data[0])
            if meter:
                measure_step_peak(step, data[1:])
            else:
                for batch in data[1:]:
                    step(*batch)
            prints.append(fingerprint(model, optimizer))
    assert prints[0] == prints[1]


def test_the_operating_system_sees_a_large_allocation() -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("no /proc/self/clear_refs here")
    with resident_peak() as peak_bytes:
        before = peak_bytes()
        block = torch.ones(200 * MB, dtype=torch.uint8)
        del block
        assert peak_bytes() - before > 150 * MB
    with resident_peak() as peak_bytes:
        assert peak_bytes() - before < 100 * MB


def test_these_schedules_page_and_run_again() -> None:
    program = trace(*norm_and_dropout(), batches(norm_and_dropout, 1, rows=64)[0])
    instructions = random_schedule(program.graph, 2).instructions
    computes = [i.target for i in instructions if i.do is Do.COMPUTE]
    assert len(computes) > len(set(computes))
    assert any(i.do is Do.PAGE_IN for i in instructions)
