"""The pass for vocabulary heads: found, put on tiles, compared bit for bit, taken or left.

Requires and ensures what `split_pass` does; stands before it, because a head on tiles leaves it
nothing to put in place.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from poet_runtime.drafts import Block, Draft
from poet_runtime.measure import Measurer
from poet_runtime.splitting.exactness import Exactness, Integers
from poet_runtime.splitting.head import Head, heads
from poet_runtime.splitting.head_drafts import TiledHead, tiled
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.uses import Uses

TILE_BYTES = 32 * 2**20
"""Of the logits: small beside the weight that each piece is multiplied with, which is read again
for each."""

_RANGE = 0.5
"""Operands in [-0.5, 0.5) make logits whose softmax is neither flat nor a single one."""


def tile_heads(
    drafts: Sequence[Draft], blocks: list[Block], kept: Collection[int], above_bytes: int
) -> tuple[list[Draft], tuple[SplitNote, ...]]:
    """The drafts, heads whose matrix products need more than `above_bytes` on tiles."""
    slots: list[tuple[Draft, ...]] = [(draft,) for draft in drafts]
    notes: list[SplitNote] = []
    for head in heads(drafts, Uses(drafts), kept):
        originals = [drafts[at] for at in head.positions]
        products = [drafts[at] for at in (head.linear, head.to_hidden, head.to_weight)]
        if max(_touched(draft, blocks) for draft in products) <= above_bytes:
            continue
        known = len(blocks)
        found = tiled(drafts, head, blocks, TILE_BYTES)
        note = _note(originals, found, blocks, _same_bits(drafts, head, found, blocks))
        notes.append(note)
        if found is None or not note.rule:
            del blocks[known:]
            continue
        for at in head.positions:
            slots[at] = ()
        slots[head.loss] = found.forward
        slots[head.backward] = found.backward
    return [draft for slot in slots for draft in slot], tuple(notes)


def _touched(draft: Draft, blocks: Sequence[Block]) -> int:
    return sum(blocks[storage].size_bytes for storage in {*draft.operands, *draft.changes})


def _same_bits(
    drafts: Sequence[Draft], head: Head, found: TiledHead | None, blocks: Sequence[Block]
) -> bool:
    if found is None:
        return False
    _, target, _, _, ignore_index = drafts[head.loss].args
    logits = drafts[head.linear].outputs[0]
    assert logits is not None
    left = [head.loss, head.to_hidden, head.to_weight]
    left += [] if head.to_bias is None else [head.to_bias]
    results = {storage: storage for at in left for storage in drafts[at].writes}
    return Exactness([block.size_bytes for block in blocks], range_of_floats=_RANGE).same_bits(
        [drafts[at] for at in head.positions],
        [*found.forward, *found.backward],
        results,
        {target.storage: Integers(below=logits.size[1], also=ignore_index)},
    )


def _note(
    originals: Sequence[Draft], found: TiledHead | None, blocks: Sequence[Block], same: bool
) -> SplitNote:
    before_bytes = max(_touched(draft, blocks) for draft in originals)
    why_not, after_bytes = "", before_bytes
    if found is None:
        why_not = "one tile is all of it"
    elif not same:
        why_not = "on tiles it gives other bits here"
    else:
        measurer = Measurer([block.size_bytes for block in blocks])
        after_bytes = max(
            _touched(draft, blocks) + measurer.measure(draft).workspace_bytes
            for draft in (*found.forward, *found.backward)
        )
    return SplitNote(
        op=originals[0].name,
        kind=originals[0].kind,
        bytes_before=before_bytes,
        bytes_after=after_bytes,
        rule="" if why_not else "poet.tiled_head",
        why_not=why_not,
    )
