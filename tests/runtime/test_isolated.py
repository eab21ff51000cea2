"""A step in a process of its own: the same bits, in less memory, and what becomes of its faults."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.baseline import keep_everything
from poet_core.errors import ReplayError, UsageError
from poet_runtime import TrainStep
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.memory.cgroup import find_hierarchy
from poet_runtime.tracing.trace import trace
from tests.runtime.native_arena import arena_library
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Build,
    batches,
    convolution,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    tied,
)

KIB, MIB = 1 << 10, 1 << 20
SCHEDULES = {
    "keep": keep_everything,
    "page": page_everything,
    "random": lambda graph: random_schedule(graph, 2),
}


def isolated(build: Build, kind: str, folder: Path, rows: int = 8, **options: Any) -> Any:
    """Model, optimizer, data, and the step."""
    data = batches(build, 3, rows=rows)
    program = trace(*build(), data[0])
    plan = hand_made_plan(program.graph, SCHEDULES[kind](program.graph))
    model, _, optimizer = build()
    torch.manual_seed(1)
    step = IsolatedStep(
        model, optimizer, program, plan, data[0], paging_directory=folder,
        flash_write_bytes=2**40, **options,
    )  # fmt: skip
    return model, optimizer, data, step


@pytest.mark.parametrize(
    ("build", "kind"),
    [(norm_and_dropout, "random"), (tied, "keep")],
)
def test_every_bit_is_eagers(build: Build, kind: str, tmp_path: Path) -> None:
    """Losses, parameters, buffers, optimizer state and the generator, through a process and back."""
    model, optimizer, data, step = isolated(build, kind, tmp_path, arena=arena_library())
    with step:
        losses = [step(*batch).item().hex() for batch in data]
    assert outcome(model, optimizer, losses) == eager(build, data)
    assert list(tmp_path.iterdir()) == []  # no file is left


def test_training_goes_on_where_it_was(tmp_path: Path) -> None:
    """Two steps there, then here, with another learning rate from the second on."""
    model, optimizer, data, step = isolated(norm_and_dropout, "page", tmp_path)
    with step:
        losses = [step(*data[0]).item().hex()]
        optimizer.param_groups[0]["lr"] = 0.5
        losses.append(step(*data[1]).item().hex())
    with TrainStep(model, torch.nn.functional.cross_entropy, optimizer, data[0]) as local:
        losses.append(local(*data[2]).item().hex())

    def change(number: int, _model: object, eager_optimizer: torch.optim.Optimizer) -> None:
        if number == 0:
            eager_optimizer.param_groups[0]["lr"] = 0.5

    assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data, change)


@pytest.mark.parametrize("kind", ["keep", "page"])
def test_the_arena_measures_the_plan(kind: str, tmp_path: Path) -> None:
    model, optimizer, data, step = isolated(
        convolution, kind, tmp_path, rows=512, arena=arena_library()
    )
    with step:
        losses = [step(*batch).item().hex() for batch in data]
        found = step.memory()
    assert outcome(model, optimizer, losses) == eager(convolution, data)
    # Up to 64 bytes a storage are the plan's rounding; oneDNN takes scratch behind torch's back.
    assert found.planned_bytes - 8 * KIB <= found.arena_bytes <= found.planned_bytes + 64 * KIB
    assert found.first_step_bytes > found.arena_bytes  # oneDNN's kernels were made in it
    assert found.library_bytes < MIB
    assert found.excess_at == ""
    assert found.peak_at.startswith("op ")
    assert found.statistics["over_limit"] == 0


def test_an_op_that_exceeds_the_plan_is_named(tmp_path: Path) -> None:
    """The plan is told that no op needs workspace; with everything paged the peak is an op's."""
    data = batches(convolution, 2, rows=2048)
    program = trace(*convolution(), data[0])
    true_ops = program.graph.ops
    ops = tuple(replace(op, workspace_bytes=0) for op in true_ops)
    program = replace(program, graph=replace(program.graph, ops=ops))
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    model, _, optimizer = convolution()
    with IsolatedStep(
        model, optimizer, program, plan, data[0], arena=arena_library(),
        paging_directory=tmp_path, flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        for batch in data:
            step(*batch)
        found = step.memory()
    assert found.arena_bytes is not None
    assert found.arena_bytes > found.planned_bytes + 64 * KIB
    sizes = [storage.size_bytes for storage in program.graph.storages]
    greedy = next(
        op for op in true_ops
        if op.workspace_bytes + sum(sizes[s] for s in op.touches) > found.planned_bytes + 64 * KIB
    )  # fmt: skip
    assert found.excess_at == f"op {greedy.id} {greedy.name}"
    assert "exceeded first at" in found.line()


def test_what_the_limit_cannot_hold_is_counted(tmp_path: Path) -> None:
    model, optimizer, data, step = isolated(
        convolution, "keep", tmp_path, rows=2048, arena=arena_library(), resident_bytes=MIB
    )
    with step:
        losses = [step(*batch).item().hex() for batch in data]
        found = step.memory()
    assert found.statistics["over_limit"] > 0
    assert found.statistics["returned_bytes"] > 0
    assert outcome(model, optimizer, losses) == eager(convolution, data)


def test_a_hard_limit_ends_the_step_with_a_named_error(tmp_path: Path) -> None:
    *_, data, step = isolated(
        convolution, "keep", tmp_path, rows=8192, arena=arena_library(),
        resident_bytes=12 * MIB, hard=True,
    )  # fmt: skip
    # 5 MiB are Python's own large blocks and the batch fits; the step would take 13.
    with pytest.raises(ReplayError) as caught, step:
        step(*data[0])
    assert caught.value.code == "step_failed"
    assert "memory" in caught.value.message


def test_a_killed_worker_is_known_to_be(tmp_path: Path) -> None:
    model, _, data, step = isolated(mlp_momentum, "keep", tmp_path)
    step(*data[0])
    os.kill(step._worker.pid, signal.SIGKILL)
    with pytest.raises(ReplayError) as caught, step:
        step(*data[1])
    assert caught.value.code == "worker_failed"
    assert "-9" in caught.value.message
    assert list(tmp_path.iterdir()) == []
    assert all(torch.isfinite(tensor).all() for tensor in model.state_dict().values())


def test_a_cap_that_is_too_small_kills_and_says_so(tmp_path: Path) -> None:
    try:
        find_hierarchy()
    except ReplayError as error:
        pytest.skip(error.message)
    with pytest.raises(ReplayError) as caught:
        isolated(mlp_momentum, "keep", tmp_path, cap_bytes=60 * MIB)  # torch alone takes more
    assert caught.value.code == "worker_killed"
    assert list(tmp_path.iterdir()) == []


def test_a_cap_that_fits_holds(tmp_path: Path) -> None:
    try:
        find_hierarchy()
    except ReplayError as error:
        pytest.skip(error.message)
    model, optimizer, data, step = isolated(
        mlp_momentum, "page", tmp_path, cap_bytes=400 * MIB, arena=arena_library()
    )
    with step:
        losses = [step(*batch).item().hex() for batch in data]
        found = step.memory()
        assert step.missing == ()
        # The arena has what the cap leaves beside the interpreter and torch.
        assert found.planned_bytes < found.statistics["resident_limit_bytes"] < 400 * MIB
    assert 0 < found.group_bytes <= 400 * MIB
    assert outcome(model, optimizer, losses) == eager(mlp_momentum, data)


def test_another_batch_is_refused_before_it_travels_and_the_worker_is_lean(tmp_path: Path) -> None:
    *_, data, step = isolated(mlp_momentum, "keep", tmp_path)
    with step:
        with pytest.raises(UsageError) as caught:
            step(data[0][0][:4], data[0][1][:4])
        assert caught.value.code == "batch_mismatch"
        step(*data[0])
        maps = Path(f"/proc/{step._worker.pid}/maps").read_text()
    assert "libtorch" in maps
    for name in ("highs", "_search", "pydantic", "sklearn"):
        assert name not in maps
