"""The pass for vocabulary heads: found, put on tiles, compared bit for bit, taken or left.

Requires and ensures what `split_pass` does; stands before it, because a head on tiles leaves it
nothing to put in place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from poet_runtime.program import TensorSpec
from poet_runtime.splitting.exactness import Exactness, Integers
from poet_runtime.splitting.head import Head, heads
from poet_runtime.splitting.head_drafts import TiledHead, tiled
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.uses import Uses
from poet_runtime.splitting.weight_rows import (
    WeightUsers,
    added_to_piece,
    by_rows,
    cut,
    weight_users,
)
from poet_runtime.tracing.drafts import Block, Draft
from poet_runtime.tracing.measure import Measurer

TILE_BYTES = 32 * 2**20
"""Of the logits: small beside the weight that each piece is multiplied with, which is read again
for each."""

_RANGE = 0.5
"""Operands in [-0.5, 0.5) make logits whose softmax is neither flat nor a single one."""


def tile_heads(
    drafts: Sequence[Draft], blocks: list[Block], kept: Collection[int], above_bytes: int
) -> tuple[list[Draft], tuple[SplitNote, ...]]:
    """The drafts, heads whose matrix products need more than `above_bytes` on tiles.

    Appends storages to `blocks`."""
    slots: dict[int, tuple[Draft, ...]] = {}
    notes: list[SplitNote] = []
    uses = Uses(drafts)
    for head in heads(drafts, uses, kept):
        products = [drafts[at] for at in (head.linear, head.to_hidden, head.to_weight)]
        if max(_touched(draft, blocks) for draft in products) <= above_bytes:
            continue
        users = weight_users(drafts, uses, head.to_weight)
        found = None if users is None else _tried(drafts, head, blocks, users)
        if not isinstance(found, TiledHead):
            users = None
            found = _tried(drafts, head, blocks, None)
        notes.append(_note([drafts[at] for at in head.positions], found, blocks))
        if not isinstance(found, TiledHead):
            continue
        slots |= dict.fromkeys(head.positions, ())
        slots |= {head.loss: found.forward, head.backward: found.backward}
        if users is not None:
            slots |= by_rows(drafts, users, found.of_weight, _whole(drafts, head))
    return [draft for at, one in enumerate(drafts) for draft in slots.get(at, (one,))], tuple(notes)


def _tried(
    drafts: Sequence[Draft], head: Head, blocks: list[Block], users: WeightUsers | None
) -> TiledHead | str:
    """The head on tiles, or why not; then `blocks` is as it was."""
    known = len(blocks)
    found = tiled(drafts, head, blocks, TILE_BYTES, () if users is None else users.rows)
    if found is None:
        why_not = "one tile is all of it"
    elif not _same_bits(drafts, head, found, blocks):
        why_not = "on tiles it gives other bits here"
    elif users is not None and not _same_sums(drafts, users, found, blocks, _whole(drafts, head)):
        why_not = "in row pieces its weight's gradient gets other bits here"
    else:
        return found
    del blocks[known:]
    return why_not


def _whole(drafts: Sequence[Draft], head: Head) -> TensorSpec:
    whole = drafts[head.to_weight].outputs[0]
    assert whole is not None, "as a head has it"
    return whole


def _touched(draft: Draft, blocks: Sequence[Block]) -> int:
    return sum(blocks[storage].size_bytes for storage in {*draft.operands, *draft.changes})


def _same_bits(
    drafts: Sequence[Draft], head: Head, found: TiledHead, blocks: Sequence[Block]
) -> bool:
    """Whether the head leaves the same bits on tiles."""
    _, target, _, _, ignore_index = drafts[head.loss].args
    logits = drafts[head.linear].outputs[0]
    assert logits is not None
    left = [head.loss, head.to_hidden] + ([] if head.to_bias is None else [head.to_bias])
    results: dict[int, int | tuple[int, ...]] = {
        storage: storage for at in left for storage in drafts[at].writes
    }
    results[_whole(drafts, head).storage] = tuple(piece.storage for piece in found.of_weight)
    sizes = [block.size_bytes for block in blocks]
    return Exactness(sizes, range_of_floats=_RANGE).same_bits(
        [drafts[at] for at in head.positions],
        [*found.forward, *found.backward],
        results,
        {target.storage: Integers(below=logits.size[1], also=ignore_index)},
    )


def _same_sums(
    drafts: Sequence[Draft],
    users: WeightUsers,
    found: TiledHead,
    blocks: Sequence[Block],
    whole: TensorSpec,
) -> bool:
    """Whether the additions of embeddings' gradients leave the same bits piece by piece."""
    exactness = Exactness([block.size_bytes for block in blocks])
    pieces = found.of_weight
    for pair in users.additions:
        indices, words = drafts[pair[0]].args[1:3]
        added = [
            added_to_piece(drafts, pair, piece, begin)
            for piece, (begin, _) in zip(pieces, users.rows, strict=True)
        ]
        same = exactness.same_bits(
            [drafts[at] for at in pair],
            [cut(whole, pieces), *added],
            {whole.storage: tuple(piece.storage for piece in pieces)},
            {indices.storage: Integers(below=words)},
        )
        if not same:
            return False
    return True


def _note(originals: Sequence[Draft], found: TiledHead | str, blocks: Sequence[Block]) -> SplitNote:
    before_bytes = max(_touched(draft, blocks) for draft in originals)
    note = SplitNote(
        op=originals[0].name,
        kind=originals[0].kind,
        bytes_before=before_bytes,
        bytes_after=before_bytes,
    )
    if isinstance(found, str):
        return replace(note, why_not=found)
    measurer = Measurer([block.size_bytes for block in blocks])
    after_bytes = max(
        _touched(draft, blocks) + measurer.measure(draft).workspace_bytes
        for draft in (*found.forward, *found.backward)
    )
    return replace(note, bytes_after=after_bytes, rule="poet.tiled_head")
