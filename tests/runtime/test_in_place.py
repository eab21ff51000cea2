"""Results in the place of operands: where, where not, and the same bits and peak as without."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from examples import resnet
from poet_core.baseline import keep_everything
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Do, Instruction, Schedule
from poet_runtime import TrainStep
from poet_runtime.memory.measured_peak import measure_step_peak
from poet_runtime.program import Binding, OpCall, Owner, Program, TensorSpec
from poet_runtime.replaying.in_place import in_place_calls
from poet_runtime.replaying.replay import compile_step
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, random_schedule
from tests.runtime.step_parts import batches, convolution, eager, outcome, trained

aten = torch.ops.aten
SIZE = (2, 2)


def tensor(storage: int, *, stride: tuple[int, ...] = (2, 1), offset: int = 0) -> TensorSpec:
    return TensorSpec(storage=storage, dtype=torch.float32, size=SIZE, stride=stride, offset=offset)


def program(second: OpCall | None = None, workspaces: tuple[int, ...] = (99, 0, 0, 0)) -> Program:
    """a = x * x; b = relu(a); c = b + x; loss = c * 2. The first op has the peak."""
    storages = [
        Storage(id=at, name=name, size_bytes=16, role=role, result=role is Role.RESULT)
        for at, (name, role) in enumerate(
            [("x", Role.INPUT), *[(name, Role.ACTIVATION) for name in "abc"], ("loss", Role.RESULT)]
        )
    ]
    calls = [
        OpCall(function=aten.mul.Tensor, args=(tensor(0), tensor(0)), kwargs={}, outputs=(tensor(1),)),
        OpCall(function=aten.relu.default, args=(tensor(1),), kwargs={}, outputs=(tensor(2),)),
        second
        or OpCall(function=aten.add.Tensor, args=(tensor(2), tensor(0)), kwargs={}, outputs=(tensor(3),)),
        OpCall(function=aten.mul.Tensor, args=(tensor(3), 2.0), kwargs={}, outputs=(tensor(4),)),
    ]  # fmt: skip
    touched = [(0,), (1,), (0, 2), (3,)]
    ops = tuple(
        Op(
            id=at, name=f"op{at}", kind=str(call.function), phase=Phase.FORWARD,
            reads=touched[at], writes=(at + 1,), workspace_bytes=workspaces[at],
        )
        for at, call in enumerate(calls)
    )  # fmt: skip
    return Program(
        graph=TrainingGraph(storages=tuple(storages), ops=ops),
        calls=tuple(calls),
        bindings=(Binding(spec=tensor(0), owner=Owner.BATCH, position=0),),
        loss=tensor(4),
    )


def schedule(text: str) -> Schedule:
    """`c1 f1 o2 i2`: compute op 1, free, page out and page in storages 1 and 2."""
    do = {"c": Do.COMPUTE, "f": Do.FREE, "o": Do.PAGE_OUT, "i": Do.PAGE_IN}
    steps = tuple(Instruction(do[word[0]], int(word[1:])) for word in text.split())
    return Schedule(start_ram=(), start_flash=(), instructions=steps)


EVERYTHING_DIES = "c0 c1 f1 c2 f2 f0 c3 f3"


def run(whole: Program, plan: Schedule) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The loss of the checked step and of the one that works in place, and the input afterwards."""
    compiled = compile_step(whole, plan)
    given = torch.tensor([[-3.0, 1.5], [0.25, -0.0]])
    checked, _ = compiled({0: given.clone()}, checked=True)
    own = given.clone()
    loss, _ = compiled({0: own})
    assert torch.equal(own, given)
    return checked, loss, own


def test_an_operand_that_dies_is_written_over() -> None:
    whole, plan = program(), schedule(EVERYTHING_DIES)
    found = in_place_calls(whole, plan)
    assert {at: call.function for at, call in found.items()} == {
        1: aten.relu_.default, 3: aten.add.out, 6: aten.mul.out,
    }  # fmt: skip
    assert found[3].kwargs == {"out": tensor(2)}
    checked, loss, _ = run(whole, plan)
    assert torch.equal(checked, loss)


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("c0 c1 c2 f1 f2 f0 c3 f3", {2, 6}),  # the operand of op 1 is freed later
        ("c0 c1 f1 o2 i2 c2 f2 f0 c3 f3", {1, 8}),  # b has been on its way to flash
        ("c0 c1 f1 c2 f2 f0 c3", {1, 3}),  # c is never freed
        ("c0 c1 f1 c2 f0 f2 c3 f3", {1, 3, 6}),  # the order of frees is no matter
        ("c0 c1 f1 f0 c2 f2 c3 f3", {1, 4, 6}),  # x is freed, but what it holds is the caller's
    ],
)
def test_only_what_nobody_wants_any_more(text: str, left: set[int]) -> None:
    assert set(in_place_calls(program(), schedule(text))) == left


def test_an_input_is_left_alone_even_when_it_dies() -> None:
    found = in_place_calls(program(workspaces=(0, 0, 0, 99)), schedule("c0 f0 c1 f1 c3"))
    assert set(found) == {2}


@pytest.mark.parametrize("at", [1, 2, 3])
def test_at_the_peak_the_plan_is_carried_out_as_it_is_counted(at: int) -> None:
    workspaces = tuple(99 if op == at else 0 for op in range(4))
    found = in_place_calls(program(workspaces=workspaces), schedule(EVERYTHING_DIES))
    positions = {1: 1, 2: 3, 3: 6}
    assert set(found) == {place for op, place in positions.items() if op != at}


@pytest.mark.parametrize(
    "call",
    [
        # another view of the operand is read, too
        OpCall(function=aten.add.Tensor, args=(tensor(2), tensor(2, stride=(1, 2))), kwargs={}, outputs=(tensor(3),)),
        # the result lies otherwise
        OpCall(function=aten.add.Tensor, args=(tensor(2), tensor(0)), kwargs={}, outputs=(tensor(3, stride=(1, 2)),)),
        # an op of which no other form is known
        OpCall(function=aten.maximum.default, args=(tensor(2), tensor(0)), kwargs={}, outputs=(tensor(3),)),
        # nobody wants what it returns
        OpCall(function=aten.add.Tensor, args=(tensor(2), tensor(0)), kwargs={}, outputs=(None,)),
    ],
    ids=["another view", "another layout", "another op", "no result"],
)  # fmt: skip
def test_calls_that_stay_as_they_are(call: OpCall) -> None:
    assert 3 not in in_place_calls(program(call), schedule(EVERYTHING_DIES))


def test_an_operand_that_is_both_is_overwritten_by_what_it_was() -> None:
    double = OpCall(
        function=aten.add.Tensor, args=(tensor(2), tensor(2)), kwargs={"alpha": 3}, outputs=(tensor(3),)
    )  # fmt: skip
    whole, plan = program(double), schedule(EVERYTHING_DIES)
    # The op reads what it is given, and no more.
    ops = list(whole.graph.ops)
    ops[2] = replace(ops[2], reads=(2,))
    whole = replace(whole, graph=replace(whole.graph, ops=tuple(ops)))
    assert in_place_calls(whole, plan)[3].kwargs == {"alpha": 3, "out": tensor(2)}
    checked, loss, _ = run(whole, plan)
    assert torch.equal(checked, loss)
    assert loss[0, 1] == 2 * 4 * 1.5**2


@pytest.mark.parametrize("seed", range(4))
def test_under_any_schedule_the_bits_are_eagers(seed: int, tmp_path: Path) -> None:
    data = batches(convolution, 3)
    model, loss_fn, optimizer = convolution()
    whole = trace(model, loss_fn, optimizer, data[0])
    plan = random_schedule(whole.graph, seed)
    with TrainStep(
        model, loss_fn, optimizer, data[0], program=whole, paging_directory=tmp_path,
        plan=hand_made_plan(whole.graph, plan), flash_write_bytes=2**40,
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        assert outcome(model, optimizer, trained(step, data)) == eager(convolution, data)


def test_a_real_step_works_in_place_and_peaks_as_planned() -> None:
    model, loss_fn, optimizer, batch = resnet.step(batch_size=2, image_size=32, width=8, classes=10)
    twin: tuple[Any, ...] = resnet.step(batch_size=2, image_size=32, width=8, classes=10)
    with TrainStep(model, loss_fn, optimizer, batch) as step:
        found = in_place_calls(step.program, keep_everything(step.program.graph))
        kinds = {str(call.function) for call in found.values()}
        assert kinds == {"aten.relu_.default", "aten.threshold_backward.grad_input", "aten.add.out"}
        assert len(found) > 40
        losses = [step(*batch).item().hex() for _ in range(3)]
        peak = measure_step_peak(step, [batch]).peak_bytes
        assert peak == pytest.approx(step.judgement.peak_bytes, abs=4096)
    for loss in losses:
        twin[2].zero_grad()
        found_loss = twin[1](twin[0](batch[0]), batch[1])
        found_loss.backward()
        twin[2].step()
        assert found_loss.item().hex() == loss
