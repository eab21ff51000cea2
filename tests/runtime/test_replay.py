"""Compiled steps: what they execute, what they refuse, and what their source is made of."""

from __future__ import annotations

import io
import keyword
import re
import time
import tokenize
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from examples import mlp
from poet_core.baseline import keep_everything
from poet_core.errors import ReplayError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Do, Instruction, Schedule
from poet_runtime.flash import pager as pager_module
from poet_runtime.flash.pager import Pager
from poet_runtime.program import Binding, OpCall, Owner, Program, TensorSpec
from poet_runtime.replaying.replay import compile_step
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything, random_schedule

INJECTION = "x'); __import__('os').system('touch /tmp/poet-owned') #\n\x1b[2J<script>"


def floats(storage: int, *size: int, offset: int = 0, stride: tuple[int, ...] = ()) -> TensorSpec:
    dense = tuple(torch.empty(size, device="meta").stride())
    return TensorSpec(
        storage=storage, dtype=torch.float32, size=size, stride=stride or dense, offset=offset
    )


def small_program(
    function: Callable[..., Any],
    *,
    outputs: tuple[TensorSpec | None, ...],
    sizes: tuple[int, ...] = (16,),
    args: tuple[Any, ...] = (floats(0, 4),),
    kwargs: dict[str, Any] | None = None,
) -> Program:
    """Input 0 (4 floats) -> one op that writes storages 1.. -> their sum is not taken: the last
    storage is the result."""
    count = len(sizes)
    storages = [Storage(id=0, name="x", size_bytes=16, role=Role.INPUT)]
    storages += [
        Storage(id=k + 1, name=f"s{k}", size_bytes=size, role=Role.RESULT, result=k == count - 1)
        for k, size in enumerate(sizes)
    ]
    op = Op(
        id=0, name="op", kind="test", phase=Phase.FORWARD, reads=(0,),
        writes=tuple(range(1, count + 1)),
    )  # fmt: skip
    return Program(
        graph=TrainingGraph(storages=tuple(storages), ops=(op,)),
        calls=(OpCall(function=function, args=args, kwargs=kwargs or {}, outputs=outputs),),
        bindings=(Binding(spec=floats(0, 4), owner=Owner.BATCH, position=0),),
        loss=floats(count, sizes[-1] // 4),
    )


def run(program: Program, schedule: Schedule | None = None) -> torch.Tensor:
    step = compile_step(program, schedule or keep_everything(program.graph))
    loss, _ = step({0: torch.arange(4.0)}, checked=True)
    return loss


def test_the_log_is_what_was_executed_not_what_was_planned() -> None:
    program = small_program(torch.neg, outputs=(floats(1, 4),))
    schedule = keep_everything(program.graph)
    log: list[Instruction] = []
    compile_step(program, schedule)({0: torch.arange(4.0)}, log=log)
    assert log == list(schedule.instructions)

    def fail(_: torch.Tensor) -> torch.Tensor:
        raise ValueError("no")

    log.clear()
    broken = replace(program, calls=(replace(program.calls[0], function=fail),))
    with pytest.raises(ValueError, match="no"):
        compile_step(broken, schedule)({0: torch.arange(4.0)}, log=log)
    assert log == []


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (lambda x: torch.cat([x, x])[:4], "32 bytes"),
        (lambda x: x[:3] + 1, r"\(3,\)"),
        (lambda x: (x + 1).double(), "float64"),
        (lambda x: torch.cat([x, x])[::2], r"strides \(2,\)"),
        (lambda x: torch.cat([x, x])[4:], "offset 4"),
        (lambda x: x, "memory of one of its arguments"),
    ],
)
def test_an_output_that_lies_otherwise_than_traced_is_refused(
    function: Callable[..., Any], complaint: str
) -> None:
    program = small_program(function, outputs=(floats(1, 4),))
    with pytest.raises(ReplayError, match=complaint) as caught:
        run(program)
    assert caught.value.code == "op_output"
    assert caught.value.details["op"] == 0


def test_the_number_of_outputs_is_checked() -> None:
    program = small_program(
        lambda x: (x + 1, x + 2, x + 3), outputs=(floats(1, 4), floats(2, 4)), sizes=(16, 16)
    )
    with pytest.raises(ReplayError, match="3 outputs"):
        run(program)


def test_unused_outputs_are_dropped_and_used_ones_kept() -> None:
    program = small_program(lambda x: (x + 1, x + 2, x + 3), outputs=(None, floats(1, 4), None))
    assert run(program).tolist() == [2, 3, 4, 5]


def test_two_outputs_may_share_a_storage() -> None:
    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x + 1
        return y, y[2:]

    program = small_program(both, outputs=(floats(1, 4), floats(1, 2, offset=2)))
    assert run(program).tolist() == [1, 2, 3, 4]


def test_an_op_may_fill_memory_that_it_is_given() -> None:
    def fill(x: torch.Tensor, target: torch.Tensor) -> None:
        target.copy_(x * 2)

    program = small_program(fill, outputs=(), args=(floats(0, 4), floats(1, 4)))
    assert run(program).tolist() == [0, 2, 4, 6]


def test_tensors_in_lists_and_keywords_reach_the_op() -> None:
    def mixed(xs: list[torch.Tensor], scale: float, *, other: torch.Tensor, add: int) -> Any:
        return xs[0] * scale + xs[1].sum() + other[0] + add

    half = floats(0, 2, offset=2)
    program = small_program(
        mixed,
        outputs=(floats(1, 4),),
        args=([floats(0, 4), half], 2.0),
        kwargs={"other": half, "add": 100},
    )
    assert run(program).tolist() == [107, 109, 111, 113]


def test_a_view_of_another_type_is_a_view() -> None:
    as_integers = TensorSpec(storage=0, dtype=torch.int32, size=(4,), stride=(1,))
    program = small_program(
        lambda x: x.view(torch.float32).clone(), outputs=(floats(1, 4),), args=(as_integers,)
    )
    assert run(program).tolist() == [0, 1, 2, 3]


def test_a_call_that_touches_more_than_its_op_is_refused() -> None:
    program = small_program(torch.neg, outputs=(floats(1, 4),), sizes=(16, 16))
    with pytest.raises(ReplayError) as caught:
        run(program)
    assert caught.value.code == "program_contract"


def test_a_storage_written_again_while_resident_takes_the_new_value() -> None:
    values = iter([1.0, 2.0])
    program = small_program(lambda x: x * 0 + next(values), outputs=(floats(1, 4),))
    twice = Schedule(
        start_ram=(),
        start_flash=(),
        instructions=(Instruction(Do.COMPUTE, 0), Instruction(Do.COMPUTE, 0), Instruction(Do.FREE, 0)),
    )  # fmt: skip
    assert run(program, twice).tolist() == [2, 2, 2, 2]


def test_a_mutation_waits_for_the_page_out_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """s = x; s *= 2; result = s + 1, where the doubling is run twice, each time on the s that was
    paged out first: a page-out that reads too late writes a doubled s."""
    transfer = pager_module._transfer

    def late(lane: Any, job: Any) -> None:
        time.sleep(0.05)
        transfer(lane, job)

    monkeypatch.setattr(pager_module, "_transfer", late)
    storages = (
        Storage(id=0, name="x", size_bytes=16, role=Role.INPUT),
        Storage(id=1, name="s", size_bytes=16, role=Role.ACTIVATION),
        Storage(id=2, name="result", size_bytes=16, role=Role.RESULT, result=True),
    )
    forward = Phase.FORWARD
    ops = (
        Op(id=0, name="copy", kind="test", phase=forward, reads=(0,), writes=(1,)),
        Op(id=1, name="double", kind="test", phase=forward, mutates=(1,)),
        Op(id=2, name="add", kind="test", phase=forward, reads=(1,), writes=(2,)),
    )
    x, s, result = floats(0, 4), floats(1, 4), floats(2, 4)
    program = Program(
        graph=TrainingGraph(storages=storages, ops=ops),
        calls=(
            OpCall(function=torch.clone, args=(x,), kwargs={}, outputs=(s,)),
            OpCall(function=lambda value: value.mul_(2), args=(s,), kwargs={}),
            OpCall(function=lambda value: value + 1, args=(s,), kwargs={}, outputs=(result,)),
        ),
        bindings=(Binding(spec=x, owner=Owner.BATCH, position=0),),
        loss=result,
    )
    compute, out, back, free = Do.COMPUTE, Do.PAGE_OUT, Do.PAGE_IN, Do.FREE
    steps = [(compute, 0), (free, 0), (out, 1), (compute, 1), (free, 1), (back, 1), (compute, 1)]
    steps += [(compute, 2), (free, 1)]
    schedule = Schedule(
        start_ram=(), start_flash=(), instructions=tuple(Instruction(*pair) for pair in steps)
    )
    hand_made_plan(program.graph, schedule)  # the judge has nothing against it
    step = compile_step(program, schedule)
    pager = Pager(step.layout.size_bytes, tmp_path)
    loss, _ = step({0: torch.arange(4.0)}, pager=pager)
    pager.close()
    assert loss.tolist() == [1, 3, 5, 7]


def test_a_schedule_that_pages_needs_a_pager() -> None:
    program = trace(*mlp.step(batch_size=2, features=5, hidden=(4,)))
    step = compile_step(program, page_everything(program.graph))
    with pytest.raises(ReplayError) as caught:
        step({})
    assert caught.value.code == "no_pager"


NAMES = re.compile(r"[tkfxgp]\d+(_\d+)?|[WOISVEGHCL_rh]|step|resident|pop")


def hostile(program: Program) -> Program:
    """The same program; every text that a document could carry is an injection."""
    graph = program.graph
    evil = TrainingGraph(
        storages=tuple(replace(storage, name=INJECTION) for storage in graph.storages),
        ops=tuple(replace(op, name=INJECTION, kind=INJECTION, module=INJECTION) for op in graph.ops),
        rng_state_bytes=graph.rng_state_bytes,
        conditions={"threads": INJECTION},
        name=INJECTION,
    )  # fmt: skip
    return replace(program, graph=evil)


@pytest.mark.parametrize("checked", [False, True])
def test_the_source_holds_integers_and_its_own_names_only(checked: bool) -> None:
    from poet_runtime.replaying.codegen import write_source

    program = hostile(trace(*mlp.step(batch_size=2, features=5, hidden=(4,), optimizer="adam")))
    for schedule in (page_everything(program.graph), random_schedule(program.graph, 1)):
        source = write_source(program, schedule, checked=checked, logged=True)
        kinds: Counter[int] = Counter()
        for token in tokenize.generate_tokens(io.StringIO(source.text).readline):
            kinds[token.type] += 1
            if token.type == tokenize.NAME and not keyword.iskeyword(token.string):
                assert NAMES.fullmatch(token.string), token
            if token.type == tokenize.NUMBER:
                assert token.string.isdigit()
        assert kinds[tokenize.NUMBER]
        assert not kinds[tokenize.STRING]
        assert not kinds[tokenize.COMMENT]


def test_names_in_errors_are_made_safe() -> None:
    program = hostile(small_program(lambda x: x, outputs=(floats(1, 4),)))
    with pytest.raises(ReplayError) as caught:
        run(program)
    assert "\x1b" not in str(caught.value)
    assert "\n" not in str(caught.value)
