"""Weight gradients in the rows of their updates: the bits of the whole, and left alone where it is read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.bounds import ram_floor
from poet_core.devices import load_device
from poet_core.problem import make_problem
from poet_runtime.program import Program
from poet_runtime.splitting import product_rows
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.chunks import CHUNK_BYTES, chunk_bytes_within
from poet_runtime.tracing.trace import trace
from tests.runtime.splitting_parts import like_eager
from tests.runtime.step_parts import eager, outcome, paged, trained

SPLIT = StepOptions(split_above_bytes=0)
WIDE = 256


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quarters of the square weight."""
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", WIDE * WIDE)


def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(48, WIDE), nn.ReLU(), nn.Linear(WIDE, WIDE), nn.ReLU(), nn.Linear(WIDE, 10)
    )
    return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01)


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(20, 48, generator=generator), torch.arange(20) % 10


def notes(program: Program) -> list[Any]:
    return [note for note in program.splits if note.rule == "poet.product_rows"]


def test_a_gradient_is_made_row_piece_by_row_piece_right_before_its_update() -> None:
    program = trace(*build(), batch(), options=SPLIT)
    (note,) = notes(program)
    assert note.bytes_after < note.bytes_before
    updates = [op for op in program.graph.ops if op.name.startswith("2.weight.update.")]
    assert len(updates) == 4
    for op in updates:
        (made,) = [s for s in program.graph.ops[op.id - 1].writes if s in op.mutates]
        assert program.graph.storages[made].size_bytes == WIDE * WIDE
    like_eager(program, *build(), [batch()] * 3)


def test_it_trains_as_eager_with_every_piece_on_flash(tmp_path: Path) -> None:
    step, model, optimizer = paged(build, batch(), tmp_path, SPLIT)
    with step:
        assert notes(step.program)
        found = outcome(model, optimizer, trained(step, [batch()] * 3))
    assert found == eager(build, [batch()] * 3)


def test_the_floor_is_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def floor() -> int:
        graph = trace(*build(), batch(), options=SPLIT).graph
        host = load_device("host")
        problem = make_problem(graph, host, ram_bytes=host.ram_bytes)
        return ram_floor(graph, problem.budget).floor_bytes

    in_pieces = floor()
    monkeypatch.setattr(product_rows, "_PRODUCT", "none")
    assert in_pieces < floor()


@pytest.mark.parametrize("more", [{"clip_norm": 1.0}, {"accumulate": 2}])
def test_a_gradient_that_others_read_stays_whole(more: dict[str, Any]) -> None:
    program = trace(*build(), batch(), options=StepOptions(split_above_bytes=0, **more))
    assert any(op.name == "2.weight.update.1" for op in program.graph.ops)
    assert not notes(program)


def test_what_gives_other_bits_stays_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(product_rows, "_same_bits", lambda *_: False)
    program = trace(*build(), batch(), options=SPLIT)
    assert not notes(program)
    (left,) = [note for note in program.splits if "row pieces" in note.why_not]
    assert left.bytes_after == left.bytes_before
    like_eager(program, *build(), [batch()] * 2)


def test_chunks_are_a_part_of_a_small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", CHUNK_BYTES)
    assert chunk_bytes_within(None) == CHUNK_BYTES
    assert chunk_bytes_within(10**9) == CHUNK_BYTES
    assert chunk_bytes_within(16_000_000) == 2_000_000
    assert chunk_bytes_within(0) == 1_000_000
