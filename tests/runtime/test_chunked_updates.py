"""Updates in chunks of rows, and moments that are storages by chunk: every bit as eager's.

Chunks are of 1000 bytes here and everything that can be cut is. Three kinds of schedule: all in RAM,
every storage on flash between any two ops, and random ones in which parts of one moment are here
and there.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.graph import Role
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan import Do, Instruction
from poet_runtime import TrainStep
from poet_runtime.program import TensorSpec
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.chunks import chunked_rows, same_in_chunks
from poet_runtime.tracing.trace import trace
from poet_runtime.updates import AdamRule
from tests.runtime.chunk_parts import (
    CHUNK_BYTES,
    FUSED,
    OPTIONS,
    SCHEDULES,
    data_for,
    fused,
    parts_of,
    stepping,
    wide_tied,
)
from tests.runtime.step_parts import (
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    trained,
)
from tests.runtime.test_train_step_optimizers import GROUPS, built, change_values


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", CHUNK_BYTES)


def test_the_program_has_an_op_and_a_storage_for_each_chunk() -> None:
    data = batches(norm_and_dropout, 1)
    model, loss_fn, optimizer = norm_and_dropout()
    program = trace(model, loss_fn, optimizer, data[0], options=OPTIONS)
    graph = program.graph
    updates = [op for op in graph.ops if op.name.startswith("0.weight.update")]
    assert [op.name for op in updates] == ["0.weight.update.0", "0.weight.update.1"]
    names = {storage.id: storage.name for storage in graph.storages}
    for number, op in enumerate(updates):
        # the gradient is scratch, row by row
        assert [names[s] for s in op.mutates if graph.storages[s].role is not Role.GRADIENT] == [
            "0.weight", f"0.weight.exp_avg.{number}", f"0.weight.exp_avg_sq.{number}",
        ]  # fmt: skip
        assert op.workspace_bytes < 64  # numbers
        # of parameter, gradient and both moments, 16 rows of 20
        assert op.bytes_moved == 4 * 16 * 20 * 4
    between = graph.ops[graph.ops.index(updates[0]) + 1 : graph.ops.index(updates[1])]
    assert [op.kind for op in between] == ["aten.mm.default"]  # the gradient of its rows
    assert parts_of(program)["0.weight.exp_avg"] == [(0, 16), (16, 16)]
    assert parts_of(program)["4.weight.exp_avg_sq"] == [(0, 6), (6, 6), (12, 6), (18, 6)]
    assert parts_of(program)["0.bias.exp_avg"] == [None]
    assert graph_from_document(graph_to_document(graph)) == graph


@pytest.mark.parametrize(
    ("split_above_bytes", "chunked"), [(None, False), (0, True), (9999, True), (10240, False)]
)
def test_what_is_small_enough_stays_whole(split_above_bytes: int | None, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The larger weight has 2560 bytes; with its gradient and two moments 10240."""
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", 2000)
    data = batches(norm_and_dropout, 1)
    options = StepOptions(split_above_bytes=split_above_bytes)
    program = trace(*norm_and_dropout(), data[0], options=options)
    assert (parts_of(program)["0.weight.exp_avg"] != [None]) == chunked
    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", CHUNK_BYTES)
    # and one that is much larger than a chunk is cut whatever its update needs
    program = trace(*norm_and_dropout(), data[0], options=options)
    assert (parts_of(program)["0.weight.exp_avg"] == [None]) == (split_above_bytes is None)


def test_rows_are_cut_where_vectors_end() -> None:
    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    rule = AdamRule(0, {"weight": 0}, optimizer)

    def cut(*size: int, stride: tuple[int, ...] | None = None, chunk_bytes: int = CHUNK_BYTES, state: Tensor | None = None) -> Any:  # fmt: skip
        stride = stride or torch.empty(size, device="meta").stride()
        spec = TensorSpec(storage=0, dtype=torch.float32, size=size, stride=stride)
        return chunked_rows(rule, "weight", spec, spec, [state, None], 0, chunk_bytes)

    assert cut(100, 64) == tuple((first, min(4, 100 - first)) for first in range(0, 100, 4))
    assert cut(1000) == ((0, 256), (256, 256), (512, 256), (768, 232))
    # 64 rows of 5 elements are the fewest that end with a vector
    assert cut(200, 5) == ((0, 64), (64, 64), (128, 64), (192, 8))
    assert cut(60, 5) == ()
    assert cut() == ()
    assert cut(100, 64, stride=(1, 100)) == ()
    assert cut(100, 64, state=torch.zeros(64, 100).t()) == ()
    assert len(cut(100, 64, state=torch.zeros(100, 64))) == 25


def test_a_rule_that_does_something_else_to_the_last_elements_stays_whole() -> None:
    class Odd(AdamRule):
        def update(self, name: str, scratch: bool, parameter: Tensor, *rest: Tensor) -> None:
            super().update(name, scratch, parameter, *rest)
            parameter[-1] += 1e-3

    optimizer = torch.optim.Adam([nn.Parameter(torch.zeros(1))])
    for kind, same in ((AdamRule, True), (Odd, False)):
        rule = kind(0, {"weight": 0}, optimizer)
        assert same_in_chunks(rule, "weight", torch.float32, torch.float32) == same


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("name", [*GROUPS, *FUSED])
def test_every_optimizer_keeps_every_bit(name: str, kind: str, tmp_path: Path) -> None:
    """Groups of every kind, with numbers that change between steps."""
    build = fused(name) if name in FUSED else built(name)
    data = batches(build, 4)
    step, model, optimizer = stepping(build, tmp_path, kind)
    assert any(len(parts) > 1 for parts in parts_of(step.program).values()) or name == "sgd"
    with step:
        losses = []
        for number, batch in enumerate(data):
            losses += trained(step, [batch])
            change_values(number, model, optimizer)
        found = outcome(model, optimizer, losses)
    assert found == eager(build, data, after=change_values)


@pytest.mark.parametrize("kind", SCHEDULES)
@pytest.mark.parametrize("clip_norm", [None, 0.1])
def test_tied_weights_and_clipping(kind: str, clip_norm: float | None, tmp_path: Path) -> None:
    data = data_for(wide_tied, 4)
    options = StepOptions(split_above_bytes=0, clip_norm=clip_norm)
    step, model, optimizer = stepping(wide_tied, tmp_path, kind, options)
    assert parts_of(step.program)["embed.weight.exp_avg"] == [(0, 12), (12, 12)]

    def clip(model: nn.Module) -> None:
        if clip_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)

    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(wide_tied, data, clip=clip)


class Shared(nn.Module):
    """Two weights with one gradient, which neither update may overwrite before the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(32, 20))
        self.second = nn.Parameter(torch.randn(32, 20))

    def forward(self, inputs: Tensor) -> Tensor:
        return (inputs @ (self.first + self.second).t())[:, :10]


@pytest.mark.parametrize("clip_value", [None, 0.01])
def test_a_gradient_of_two_parameters(clip_value: float | None, tmp_path: Path) -> None:
    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = Shared()
        return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.1)

    def clip(model: nn.Module) -> None:
        if clip_value is not None:
            torch.nn.utils.clip_grad_value_(model.parameters(), clip_value)

    data = batches(build, 3)
    options = StepOptions(split_above_bytes=0, clip_value=clip_value)
    step, model, optimizer = stepping(build, tmp_path, "page", options)
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data, clip=clip)


@pytest.mark.parametrize("kind", SCHEDULES)
def test_gradients_that_add_up_over_calls(kind: str, tmp_path: Path) -> None:
    data = batches(mlp_momentum, 6)
    options = StepOptions(split_above_bytes=0, accumulate=2)
    step, model, optimizer = stepping(mlp_momentum, tmp_path, kind, options)
    with step:
        found = outcome(model, optimizer, trained(step, data))

    model, loss_fn, optimizer = mlp_momentum()
    torch.manual_seed(1)
    losses = []
    for number, (inputs, labels) in enumerate(data):
        loss = loss_fn(model(inputs), labels)
        loss.backward()
        losses.append(loss.item().hex())
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()
    assert found == outcome(model, optimizer, losses)


def test_a_planner_brings_each_part_in_for_its_chunk_only(tmp_path: Path) -> None:
    """Below what the update of the whole weight needs; moments come and go chunk by chunk."""

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 320), nn.ReLU(), nn.Linear(320, 10))
        return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01)

    data = batches(build, 3)
    weight_bytes = 320 * 20 * 4
    model, loss_fn, optimizer = build()
    program = trace(model, loss_fn, optimizer, data[0], options=OPTIONS)
    ram_bytes = 3 * weight_bytes
    with TrainStep(
        model, loss_fn, optimizer, data[0], program=program, ram=ram_bytes,
        device="raspberry-pi-4b", paging_directory=tmp_path, wall_seconds=4,
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        losses = trained(step, data)
        assert outcome(model, optimizer, losses) == eager(build, data)
        assert step.judgement.peak_bytes <= ram_bytes < 4 * weight_bytes
        schedule = step.plan.schedule
    every = {s.id for s in program.graph.storages if s.name.startswith("0.weight.exp_avg")}
    parts = every - set(schedule.start_ram)  # a few fill what is left of the budget
    assert len(parts) > len(every) / 2
    done = [i for i in schedule.instructions if i.do is Do.COMPUTE or i.target in parts]
    for op in program.graph.ops:
        own = parts & set(op.touches)
        if own:
            at = done.index(Instruction(Do.COMPUTE, op.id))
            assert {i.target for i in done[:at] if i.do is Do.PAGE_IN} >= own
            assert {i.target for i in done[at:] if i.do is Do.PAGE_OUT} >= own


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield 2
    torch.set_num_threads(before)


def test_two_threads(threads: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Large enough to be divided between threads, which begin at other elements in a chunk."""

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 7168, bias=False), nn.ReLU(), nn.Linear(7168, 10))
        return model, nn.functional.cross_entropy, torch.optim.Adam(
            model.parameters(), lr=0.01, fused=True
        )  # fmt: skip

    monkeypatch.setattr("poet_runtime.tracing.chunks.CHUNK_BYTES", 300_000)
    data = batches(build, 3)
    step, model, optimizer = stepping(build, tmp_path, "page")
    assert len(parts_of(step.program)["0.weight.exp_avg"]) == threads
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data)
