"""Workspace is what the allocator saw, and measuring catches a trace that is wrong about a kernel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from poet_core.errors import TraceError
from poet_core.graph import Phase
from poet_runtime.kernels import AsTraced
from poet_runtime.program import TensorSpec
from poet_runtime.tracing.drafts import Draft
from poet_runtime.tracing.measure import Measurer, allocator_peak

ELEMENTS = 1000
SIZE = 4 * ELEMENTS


def spec(storage: int, *size: int, dtype: torch.dtype = torch.float32) -> TensorSpec:
    stride = tuple(torch.empty(size, device="meta").stride())
    return TensorSpec(storage=storage, dtype=dtype, size=size, stride=stride)


def draft(function: Callable[..., Any], *args: Any, outputs: Any = (), **fields: Any) -> Draft:
    return Draft(
        name="op",
        kind=f"test.{id(function)}",
        phase=Phase.FORWARD,
        function=function,
        args=args,
        outputs=outputs,
        **fields,
    )


def test_the_peak_is_of_what_is_alive_at_once() -> None:
    def call() -> torch.Tensor:
        first = torch.empty(100)
        second = first.neg()
        del first
        return second.neg()

    assert allocator_peak(call) == 800


def test_temporaries_count_and_operands_and_outputs_do_not() -> None:
    measurer = Measurer([SIZE, SIZE])
    plain = draft(torch.neg, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    assert measurer.measure(plain).workspace_bytes == 0
    chained = draft(lambda x: x.neg().exp().neg(), spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    assert measurer.measure(chained).workspace_bytes == SIZE


def test_a_hidden_allocation_appears() -> None:
    hidden = 10_000_000

    def op(x: torch.Tensor) -> torch.Tensor:
        torch.empty(hidden, dtype=torch.uint8)
        return x.neg()

    hiding = draft(op, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    assert Measurer([SIZE, SIZE]).measure(hiding).workspace_bytes == hidden - SIZE


def test_outputs_that_nobody_uses_are_workspace() -> None:
    pair = draft(lambda x: (x.neg(), x.exp()), spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS), None))
    assert Measurer([SIZE, SIZE]).measure(pair).workspace_bytes == SIZE


def test_work_in_place_needs_nothing() -> None:
    update = draft(lambda x: x.mul_(x), spec(0, ELEMENTS), mutates=(0,))
    assert Measurer([SIZE]).measure(update).workspace_bytes == 0


def test_equal_ops_are_measured_once_and_different_ones_are_not() -> None:
    runs: list[int] = []

    def op(x: torch.Tensor) -> torch.Tensor:
        runs.append(x.numel())
        return x.neg()

    measurer = Measurer([SIZE, SIZE, SIZE, SIZE // 2, SIZE // 2])
    measurer.measure(draft(op, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),)))
    once = len(runs)
    measurer.measure(draft(op, spec(1, ELEMENTS), outputs=(spec(2, ELEMENTS),)))
    assert len(runs) == once
    measurer.measure(draft(op, spec(3, ELEMENTS // 2), outputs=(spec(4, ELEMENTS // 2),)))
    assert set(runs) == {ELEMENTS, ELEMENTS // 2}


def test_rows_of_a_large_tensor_are_measured_alone_and_once() -> None:
    seen: list[tuple[int, int]] = []

    def op(x: torch.Tensor) -> torch.Tensor:
        seen.append((x.numel(), x.untyped_storage().nbytes()))
        return x.neg()

    measurer = Measurer([10 * SIZE, SIZE, 10 * SIZE])
    for number in range(3):
        rows = replace(spec(0, ELEMENTS), offset=number * ELEMENTS)
        found = measurer.measure(draft(op, rows, outputs=(spec(1, ELEMENTS),)))
        assert found.workspace_bytes == 0
    assert set(seen) == {(ELEMENTS, SIZE)}
    assert len(seen) == 3
    # Two views of one storage may overlap, so they stay where they are.
    both = draft(
        lambda x, y: x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr() or 1 / 0,
        replace(spec(0, ELEMENTS), offset=5), spec(0, ELEMENTS),
    )  # fmt: skip
    assert measurer.measure(both).workspace_bytes == 0


@pytest.mark.parametrize(
    "function",
    [
        pytest.param(lambda x: x.double(), id="another dtype"),
        pytest.param(lambda x: x.neg()[:-1], id="another shape"),
        pytest.param(lambda x: x.view(-1), id="a view of the operand"),
    ],
)
def test_a_kernel_that_gives_something_else_than_traced_is_an_error(function: Any) -> None:
    wrong = draft(function, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    with pytest.raises(TraceError) as caught:
        Measurer([SIZE, SIZE]).measure(wrong)
    assert caught.value.code == "output_differs"


@pytest.mark.parametrize(
    ("function", "workspace_bytes"),
    [
        pytest.param(lambda x: torch.empty(50, 20).t(), SIZE, id="other strides"),
        pytest.param(lambda x: torch.empty(40, 50)[:20], 2 * SIZE, id="too large a storage"),
    ],
)
def test_outputs_that_lie_otherwise_are_copied(function: Any, workspace_bytes: int) -> None:
    outputs = (spec(1, 20, 50),)
    found = Measurer([SIZE, SIZE]).measure(draft(function, spec(0, ELEMENTS), outputs=outputs))
    assert found.lies_otherwise
    assert found.workspace_bytes == workspace_bytes
    copied = AsTraced(function, outputs)(torch.empty(ELEMENTS))
    assert copied.stride() == (50, 1)
    assert copied.untyped_storage().nbytes() == SIZE


def test_seconds_are_measured_when_asked_for() -> None:
    op = draft(torch.exp, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    assert Measurer([SIZE, SIZE]).measure(op).seconds is None
    seconds = Measurer([SIZE, SIZE], seconds=True).measure(op).seconds
    assert seconds is not None
    assert 0 < seconds < 1


def test_measuring_leaves_the_generator_as_it_was() -> None:
    before = torch.get_rng_state()
    op = draft(torch.bernoulli, spec(0, ELEMENTS), outputs=(spec(1, ELEMENTS),))
    Measurer([SIZE, SIZE]).measure(op)
    assert torch.equal(before, torch.get_rng_state())
