"""What to put in the place of an op that needs much memory at once, by its kind.

A rule knows the arithmetic of one kind of op: which of its rows, channels or elements do not depend
on each other, and which operand has the form of the result. It proposes; whether an operand may be
overwritten, and whether the bits stay the same, is checked by the pass. Invariant: a rule proposes
nothing for layouts, dimensions or types that the functions it names do not expect.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from poet_runtime.program import TensorSpec
from poet_runtime.splitting import map_chunks, row_chunks
from poet_runtime.splitting.exactness import Integers
from poet_runtime.tracing.drafts import Draft, specs_in

CHUNK_BYTES = 2 * 2**20
"""Of one operand in one piece: a few of them fit into a core's cache, and each is long enough that
calling the operator costs nothing."""

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Rewrite:
    """A call that may stand where a draft does. `target`: the operand that is overwritten and takes
    the place of the first output. `absorbs`: positions of earlier drafts that become part of it.
    `integers`: valid values of integer operands, by storage."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    target: TensorSpec | None = None
    absorbs: tuple[int, ...] = ()
    integers: Mapping[int, Integers] = field(default_factory=dict)


class Makers(Protocol):
    """Finds the draft that makes a storage, if it is still there as it was."""

    def __call__(self, storage: int) -> tuple[int, Draft] | None: ...


Rule = Callable[[Draft, Makers], Sequence[Rewrite]]


def contiguous(spec: TensorSpec) -> bool:
    """Whether a tensor lies row by row, without gaps, from the start of its storage."""
    step = 1
    for size, stride in zip(reversed(spec.size), reversed(spec.stride), strict=True):
        if size != 1 and stride != step:
            return False
        step *= size
    return spec.offset == 0 and step > 0


def rows_in_chunk(spec: TensorSpec) -> int:
    """Rows (of the last dimension) that a piece has."""
    return max(1, CHUNK_BYTES // (spec.size[-1] * spec.dtype.itemsize))


def _over_last(spec: Any, dimension: int) -> bool:
    good = isinstance(spec, TensorSpec) and len(spec.size) > 0 and contiguous(spec)
    return good and dimension % len(spec.size) == len(spec.size) - 1


def _softmax(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    values, dimension, half_to_float = draft.args
    if half_to_float or not _over_last(values, dimension):
        return ()
    log = draft.kind == str(_aten._log_softmax.default)
    function = row_chunks.log_softmax_ if log else row_chunks.softmax_
    return (Rewrite(function=function, args=(values, rows_in_chunk(values)), target=values),)


def _softmax_backward(draft: Draft, makers: Makers) -> Sequence[Rewrite]:
    gradient, output, dimension, dtype = draft.args
    if not (_over_last(gradient, dimension) and _over_last(output, dimension)):
        return ()
    if not gradient.dtype == output.dtype == dtype:
        return ()
    log = draft.kind == str(_aten._log_softmax_backward_data.default)
    function = row_chunks.log_softmax_backward_ if log else row_chunks.softmax_backward_
    plain = Rewrite(
        function=function, args=(gradient, output, rows_in_chunk(gradient)), target=gradient
    )
    return (*_cross_entropy_backward(gradient, output, makers), plain) if log else (plain,)


def _cross_entropy_backward(
    gradient: TensorSpec, output: TensorSpec, makers: Makers
) -> Sequence[Rewrite]:
    """nll_loss_backward and _log_softmax_backward_data as one op."""
    made = makers(gradient.storage)
    if made is None or made[1].kind != str(_aten.nll_loss_backward.default):
        return ()
    position, loss = made
    of_loss, values, target, weight, reduction, ignore_index, total_weight = loss.args
    if values != output or len(values.size) != 2 or not contiguous(target):
        return ()
    if not contiguous(of_loss) or loss.kwargs:
        return ()
    rewrite = Rewrite(
        function=row_chunks.cross_entropy_backward_,
        args=(
            values,
            of_loss,
            target,
            weight,
            reduction,
            ignore_index,
            total_weight,
            rows_in_chunk(values),
        ),
        target=values,
        absorbs=(position,),
        integers={target.storage: Integers(below=values.size[1], also=ignore_index)},
    )
    return (rewrite,)


def _dropout(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    values, rate = draft.args[:2]
    if len(draft.args) != 2 or rate == 1.0 or not contiguous(values):
        return ()  # in evaluation, or nothing is drawn
    length = CHUNK_BYTES // values.dtype.itemsize
    return (
        Rewrite(function=row_chunks.dropout_, args=(values, rate, length), target=values),
        Rewrite(function=row_chunks.dropout_by_pieces, args=(values, rate, length)),
    )


def _dropout_backward(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    gradient, mask, rate = draft.args
    if not (contiguous(gradient) and contiguous(mask)) or gradient.size != mask.size:
        return ()
    args = (gradient, mask, rate, CHUNK_BYTES // gradient.dtype.itemsize)
    return (Rewrite(function=row_chunks.dropout_backward_, args=args, target=gradient),)


def _batch_norm_backward(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    gradient, values = draft.args[:2]
    if not (contiguous(gradient) and contiguous(values)) or not draft.args[9][0]:
        return ()
    of_channel = torch.Size(values.size).numel() // values.size[1] * values.dtype.itemsize
    args = (*draft.args, max(1, CHUNK_BYTES // of_channel))
    return (Rewrite(function=map_chunks.batch_norm_backward_, args=args, target=gradient),)


def _max_pool_backward(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    gradient, values, *form, indices = draft.args
    alike = all(contiguous(spec) for spec in (gradient, values, indices))
    if not alike or len(values.size) != 4 or gradient.dtype != values.dtype:
        return ()
    of_image = torch.Size(values.size).numel() // values.size[0] * values.dtype.itemsize
    images = max(1, CHUNK_BYTES // of_image)
    args = (gradient, list(values.size), *form, indices, images)
    return (Rewrite(function=map_chunks.max_pool_backward, args=args),)


def _added_embedding(draft: Draft, makers: Makers) -> Sequence[Rewrite]:
    """The gradient of an embedding, added to one that is there, without its rows of zeros."""
    total, rows = draft.args
    made = makers(rows.storage) if isinstance(rows, TensorSpec) and not draft.kwargs else None
    if made is None or made[1].kind != str(_aten.embedding_dense_backward.default):
        return ()
    position, embedding = made
    gradient, indices, words, padding_index, by_frequency = embedding.args
    if by_frequency or not contiguous(total) or total.size != rows.size:
        return ()
    rewrite = Rewrite(
        function=row_chunks.embedding_rows_added_,
        args=(total, gradient, indices, padding_index, 0),
        absorbs=(position,),
        integers={indices.storage: Integers(below=words)},
    )
    return (rewrite,)


def _elementwise(operator: torch._ops.OpOverload, name: str) -> Rule:
    """The operator's variant that writes into a given tensor, given one of its operands."""

    def rule(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
        operands = dict.fromkeys(spec for spec in specs_in(draft.args) if contiguous(spec))
        return [
            Rewrite(
                function=operator,
                args=draft.args,
                kwargs={**draft.kwargs, name: operand},
                target=operand,
            )
            for operand in operands
        ]

    return rule


def _relu(draft: Draft, _makers: Makers) -> Sequence[Rewrite]:
    """relu.out makes a copy inside; relu_ does not."""
    (values,) = draft.args
    fits = contiguous(values)
    return (Rewrite(function=_aten.relu_.default, args=(values,), target=values),) if fits else ()


_OUT = (
    _aten.gelu, _aten.silu, _aten.tanh, _aten.sigmoid, _aten.add, _aten.sub, _aten.mul, _aten.div,
)  # fmt: skip
_GRADIENT = (
    _aten.threshold_backward, _aten.gelu_backward, _aten.silu_backward, _aten.tanh_backward,
    _aten.sigmoid_backward,
)  # fmt: skip


def _functional(packet: Any) -> str:
    return str(packet.Tensor if "Tensor" in packet.overloads() else packet.default)


RULES: dict[str, Rule] = {
    str(_aten._softmax.default): _softmax,
    str(_aten._log_softmax.default): _softmax,
    str(_aten._softmax_backward_data.default): _softmax_backward,
    str(_aten._log_softmax_backward_data.default): _softmax_backward,
    str(_aten.native_dropout.default): _dropout,
    str(_aten.native_dropout_backward.default): _dropout_backward,
    str(_aten.native_batch_norm_backward.default): _batch_norm_backward,
    str(_aten.max_pool2d_with_indices_backward.default): _max_pool_backward,
    str(_aten.add_.Tensor): _added_embedding,
    str(_aten.relu.default): _relu,
    **{_functional(packet): _elementwise(packet.out, "out") for packet in _OUT},
    **{_functional(packet): _elementwise(packet.grad_input, "grad_input") for packet in _GRADIENT},
}
"""By the kind of the op."""
