"""Steps whose every op is split that can be: the bits of eager PyTorch, on any schedule."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from examples import bert, gpt2, resnet
from poet_core.bounds import ram_floor
from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.problem import make_problem
from poet_runtime import TrainStep
from poet_runtime.isolated.program import program_from_document, program_to_document
from poet_runtime.splitting import rules
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, random_schedule
from tests.runtime.splitting_parts import like_eager
from tests.runtime.step_parts import (
    Build,
    batches,
    convolution,
    eager,
    norm_and_dropout,
    outcome,
    paged,
    tied,
    trained,
)

SPLIT = StepOptions(split_above_bytes=0)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tensors in several pieces: otherwise each would be one."""
    monkeypatch.setattr(rules, "CHUNK_BYTES", 128)


@pytest.fixture
def tail() -> set[str]:
    return {"poet.log_softmax_", "poet.cross_entropy_backward_"}


def kinds(graph: TrainingGraph) -> set[str]:
    return {op.kind for op in graph.ops}


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        pytest.param(
            bert.step_tiny,
            {"poet.softmax_", "poet.softmax_backward_", "poet.dropout_backward_", "poet.dropout_"},
            id="bert",
        ),
        pytest.param(gpt2.step_tiny, {"aten.add.out"}, id="gpt2"),
        pytest.param(
            resnet.step_small,
            {"poet.batch_norm_backward_", "aten.threshold_backward.grad_input", "aten.relu_.default"},
            id="resnet18",
        ),
    ],
)  # fmt: skip
def test_a_split_step_trains_as_eager_pytorch(
    step: Any, expected: set[str], tail: set[str]
) -> None:
    model, loss_fn, optimizer, batch = step()
    program = trace(model, loss_fn, optimizer, batch, options=SPLIT)
    assert (expected | tail) <= kinds(program.graph)
    taken = [note for note in program.splits if note.rule]
    assert all(note.bytes_after < note.bytes_before and not note.why_not for note in taken)
    assert all(note.why_not for note in program.splits if not note.rule)
    like_eager(program, model, loss_fn, optimizer, [batch] * 3)


def test_nothing_is_split_unless_asked_for() -> None:
    whole = trace(*bert.step_tiny())
    high = trace(*bert.step_tiny(), options=StepOptions(split_above_bytes=2**40))
    assert whole.splits == high.splits == ()
    assert whole.graph == high.graph
    assert not any(kind.startswith("poet.") and kind.endswith("_") for kind in kinds(whole.graph))


def test_only_ops_above_the_limit_are_split() -> None:
    limit = 40_000
    program = trace(*bert.step_tiny(), options=StepOptions(split_above_bytes=limit))
    assert program.splits
    assert all(note.bytes_before > limit for note in program.splits)
    unsplit = trace(*bert.step_tiny(), options=SPLIT)
    assert len([n for n in program.splits if n.rule]) < len([n for n in unsplit.splits if n.rule])


def test_a_split_program_goes_through_a_document() -> None:
    program = trace(*bert.step_tiny(), options=SPLIT)
    document = program_to_document(program)
    again = program_from_document(document, program.update_rules, {})
    assert [call.args for call in again.calls] == [call.args for call in program.calls]
    assert [call.kwargs for call in again.calls] == [call.kwargs for call in program.calls]


BUILDS = [norm_and_dropout, convolution, tied]


@pytest.mark.parametrize("build", BUILDS)
def test_every_storage_pages_after_every_op(build: Build, tmp_path: Path, tail: set[str]) -> None:
    data = batches(build, 3)
    step, model, optimizer = paged(build, data[0], tmp_path, SPLIT)
    with step:
        assert tail <= kinds(step.program.graph)
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data)


@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize("build", [convolution, tied])
def test_random_schedules_with_recompute(build: Build, seed: int, tmp_path: Path) -> None:
    data = batches(build, 3)
    model, loss_fn, optimizer = build()
    program = trace(model, loss_fn, optimizer, data[0], options=SPLIT)
    schedule = random_schedule(program.graph, seed)
    plan = hand_made_plan(program.graph, schedule)
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, paging_directory=tmp_path,
        flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        assert outcome(model, optimizer, trained(step, data)) == eager(build, data)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"clip_norm": 0.1}, id="clip_norm"),
        pytest.param({"accumulate": 2, "clip_value": 0.01}, id="accumulate"),
        pytest.param({"autocast": torch.bfloat16}, id="autocast"),
    ],
)
def test_other_options_beside_it(options: dict[str, Any], tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 4)
    found = []
    for above in (None, 0):
        chosen = StepOptions(split_above_bytes=above, **options)
        step, model, optimizer = paged(norm_and_dropout, data[0], tmp_path, chosen)
        with step:
            assert bool(step.program.splits) is (above == 0)
            found.append(outcome(model, optimizer, trained(step, data)))
    assert found[0] == found[1]


def test_what_only_trains_loads_no_pass() -> None:
    code = (
        "import sys, poet_runtime.isolated.program\n"
        "from poet_runtime.splitting import head_tiles, map_chunks, row_chunks\n"
        "print([name for name in sys.modules if name.startswith('poet_runtime.splitting.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {"head_tiles", "map_chunks", "notes", "row_chunks"}
    assert set(ast.literal_eval(run.stdout)) == {
        f"poet_runtime.splitting.{name}" for name in loaded
    }


def test_a_plan_for_little_more_than_the_floor(tmp_path: Path) -> None:
    """The planner pages and recomputes a split program, and the judge accepts what it made."""
    data = batches(norm_and_dropout, 3)
    model, loss_fn, optimizer = norm_and_dropout()
    program = trace(model, loss_fn, optimizer, data[0], options=SPLIT)
    host = load_device("host")
    floor = ram_floor(
        program.graph, make_problem(program.graph, host, ram_bytes=host.ram_bytes).budget
    ).floor_bytes
    with TrainStep(
        model, loss_fn, optimizer, data[0], program=program, device="host", ram=floor * 5 // 4,
        paging_directory=tmp_path, wall_seconds=2, flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        assert step.judgement.peak_bytes <= floor * 5 // 4
        torch.manual_seed(1)
        assert outcome(model, optimizer, trained(step, data)) == eager(norm_and_dropout, data)
