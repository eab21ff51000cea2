"""Finds a vocabulary head and its cross-entropy among the drafts, forward and backward.

    linear    addmm(bias, hidden, weight') or mm(hidden, weight')   -> logits
    softmax   _log_softmax(logits)                                  -> log-probabilities
    loss      nll_loss_forward                                      -> loss, total weight
    picking   nll_loss_backward                                     -> its gradient, mostly zeros
    backward  _log_softmax_backward_data                            -> gradient of the logits
    to_hidden mm(gradient, weight)         to_weight mm(gradient', hidden)
    to_bias   sum(gradient, rows), if there is a bias that trains

Invariant: a Head that is found has its four (tokens x vocabulary) tensors to itself, and what its
ops read does not change on the way to where the tiled ones will stand: at the loss, or at the
backward.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from poet_runtime.program import TensorSpec
from poet_runtime.splitting.rules import contiguous
from poet_runtime.splitting.uses import Uses
from poet_runtime.tracing.drafts import Draft

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """Positions of the drafts (see above)."""

    linear: int
    softmax: int
    loss: int
    picking: int
    backward: int
    to_hidden: int
    to_weight: int
    to_bias: int | None

    @property
    def positions(self) -> tuple[int, ...]:
        """All of them, in document order."""
        found = (
            self.linear, self.softmax, self.loss, self.picking, self.backward, self.to_hidden,
            self.to_weight, self.to_bias,
        )  # fmt: skip
        return tuple(sorted(at for at in found if at is not None))


def heads(drafts: Sequence[Draft], uses: Uses, kept: Collection[int]) -> Iterator[Head]:
    """Every head among the drafts."""
    for at, draft in enumerate(drafts):
        if draft.kind == str(_aten._log_softmax_backward_data.default):
            head = _head(drafts, uses, at)
            if head is not None and _alone(drafts, uses, kept, head):
                yield head


def _head(drafts: Sequence[Draft], uses: Uses, backward: int) -> Head | None:
    """The head whose softmax's gradient is at `backward`, by the kinds of its drafts."""
    gradient, output, dimension, _ = drafts[backward].args
    if dimension % len(output.size) != 1 or len(output.size) != 2:
        return None
    picking, softmax = uses.of(gradient.storage)[0], uses.of(output.storage)[0]
    if not _are(drafts, {picking: _aten.nll_loss_backward, softmax: _aten._log_softmax}):
        return None
    linear = uses.of(drafts[softmax].args[0].storage)[0]
    readers = [at for at in uses.of(output.storage) if at not in (softmax, picking, backward)]
    result = drafts[backward].outputs[0]
    if len(readers) != 1 or result is None:
        return None
    found: dict[str, int] = {}
    for at in uses.of(result.storage):
        if at != backward:
            found[_use(drafts[at], result)] = at
    if not {"to_hidden", "to_weight"} <= set(found) <= {"to_hidden", "to_weight", "to_bias"}:
        return None
    head = Head(
        linear=linear, softmax=softmax, loss=readers[0], picking=picking, backward=backward,
        to_hidden=found["to_hidden"], to_weight=found["to_weight"], to_bias=found.get("to_bias"),
    )  # fmt: skip
    return head if _as_expected(drafts, head) else None


def _use(draft: Draft, gradient: TensorSpec) -> str:
    """What a draft makes of the gradient of the logits; empty for anything else."""
    rows, columns = gradient.size
    transposed = replace(gradient, size=(columns, rows), stride=(1, columns))
    if draft.kwargs or draft.mutates or draft.outputs[0] is None:
        return ""
    if draft.kind == str(_aten.mm.default) and contiguous(draft.outputs[0]):
        if draft.args[0] == gradient and draft.args[1].storage != gradient.storage:
            return "to_hidden"
        if draft.args[0] == transposed and draft.args[1].storage != gradient.storage:
            return "to_weight"
    summed = draft.kind == str(_aten.sum.dim_IntList) and draft.args == (gradient, [0], True)
    return "to_bias" if summed and contiguous(draft.outputs[0]) else ""


def _are(drafts: Sequence[Draft], kinds: dict[int, Any]) -> bool:
    return all(
        drafts[at].kind == str(packet.default) and not drafts[at].kwargs
        for at, packet in kinds.items()
    )


def _as_expected(drafts: Sequence[Draft], head: Head) -> bool:
    """Kinds, arguments and layouts of the head's drafts."""
    linear, softmax, loss = drafts[head.linear], drafts[head.softmax], drafts[head.loss]
    picking = drafts[head.picking]
    if not _are(drafts, {head.loss: _aten.nll_loss_forward}) or linear.kwargs:
        return False
    if linear.kind not in (str(_aten.mm.default), str(_aten.addmm.default)):
        return False
    logits, output = linear.outputs[0], softmax.outputs[0]
    if logits is None or output is None or softmax.args not in ((logits, 1, False), (logits, -1, False)):  # fmt: skip
        return False
    _, target, weight, reduction, ignore_index = loss.args
    if weight is not None or loss.args[0] != output or not contiguous(target):
        return False
    if picking.args[1:6] != (output, target, None, reduction, ignore_index):
        return False
    big = (logits, output, picking.outputs[0], drafts[head.backward].outputs[0])
    return all(spec is not None and contiguous(spec) and spec.dtype == logits.dtype for spec in big)


def _alone(drafts: Sequence[Draft], uses: Uses, kept: Collection[int], head: Head) -> bool:
    """Whether nothing else uses the large tensors, or changes what the head reads meanwhile."""
    large = [drafts[at].outputs[0] for at in (head.linear, head.softmax, head.picking, head.backward)]  # fmt: skip
    for spec in large:
        assert spec is not None, "as expected"
        if spec.storage in kept or not set(uses.of(spec.storage)) <= set(head.positions):
            return False
    own = {spec.storage for spec in large if spec is not None}
    # Where each draft's operands are read, and where they will be.
    moves = {at: (at, head.loss) for at in (head.linear, head.softmax)}
    moves[head.picking] = (head.picking, head.backward)
    for at in (head.to_hidden, head.to_weight, head.to_bias):
        if at is not None:
            moves[at] = (head.backward, at)
    return not any(
        uses.changed_within(storage, begin, end)
        for at, (begin, end) in moves.items()
        for storage in drafts[at].operands
        if storage not in own
    )
