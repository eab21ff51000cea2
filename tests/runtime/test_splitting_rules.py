"""Each rule on hand-made drafts: taken over many shapes, and refused where a condition fails."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poet_runtime.splitting import map_chunks, row_chunks, rules
from poet_runtime.splitting.rules import Rewrite
from poet_runtime.tracing.drafts import Draft
from poet_runtime.tracing.dropout import dropout, dropout_backward
from tests.runtime.splitting_parts import Document, same

_aten = torch.ops.aten
shapes = st.lists(st.integers(1, 37), min_size=1, max_size=3).map(tuple)
a_few = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(rules, "CHUNK_BYTES", 128)
    with torch.random.fork_rng(devices=[]):
        yield


@given(size=shapes, rows=st.integers(1, 9))
@a_few
def test_softmax_by_rows(size: tuple[int, ...], rows: int) -> None:
    values, gradient = torch.randn(size), torch.randn(size)
    for log, forward, backward, one, other in (
        (True, _aten._log_softmax, _aten._log_softmax_backward_data, row_chunks.log_softmax_,
         row_chunks.log_softmax_backward_),
        (False, _aten._softmax, _aten._softmax_backward_data, row_chunks.softmax_,
         row_chunks.softmax_backward_),
    ):  # fmt: skip
        expected, found = forward(values, -1, False), values.clone()
        one(found, rows)
        assert same(expected, found), log
        expected_gradient, changed = (
            backward(gradient, expected, -1, torch.float32),
            gradient.clone(),
        )
        other(changed, found, rows)
        assert same(expected_gradient, changed), log


@given(
    rows=st.integers(1, 40), classes=st.integers(1, 33), piece=st.integers(1, 7),
    reduction=st.sampled_from([0, 1, 2]), weighted=st.booleans(),
    ignored=st.sampled_from([-100, 0, 3]), all_ignored=st.booleans(),
)  # fmt: skip
@a_few
def test_cross_entropy_backward_by_rows(
    rows: int, classes: int, piece: int, reduction: int, weighted: bool, ignored: int,
    all_ignored: bool,
) -> None:  # fmt: skip
    values = torch.randn(rows, classes).log_softmax(1)
    target = torch.randint(0, classes, (rows,))
    target[:: 1 if all_ignored else 4] = ignored
    weight = torch.rand(classes) if weighted else None
    _, total = _aten.nll_loss_forward(values, target, weight, reduction, ignored)
    gradient = torch.randn(()) if reduction else torch.randn(rows)
    chosen = _aten.nll_loss_backward(gradient, values, target, weight, reduction, ignored, total)
    expected = _aten._log_softmax_backward_data(chosen, values, 1, torch.float32)
    row_chunks.cross_entropy_backward_(
        values, gradient, target, weight, reduction, ignored, total, piece
    )
    assert same(expected, values)


@given(size=shapes, length=st.integers(1, 50), rate=st.sampled_from([0.1, 0.15, 0.5]))
@a_few
def test_dropout_by_pieces(size: tuple[int, ...], length: int, rate: float) -> None:
    values, gradient = torch.randn(size), torch.randn(size)
    torch.manual_seed(3)
    kept, mask = dropout(values, rate)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    pieces, drawn = row_chunks.dropout_by_pieces(values, rate, length)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(3)
    in_place = values.clone()
    mask_in_place = row_chunks.dropout_(in_place, rate, length)
    assert same(kept, pieces)
    assert same(kept, in_place)
    assert same(mask, drawn)
    assert same(mask, mask_in_place)
    changed = gradient.clone()
    row_chunks.dropout_backward_(changed, mask, rate, length)
    assert same(dropout_backward(gradient, mask, rate), changed)


@given(
    images=st.integers(1, 5), channels=st.integers(1, 9), side=st.integers(1, 9),
    piece=st.integers(1, 4), training=st.booleans(), affine=st.booleans(),
)  # fmt: skip
@a_few
def test_batch_norm_backward_by_channels(
    images: int, channels: int, side: int, piece: int, training: bool, affine: bool
) -> None:
    size = (images, channels, side, side)
    values, gradient = torch.randn(size), torch.randn(size)
    weight, mean, var, seen_mean, seen_var = (torch.rand(channels) + 0.5 for _ in range(5))
    args = (
        gradient, values, weight if affine else None, mean, var, seen_mean, seen_var, training,
        1e-5, [True, affine, affine],
    )  # fmt: skip
    expected = _aten.native_batch_norm_backward.default(*args)
    found = map_chunks.batch_norm_backward_(*args, piece)
    assert same(expected[0], gradient)
    if affine:
        assert same(expected[1], found[0])
        assert same(expected[2], found[1])


@given(images=st.integers(1, 5), side=st.integers(3, 12), piece=st.integers(1, 3))
@a_few
def test_max_pool_backward_by_images(images: int, side: int, piece: int) -> None:
    values = torch.randn(images, 3, side, side)
    form = ([3, 3], [2, 2], [1, 1], [1, 1], False)
    pooled, indices = _aten.max_pool2d_with_indices(values, *form)
    gradient = torch.randn_like(pooled)
    expected = _aten.max_pool2d_with_indices_backward(gradient, values, *form, indices)
    found = map_chunks.max_pool_backward(gradient, list(values.shape), *form, indices, piece)
    assert same(expected, found)


@given(
    words=st.integers(1, 30), width=st.integers(1, 9), count=st.integers(1, 60),
    padding=st.sampled_from([-1, 0, 2]), piece=st.integers(1, 31),
)  # fmt: skip
@a_few
def test_embedding_gradient_added_by_its_rows(
    words: int, width: int, count: int, padding: int, piece: int
) -> None:
    indices = torch.randint(0, words, (count,))
    gradient = torch.randn(count, width)
    gradient[::3] = -gradient[1] if count > 1 else 0.0  # sums that are zero
    total = torch.randn(words, width)
    total[::2] = -0.0
    dense = _aten.embedding_dense_backward(gradient, indices, words, padding, False)
    expected = total + dense
    for begin in range(0, words, piece):
        some = total[begin : begin + piece]
        row_chunks.embedding_rows_added_(some, gradient, indices, padding, begin)
    assert same(expected, total)


def softmax_of(document: Document, values: Any, dim: int = -1) -> Any:
    result = document.tensor(values.size)
    document.op(_aten._softmax.default, values, dim, False, outputs=(result,))
    return result


def test_an_operand_that_dies_is_overwritten() -> None:
    document = Document()
    values = document.made((10, 20))
    document.read(softmax_of(document, values))
    drafts, notes = document.split()
    assert [draft.kind for draft in drafts[1:]] == ["poet.softmax_", "aten.sum.default"]
    assert drafts[1].mutates == (values.storage,)
    assert drafts[1].outputs == ()
    assert drafts[2].operands == (values.storage,)
    assert notes["op1"].rule == "poet.softmax_"
    assert notes["op1"].bytes_after < notes["op1"].bytes_before == 2 * 800


def test_an_operand_that_is_needed_later_is_left() -> None:
    document = Document()
    values = document.made((10, 20))
    document.read(softmax_of(document, values))
    document.read(values)
    drafts, notes = document.split()
    assert drafts == document.drafts
    assert notes["op1"].why_not == "the operand is needed later"


def test_the_batch_is_not_overwritten() -> None:
    document = Document()
    values = document.tensor((10, 20), before=True)
    document.read(softmax_of(document, values))
    assert document.split()[1]["op0"].why_not == "the operand outlives the step"


def test_a_result_of_the_step_keeps_its_storage() -> None:
    document = Document()
    result = softmax_of(document, document.made((10, 20)))
    drafts, notes = document.split(kept=(result.storage,))
    assert drafts == document.drafts
    assert notes["op1"].why_not == "its result is not a tensor of its own"


@pytest.mark.parametrize(
    ("stride", "dim"), [((1, 10), -1), (None, 0)], ids=["not contiguous", "another dimension"]
)
def test_what_the_rule_does_not_know_is_left(stride: Any, dim: int) -> None:
    document = Document()
    document.read(softmax_of(document, document.made((10, 20), stride=stride), dim))
    drafts, notes = document.split()
    assert drafts == document.drafts
    assert notes["op1"].why_not == "no rule for this layout, dimension or type"


def test_a_slice_of_a_larger_storage_is_left() -> None:
    document = Document()
    whole = document.made((12, 20))
    part = type(whole)(storage=whole.storage, dtype=whole.dtype, size=(10, 20), stride=whole.stride)
    document.read(softmax_of(document, part))
    drafts, notes = document.split()
    assert drafts == document.drafts
    assert notes["op1"].why_not == "no operand has the form of the result"


def test_other_bits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(draft: Draft, _makers: Any) -> list[Rewrite]:
        values = draft.args[0]
        return [Rewrite(function=row_chunks.log_softmax_, args=(values, 1), target=values)]

    monkeypatch.setitem(rules.RULES, str(_aten._softmax.default), wrong)
    document = Document()
    document.read(softmax_of(document, document.made((11, 21))))
    drafts, notes = document.split()
    assert drafts == document.drafts
    assert notes["op1"].why_not == "in pieces it gives other bits here"


def test_the_loss_gradient_is_not_absorbed_where_another_reads_it() -> None:
    document = Document()
    values = document.made((10, 20))
    target = document.tensor((10,), torch.int64, before=True)
    total, seed = document.made(()), document.made(())
    chosen, result = document.tensor((10, 20)), document.tensor((10, 20))
    document.op(
        _aten.nll_loss_backward.default, seed, values, target, None, 1, -100, total,
        outputs=(chosen,),
    )  # fmt: skip
    document.op(
        _aten._log_softmax_backward_data.default, chosen, values, 1, torch.float32,
        outputs=(result,),
    )  # fmt: skip
    document.read(result)
    fused, _ = document.split()
    assert "poet.cross_entropy_backward_" in {draft.kind for draft in fused}
    document.read(chosen)
    drafts, notes = document.split()
    assert drafts == document.drafts
    assert notes["op4"].why_not == "the operand is needed later"


def test_element_wise_ops_go_into_the_operand_that_dies() -> None:
    document = Document()
    first, second = document.made((10, 20)), document.made((10, 20))
    total = document.tensor((10, 20))
    document.op(_aten.add.Tensor, first, second, outputs=(total,))
    document.read(total)
    document.read(first)
    drafts, notes = document.split()
    assert notes["op2"].rule == "aten.add.out"
    assert drafts[2].mutates == (second.storage,)
