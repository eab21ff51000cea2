"""Three passes over drafts: drop what nobody needs, add gradients in place, lay gradients out.

Each takes drafts in document order and ensures that they still are, with the same bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch

from poet_core.graph import Phase, Role
from poet_runtime.program import TensorSpec
from poet_runtime.tracing.drafts import Block, Draft


def pruned(drafts: Sequence[Draft], blocks: Sequence[Block], wanted: Iterable[int]) -> list[Draft]:
    """The drafts that the wanted storages need, their unused outputs dropped.

    Random ops stay, wanted or not: they move the generator as they do in eager PyTorch.
    """
    needed = set(wanted)
    kept: list[Draft] = []
    for draft in reversed(drafts):
        if not draft.random and needed.isdisjoint(draft.changes):
            continue
        unused = [s for s in draft.writes if s not in needed]
        kept.append(
            replace(
                draft,
                outputs=tuple(
                    None if spec is None or spec.storage in unused else spec
                    for spec in draft.outputs
                ),
                unused_bytes=sum(blocks[storage].size_bytes for storage in unused),
            )
        )
        needed.update(draft.operands)
    kept.reverse()
    return kept


def accumulated_in_place(
    drafts: Sequence[Draft], blocks: Sequence[Block], gradients: dict[str, TensorSpec]
) -> tuple[list[Draft], dict[str, TensorSpec]]:
    """Sums of contributions to one parameter's gradient become mutations of the first.

    A tied or repeatedly used weight then costs two gradients at a time, not three. `a + b` and
    `b + a` are the same bits, so either may be the one that is added to. Returns the drafts and the
    gradients, whose storages can change.
    """
    sums = _gradient_sums(drafts, {spec.storage for spec in gradients.values()})
    last_reader = {s: at for at, draft in enumerate(drafts) for s in draft.operands}
    held = {spec.storage for spec in gradients.values()}
    moved: dict[int, int] = {}
    result: list[Draft] = []
    for at, original in enumerate(drafts):
        draft = original.renumbered(moved)
        target = None
        if at in sums:
            free = [
                now
                for before, now in zip(original.args, draft.args, strict=True)
                if last_reader[before.storage] == at and before.storage not in held
            ]
            target = next((spec for spec in free if _fits(spec, draft, blocks)), None)
        if target is None:
            result.append(draft)
            continue
        (total,) = original.outputs
        assert total is not None
        moved[total.storage] = target.storage
        other = draft.args[1] if draft.args[0] == target else draft.args[0]
        op = torch.ops.aten.add_.Tensor
        result.append(
            replace(draft, kind=str(op), function=op, args=(target, other), outputs=(),
                    mutates=(target.storage,))
        )  # fmt: skip
    found = {
        name: replace(spec, storage=moved.get(spec.storage, spec.storage))
        for name, spec in gradients.items()
    }
    return result, found


def laid_out(
    drafts: Sequence[Draft],
    blocks: list[Block],
    gradients: dict[str, TensorSpec],
    parameters: dict[str, TensorSpec],
) -> tuple[list[Draft], dict[str, TensorSpec]]:
    """Copies of the gradients that do not lie as their parameters do, as autograd makes them.

    AccumulateGrad keeps a gradient that "obeys the layout contract" and copies any other. Appends
    the copies' storages to `blocks`; returns the drafts and the gradients that the updates take.
    """
    changed_at = {storage: at for at, draft in enumerate(drafts) for storage in draft.changes}
    copies: dict[int, list[Draft]] = {}
    result: dict[str, TensorSpec] = {}
    for name, gradient in gradients.items():
        parameter = parameters[name]
        if blocks[gradient.storage].transient and same_layout(gradient, parameter):
            result[name] = gradient
            continue
        size_bytes = blocks[parameter.storage].size_bytes
        blocks.append(Block(name=f"{name}.grad", size_bytes=size_bytes, role=Role.GRADIENT))
        copy = replace(parameter, storage=len(blocks) - 1, dtype=gradient.dtype)
        draft = Draft(
            name=f"{name}.grad_layout",
            kind="poet.grad_layout",
            phase=Phase.BACKWARD,
            module=name.rpartition(".")[0],
            function=copied_to_layout,
            args=(gradient, list(copy.size), list(copy.stride)),
            outputs=(copy,),
        )
        last = len(drafts) - 1
        copies.setdefault(changed_at.get(gradient.storage, last), []).append(draft)
        result[name] = copy
    ordered: list[Draft] = []
    for at, original in enumerate(drafts):
        ordered += [original, *copies.get(at, ())]
    return ordered, result


def copied_to_layout(tensor: torch.Tensor, size: list[int], stride: list[int]) -> torch.Tensor:
    """A copy of `tensor` with the given strides."""
    copy = torch.empty_strided(size, stride, dtype=tensor.dtype, device=tensor.device)
    return copy.copy_(tensor)


def same_layout(one: TensorSpec, other: TensorSpec) -> bool:
    """Whether two specs of one size have the same strides; a dimension of size 1 has none."""
    pairs = zip(one.size, one.stride, other.stride, strict=True)
    return one.size == other.size and all(a == b for size, a, b in pairs if size != 1)


def _gradient_sums(drafts: Sequence[Draft], gradients: set[int]) -> set[int]:
    """Positions of the additions that lead to a gradient through additions and views only."""
    wanted, found = set(gradients), set()
    for at in range(len(drafts) - 1, -1, -1):
        draft = drafts[at]
        if wanted.isdisjoint(draft.writes) or draft.kind != "aten.add.Tensor" or draft.kwargs:
            continue
        if len(draft.args) == 2 and all(isinstance(arg, TensorSpec) for arg in draft.args):
            found.add(at)
            wanted.update(draft.operands)
    return found


def _fits(spec: TensorSpec, draft: Draft, blocks: Sequence[Block]) -> bool:
    """Whether the sum can take the place of this operand, with every view of it still true."""
    (total,) = draft.outputs
    assert total is not None
    alone = len(draft.operands) == 2 and spec.offset == total.offset == 0
    same = spec.dtype == total.dtype and spec.size == total.size and spec.stride == total.stride
    size = blocks[spec.storage].size_bytes
    return alone and same and blocks[spec.storage].transient and size == blocks[total.storage].size_bytes  # fmt: skip
