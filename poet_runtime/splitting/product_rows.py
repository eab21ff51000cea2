"""A weight's gradient in row pieces, where its updates come in row chunks.

    mm -> X -> update of rows, one by one
    mm.0 -> X.0 -> update.0, mm.1 -> X.1 -> update.1, ...

Each piece is made right before its update, so the gradient is never whole, and while one piece is
used the moments of the next rows may come from flash. Stands after the heads, which cut the products
that they own. Invariant: what is cut has the same bits on random data of the true shapes, and its
operands are what they were where the whole was made.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from poet_core.graph import Role
from poet_runtime.program import TensorSpec
from poet_runtime.splitting.exactness import Exactness
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.rules import contiguous
from poet_runtime.splitting.uses import Uses
from poet_runtime.splitting.weight_rows import WeightUsers, by_rows, weight_users
from poet_runtime.tracing.drafts import Block, Draft

_PRODUCT = str(torch.ops.aten.mm.default)


def cut_products(
    drafts: Sequence[Draft], blocks: list[Block], kept: Collection[int]
) -> tuple[list[Draft], tuple[SplitNote, ...]]:
    """The drafts, products that only updates of rows use cut like these. Appends storages to
    `blocks`."""
    slots: dict[int, tuple[Draft, ...]] = {}
    notes: list[SplitNote] = []
    uses = Uses(drafts)
    for at, draft in enumerate(drafts):
        whole = draft.outputs[0] if draft.kind == _PRODUCT else None
        users = None if whole is None else _users(drafts, uses, at, kept)
        if whole is None or users is None:
            continue
        known = len(blocks)
        pieces = _pieces(whole, users, blocks)
        made = _products(draft, pieces, users)
        note = _note(draft, made, blocks)
        if _same_bits(draft, made, blocks):
            updates = by_rows(drafts, users, pieces, whole)
            slots[at] = ()
            for product, (position, _, _) in zip(made, users.updates, strict=True):
                slots[position] = (product, *updates[position])
        else:
            del blocks[known:]
            why_not = "in row pieces it gives other bits here"
            note = replace(note, bytes_after=note.bytes_before, rule="", why_not=why_not)
        notes.append(note)
    return [draft for at, one in enumerate(drafts) for draft in slots.get(at, (one,))], tuple(notes)


def _users(
    drafts: Sequence[Draft], uses: Uses, at: int, kept: Collection[int]
) -> WeightUsers | None:
    """The updates of the product at `at`, if it can be made where they stand."""
    draft = drafts[at]
    (whole,) = draft.outputs
    left = draft.args[0]
    assert whole is not None, "as a product has it"
    plain = contiguous(whole) and len(whole.size) == 2 and isinstance(left, TensorSpec)
    if not plain or whole.storage in kept or draft.kwargs or draft.random or draft.mutates:
        return None
    users = weight_users(drafts, uses, at)
    if users is None or users.additions:
        return None
    last = max(position for position, _, _ in users.updates)
    if any(uses.changed_within(operand, at, last) for operand in draft.operands):
        return None
    return users


def _pieces(whole: TensorSpec, users: WeightUsers, blocks: list[Block]) -> list[TensorSpec]:
    name = blocks[whole.storage].name
    pieces: list[TensorSpec] = []
    for number, (_, count) in enumerate(users.rows):
        size_bytes = count * whole.size[1] * whole.dtype.itemsize
        blocks.append(Block(name=f"{name}.{number}", size_bytes=size_bytes, role=Role.GRADIENT))
        pieces.append(replace(whole, storage=len(blocks) - 1, size=(count, whole.size[1])))
    return pieces


def _products(draft: Draft, pieces: Sequence[TensorSpec], users: WeightUsers) -> tuple[Draft, ...]:
    """One product for each piece: rows of the left operand by all of the right one."""
    left, right = draft.args
    rows = left.size[0]
    return tuple(
        replace(
            draft,
            name=f"{draft.name}.{number}",
            args=(
                replace(
                    left, size=(count, *left.size[1:]), offset=left.offset + begin * left.stride[0]
                ),
                right,
            ),
            outputs=(piece,),
            flops=draft.flops * count // rows,
        )
        for number, (piece, (begin, count)) in enumerate(zip(pieces, users.rows, strict=True))
    )


def _same_bits(draft: Draft, made: Sequence[Draft], blocks: Sequence[Block]) -> bool:
    (whole,) = draft.writes
    pieces = tuple(storage for product in made for storage in product.writes)
    sizes = [block.size_bytes for block in blocks]
    return Exactness(sizes).same_bits([draft], made, {whole: pieces}, {})


def _note(draft: Draft, made: Sequence[Draft], blocks: Sequence[Block]) -> SplitNote:
    def touched(one: Draft) -> int:
        return sum(blocks[storage].size_bytes for storage in {*one.operands, *one.changes})

    return SplitNote(
        op=draft.name, kind=draft.kind, bytes_before=touched(draft),
        bytes_after=max(map(touched, made)), rule="poet.product_rows",
    )  # fmt: skip
