"""A vocabulary head on tiles: the bits of the head in one piece, and left alone where it is not one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from examples import bert, gpt2
from poet_core.bounds import ram_floor
from poet_core.devices import load_device
from poet_core.problem import make_problem
from poet_runtime.isolated.program import program_from_document, program_to_document
from poet_runtime.program import Program
from poet_runtime.splitting import head_pass, head_tiles
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.splitting_parts import like_eager, same
from tests.runtime.step_parts import eager, outcome, paged, trained

_aten = torch.ops.aten
SPLIT = StepOptions(split_above_bytes=0)


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_pass, "TILE_BYTES", 24_000)


def head_note(program: Program) -> Any:
    return next((n for n in program.splits if n.rule == "poet.tiled_head" or "tile" in n.why_not), None)  # fmt: skip


@pytest.mark.parametrize("step", [bert.step_tiny, gpt2.step_tiny], ids=["bert", "gpt2"])
def test_a_tied_head_on_tiles_trains_as_eager_pytorch(step: Any) -> None:
    model, loss_fn, optimizer, batch = step()
    program = trace(model, loss_fn, optimizer, batch, options=SPLIT)
    assert head_note(program).rule == "poet.tiled_head"
    logits_bytes = 64 * 500 * 4
    assert max(s.size_bytes for s in program.graph.storages) < logits_bytes
    like_eager(program, model, loss_fn, optimizer, [batch] * 3)


def test_the_floor_is_lower() -> None:
    def floor(options: StepOptions | None) -> int:
        graph = trace(*bert.step_tiny(), options=options).graph
        host = load_device("host")
        problem = make_problem(graph, host, ram_bytes=host.ram_bytes)
        return ram_floor(graph, problem.budget).floor_bytes

    assert floor(SPLIT) < floor(None)


@pytest.fixture
def small_updates(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", 12_000)


def pieces(program: Program) -> list[int]:
    return [s.id for s in program.graph.storages if s.name.startswith("weight_gradient.")]


@pytest.mark.usefixtures("small_updates")
@pytest.mark.parametrize("step", [bert.step_tiny, gpt2.step_tiny], ids=["bert", "gpt2"])
def test_a_tied_weights_gradient_in_the_rows_of_its_updates(step: Any, tmp_path: Path) -> None:
    batch = step()[3]
    running, model, optimizer = paged(lambda: step()[:3], batch, tmp_path, SPLIT)
    with running:
        graph = running.program.graph
        found = pieces(running.program)
        assert len(found) > 2
        assert max(graph.storages[one].size_bytes for one in found) < 500 * 32 * 4 / 2
        for piece in found:
            kinds = [op.kind for op in graph.ops if piece in op.touches]
            assert kinds[-2] == "poet.embedding_rows_added_"
            assert kinds[-1].startswith("poet.adam")
        bits = outcome(model, optimizer, trained(running, [batch] * 3))
    assert bits == eager(lambda: step()[:3], [batch] * 3)


@pytest.mark.usefixtures("small_updates")
def test_pieces_page_one_by_one(tmp_path: Path) -> None:
    _, _, batch = head_step()
    step, model, optimizer = paged(build, batch, tmp_path, SPLIT)
    with step:
        assert pieces(step.program)
        found = outcome(model, optimizer, trained(step, [batch] * 3))
    assert found == eager(build, [batch] * 3)


@pytest.mark.usefixtures("small_updates")
def test_a_gradient_whose_norm_is_wanted_stays_whole() -> None:
    model, optimizer, batch = head_step()
    options = StepOptions(split_above_bytes=0, clip_norm=1.0)
    program = trace(model, nn.functional.cross_entropy, optimizer, batch, options=options)
    assert head_note(program).rule == "poet.tiled_head"
    assert not pieces(program)


class Head(nn.Module):
    """Words in, a hidden layer, words out; `loss_parts` also reads the logits."""

    def __init__(self, *, bias: bool = True, width: int = 24, words: int = 150) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.mix = nn.Linear(width, width)
        self.out = nn.Linear(width, words, bias=bias)

    def forward(self, tokens: Tensor) -> Tensor:
        found: Tensor = self.out(torch.tanh(self.mix(self.embed(tokens))))
        return found


def head_step(**form: Any) -> tuple[nn.Module, torch.optim.Optimizer, tuple[Tensor, Tensor]]:
    torch.manual_seed(0)
    model = Head(**form)
    tokens = torch.randint(0, 150, (70,))
    target = torch.randint(0, 150, (70,))
    target[::5] = 3
    return model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), (tokens, target)


def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    model, optimizer, _ = head_step()
    return model, nn.functional.cross_entropy, optimizer


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("ignore_index", [-100, 0, 3])
def test_every_form_of_cross_entropy(bias: bool, reduction: str, ignore_index: int) -> None:
    def loss_fn(logits: Tensor, target: Tensor) -> Tensor:
        return nn.functional.cross_entropy(
            logits, target, reduction=reduction, ignore_index=ignore_index
        )

    model, optimizer, batch = head_step(bias=bias)
    program = trace(model, loss_fn, optimizer, batch, options=SPLIT)
    assert head_note(program).rule == "poet.tiled_head"
    like_eager(program, model, loss_fn, optimizer, [batch] * 2)


def test_a_loss_of_each_row_with_a_weight_of_its_own() -> None:
    def loss_fn(logits: Tensor, target: Tensor) -> Tensor:
        each = nn.functional.cross_entropy(logits, target, reduction="none")
        return (each * torch.arange(70)).sum()

    model, optimizer, batch = head_step()
    program = trace(model, loss_fn, optimizer, batch, options=SPLIT)
    assert head_note(program).rule == "poet.tiled_head"
    like_eager(program, model, loss_fn, optimizer, [batch] * 2)


def _weighted(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, weight=torch.ones(150))


def _smoothed(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target, label_smoothing=0.1)


def _with_a_penalty(logits: Tensor, target: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, target) + logits.square().mean()


@pytest.mark.parametrize("loss_fn", [_weighted, _smoothed, _with_a_penalty])
def test_a_head_that_is_used_otherwise_is_left(loss_fn: Any) -> None:
    model, optimizer, batch = head_step()
    program = trace(model, loss_fn, optimizer, batch, options=SPLIT)
    assert head_note(program) is None
    like_eager(program, model, loss_fn, optimizer, [batch] * 2)


def test_a_head_of_one_tile_is_said_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_pass, "TILE_BYTES", 10**9)
    model, optimizer, batch = head_step()
    program = trace(model, nn.functional.cross_entropy, optimizer, batch, options=SPLIT)
    assert head_note(program).why_not == "one tile is all of it"


def test_other_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    right = head_tiles.weight_and_bias_gradient_

    def fills_wrongly(weights: list[Tensor], bias: Tensor, *others: Any) -> None:
        right(weights, bias, *others)
        weights[0][-1] *= 1.001

    monkeypatch.setattr(head_tiles, "weight_and_bias_gradient_", fills_wrongly)
    model, optimizer, batch = head_step()
    before = trace(model, nn.functional.cross_entropy, optimizer, batch, options=SPLIT)
    assert head_note(before).why_not == "on tiles it gives other bits here"
    like_eager(before, model, nn.functional.cross_entropy, optimizer, [batch] * 2)


def test_every_tile_pages_and_a_document_holds_them(tmp_path: Path) -> None:
    _, _, batch = head_step()
    step, model, optimizer = paged(build, batch, tmp_path, SPLIT)
    with step:
        assert head_note(step.program).rule == "poet.tiled_head"
        found = outcome(model, optimizer, trained(step, [batch] * 3))
        document = program_to_document(step.program)
        again = program_from_document(document, step.program.update_rules, {})
        assert [call.args for call in again.calls] == [call.args for call in step.program.calls]
    assert found == eager(build, [batch] * 3)


@given(
    rows=st.integers(1, 70), classes=st.integers(1, 40), piece=st.integers(1, 30),
    reduction=st.sampled_from([0, 1, 2]), ignored=st.sampled_from([-100, 0, 2]),
    all_ignored=st.booleans(),
)  # fmt: skip
@settings(max_examples=40, deadline=None)
def test_the_loss_from_one_number_a_row(
    rows: int, classes: int, piece: int, reduction: int, ignored: int, all_ignored: bool
) -> None:  # fmt: skip
    values = torch.randn(rows, classes).log_softmax(1)
    target = torch.randint(0, classes, (rows,))
    target[:: 1 if all_ignored else 3] = ignored
    expected = _aten.nll_loss_forward(values, target, None, reduction, ignored)
    chosen = [
        head_tiles.chosen_log_probabilities(some, labels, ignored)
        for some, labels in zip(torch.split(values, piece), torch.split(target, piece), strict=True)
    ]
    found = head_tiles.nll_loss_of_chosen(chosen, target, reduction, ignored)
    assert same(expected[0], found[0])
    assert same(expected[1], found[1])
