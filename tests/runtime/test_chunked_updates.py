"""Updates in chunks of rows, and moments that are storages by chunk: every bit as eager's.

Chunks are of 1000 bytes here and everything that can be cut is. Three kinds of schedule: all in RAM,
every storage on flash between any two ops, and random ones in which parts of one moment are here
and there.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.baseline import keep_everything
from poet_core.errors import ReplayError
from poet_core.graph import Role
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan import Do, Instruction
from poet_runtime import TrainStep
from poet_runtime.chunks import chunked_rows, same_in_chunks
from poet_runtime.isolated import IsolatedStep
from poet_runtime.measured_peak import measure_peak, measure_step_peak
from poet_runtime.paging_file import FlashOptions
from poet_runtime.program import Owner, Program, TensorSpec
from poet_runtime.step_options import StepOptions
from poet_runtime.trace import trace
from poet_runtime.updates import AdamRule
from tests.runtime.disk_parts import At, scripted
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule
from tests.runtime.step_parts import (
    Build,
    batches,
    eager,
    mlp_momentum,
    norm_and_dropout,
    outcome,
    trained,
)
from tests.runtime.test_train_step_optimizers import GROUPS, built, change_values

CHUNK_BYTES = 1000
OPTIONS = StepOptions(split_above_bytes=0)
SCHEDULES: dict[str, Callable[[Any], Any]] = {
    "keep": keep_everything,
    "page": page_everything,
    "random": lambda graph: random_schedule(graph, 3),
}
FUSED: dict[str, Callable[[list[nn.Parameter]], torch.optim.Optimizer]] = {
    "sgd fused": lambda p: torch.optim.SGD(
        [{"params": p[:2], "lr": 0.2}, {"params": p[2:], "nesterov": True}],
        lr=0.1, momentum=0.9, weight_decay=1e-3, fused=True,
    ),
    "adam fused": lambda p: torch.optim.Adam(p, lr=0.02, fused=True),
    "adamw fused": lambda p: torch.optim.AdamW(
        [{"params": p[:1], "weight_decay": 0.3}, {"params": p[1:]}], lr=0.02, fused=True
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.trace.CHUNK_BYTES", CHUNK_BYTES)


class WideTiedText(nn.Module):
    """Tied weights wide enough to be cut: 24 rows of 16, in fours."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(24, 16)
        self.out = nn.Linear(16, 24, bias=False)
        self.out.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.out(torch.tanh(self.embed(tokens)).mean(1))
        return hidden


def wide_tied() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = WideTiedText()
    return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters(), lr=0.01)


def fused(name: str) -> Build:
    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, loss_fn, _ = mlp_momentum()
        return model, loss_fn, FUSED[name](list(model.parameters()))

    return build


def data_for(build: Build, count: int) -> list[tuple[Tensor, Tensor]]:
    if build is not wide_tied:
        return batches(build, count)
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(0, 24, (count, 8, 7), generator=generator)
    return list(zip(tokens, torch.randint(0, 24, (count, 8), generator=generator), strict=True))


def stepping(
    build: Build, folder: Path, kind: str, options: StepOptions = OPTIONS, **more: Any
) -> tuple[TrainStep, nn.Module, torch.optim.Optimizer]:
    model, loss_fn, optimizer = build()
    example = data_for(build, 1)[0]
    program = trace(model, loss_fn, optimizer, example, options=options)
    plan = hand_made_plan(program.graph, SCHEDULES[kind](program.graph))
    step = TrainStep(
        model, loss_fn, optimizer, example, plan=plan, program=program, paging_directory=folder,
        flash_write_bytes=2**40, **more,
    )  # fmt: skip
    torch.manual_seed(1)
    return step, model, optimizer


def parts_of(program: Program) -> dict[str, list[tuple[int, int] | None]]:
    found: dict[str, list[tuple[int, int] | None]] = {}
    for binding in program.bindings:
        if binding.owner is Owner.OPTIMIZER:
            found.setdefault(f"{binding.name}.{binding.state_key}", []).append(binding.part)
    return found


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
    assert graph.ops.index(updates[1]) == graph.ops.index(updates[0]) + 1
    assert parts_of(program)["0.weight.exp_avg"] == [(0, 16), (16, 16)]
    assert parts_of(program)["4.weight.exp_avg_sq"] == [(0, 6), (6, 6), (12, 6), (18, 6)]
    assert parts_of(program)["0.bias.exp_avg"] == [None]
    assert graph_from_document(graph_to_document(graph)) == graph


@pytest.mark.parametrize(
    ("split_above_bytes", "chunked"), [(None, False), (0, True), (9999, True), (10240, False)]
)
def test_what_is_small_enough_stays_whole(split_above_bytes: int | None, chunked: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    """The larger weight has 2560 bytes; with its gradient and two moments 10240."""
    monkeypatch.setattr("poet_runtime.trace.CHUNK_BYTES", 2000)
    data = batches(norm_and_dropout, 1)
    options = StepOptions(split_above_bytes=split_above_bytes)
    program = trace(*norm_and_dropout(), data[0], options=options)
    assert (parts_of(program)["0.weight.exp_avg"] != [None]) == chunked
    monkeypatch.setattr("poet_runtime.trace.CHUNK_BYTES", CHUNK_BYTES)
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


@pytest.mark.parametrize("kind", SCHEDULES)
def test_state_is_whole_whenever_somebody_looks(kind: str, tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 4)
    step, model, optimizer = stepping(norm_and_dropout, tmp_path, kind)
    with step:
        losses = trained(step, data[:2])
        half = outcome(model, optimizer, losses)
        assert half == eager(norm_and_dropout, data[:2])
        held = optimizer.state[next(model.parameters())]["exp_avg"]
        assert held.shape == (32, 20)
        twin_model, twin = copy.deepcopy((model, optimizer))
        losses += trained(step, data[2:])
        # parked again, in parts: nobody reads old numbers
        assert held.shape == (0,)
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)
        assert held is optimizer.state[next(model.parameters())]["exp_avg"]
        assert held.shape == (32, 20)
    assert outcome(twin_model, twin, ()).state == half.state


def test_a_state_dict_that_is_loaded_counts(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 5)
    step, model, optimizer = stepping(mlp_momentum, tmp_path, "page")
    with step:
        trained(step, data[:2])
        saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
        trained(step, data[2:4])
        model.load_state_dict(saved[0])
        optimizer.load_state_dict(saved[1])
        trained(step, data[4:])
        found = outcome(model, optimizer, ()).state
    expected = eager(mlp_momentum, [*data[:2], data[4]]).state
    assert found == expected


def test_state_of_another_shape_is_refused_before_anything_happens(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 3)
    step, model, optimizer = stepping(norm_and_dropout, tmp_path, "page")
    with step:
        losses = trained(step, data[:1])
        optimizer.state_dict()
        held = optimizer.state[next(model.parameters())]["exp_avg"]
        before, held.data = held.data, torch.zeros(31, 20)
        with pytest.raises(ReplayError) as caught:
            step(*data[1])
        assert caught.value.code == "state_changed"
        assert "(32, 20)" in caught.value.message
        held.data = before
        losses += trained(step, data[1:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def whole_and_split(folder: Path, *, split: bool, kind: str) -> Any:
    options = OPTIONS if split else StepOptions()
    return stepping(
        norm_and_dropout, folder, kind, options, checkpoint_path=folder / "run",
        flash=FlashOptions(),
    )  # fmt: skip


@pytest.mark.parametrize(("before", "after"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("kind", ["page", "random"])
def test_checkpoints_know_nothing_of_parts(kind: str, before: bool, after: bool, tmp_path: Path) -> None:  # fmt: skip
    data = batches(norm_and_dropout, 4)
    step, _, _ = whole_and_split(tmp_path, split=before, kind=kind)
    losses = trained(step, data[:2])
    step.checkpoint()
    step.close()
    step, model, optimizer = whole_and_split(tmp_path, split=after, kind="page")
    with step:
        assert step.resume().steps == 2
        losses += trained(step, data[2:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, data)


def test_checkpoints_with_and_without_parts_are_the_same_bytes(tmp_path: Path) -> None:
    found = []
    for name, split in (("split", True), ("whole", False)):
        folder = tmp_path / name
        folder.mkdir()
        step, _, _ = whole_and_split(folder, split=split, kind="page")
        trained(step, batches(norm_and_dropout, 2))
        step.checkpoint()
        step.close()
        found.append([path.read_bytes() for path in sorted(folder.glob("run*"))])
    assert found[0] == found[1]
    assert any(map(any, found[0]))


def test_a_fault_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    data = batches(norm_and_dropout, 3)
    step, model, optimizer = stepping(
        norm_and_dropout,
        tmp_path,
        "page",
        flash=FlashOptions(open_disk=scripted(At("io", "write", 700))),
    )
    with pytest.raises(ReplayError):
        trained(step, data * 20)
    step.close()
    for parameter in model.parameters():
        for key in ("exp_avg", "exp_avg_sq"):
            value = optimizer.state[parameter][key]
            assert value.shape == parameter.shape
            assert value.isnan().all()


def test_parking_makes_zeros_one_part_at_a_time(tmp_path: Path) -> None:
    """A moment of 100 KB is never in RAM, new or parked."""

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(20, 1280), nn.ReLU(), nn.Linear(1280, 10))
        return model, nn.functional.cross_entropy, torch.optim.Adam(model.parameters())

    step, model, optimizer = stepping(build, tmp_path, "page")
    data = batches(build, 2)
    moment = 20 * 1280 * 4
    with step:
        found = measure_peak(lambda: None, step.park)
        assert found.peak_bytes < moment / 4
        measured = measure_step_peak(step, data)
        assert measured.peak_bytes <= step.judgement.peak_bytes
        losses = outcome(model, optimizer, ())
    assert losses.state == eager(build, data).state


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


def isolated(program: Program, folder: Path, **options: Any) -> Any:
    plan = hand_made_plan(program.graph, SCHEDULES["random"](program.graph))
    model, _, optimizer = norm_and_dropout()
    torch.manual_seed(1)
    step = IsolatedStep(
        model, optimizer, program, plan, batches(norm_and_dropout, 1)[0], paging_directory=folder,
        flash_write_bytes=2**40, **options,
    )  # fmt: skip
    return step, model, optimizer


@pytest.mark.slow
def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    """Two steps there, a look, a checkpoint, and another step; then from the checkpoint once more in
    a process whose moments are whole."""
    data = batches(norm_and_dropout, 3)
    program = trace(*norm_and_dropout(), data[0], options=OPTIONS)
    step, model, optimizer = isolated(program, tmp_path, checkpoint_path=tmp_path / "run")
    with step:
        losses = [step(*batch).item().hex() for batch in data[:2]]
        step.checkpoint()
        step.collect()
        half = outcome(model, optimizer, losses)
        last = step(*data[2]).item().hex()
    expected = outcome(model, optimizer, [*losses, last])
    assert expected == eager(norm_and_dropout, data)
    assert half.state == eager(norm_and_dropout, data[:2]).state
    for options in (StepOptions(), OPTIONS):
        program = trace(*norm_and_dropout(), data[0], options=options)
        step, model, optimizer = isolated(program, tmp_path, checkpoint_path=tmp_path / "run")
        with step:
            assert step.resume().steps == 2
            again = step(*data[2]).item().hex()
        assert outcome(model, optimizer, [*losses, again]) == expected


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

    monkeypatch.setattr("poet_runtime.trace.CHUNK_BYTES", 300_000)
    data = batches(build, 3)
    step, model, optimizer = stepping(build, tmp_path, "page")
    assert len(parts_of(step.program)["0.weight.exp_avg"]) == threads
    with step:
        found = outcome(model, optimizer, trained(step, data))
    assert found == eager(build, data)
