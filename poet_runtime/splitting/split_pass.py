"""The tracer's pass: ops above a limit are put in the place of an operand that dies, or cut.

    an op above the limit  ->  what its rule proposes  ->  may the operand be overwritten?
                           ->  does it need less?      ->  are the bits the same?  ->  taken

Requires all drafts of the step in document order, updates and write-backs in their places; ensures
that they still are, that every storage which outlives the step is the one it was, and that each op
leaves the same bits.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch

from poet_runtime.program import TensorSpec
from poet_runtime.splitting.exactness import Exactness
from poet_runtime.splitting.head_pass import tile_heads
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.product_rows import cut_products
from poet_runtime.splitting.rules import RULES, Rewrite, contiguous
from poet_runtime.splitting.uses import Uses
from poet_runtime.tracing.drafts import Block, Draft, specs_in
from poet_runtime.tracing.measure import Measurer


def split_ops(
    drafts: Sequence[Draft], blocks: list[Block], kept: Collection[int], above_bytes: int
) -> tuple[list[Draft], tuple[SplitNote, ...]]:
    """The drafts, those that need more than `above_bytes` at once rewritten where that is exact.

    `kept`: transient storages that are read after the step. Runs each distinct op that it rewrites,
    and its rewrite, on random data. Appends storages to `blocks`."""
    tiled, of_heads = tile_heads(drafts, blocks, kept, above_bytes)
    cut, of_products = cut_products(tiled, blocks, kept)
    rewritten, notes = _Splitting(cut, blocks, kept, above_bytes).run()
    return rewritten, of_heads + of_products + notes


class _Splitting:
    """One walk over the document. `_slots[at]` is what stands where draft `at` stood, `_moved`
    storages that now are others."""

    def __init__(
        self,
        drafts: Sequence[Draft],
        blocks: Sequence[Block],
        kept: Collection[int],
        above_bytes: int,
    ) -> None:
        self._drafts = drafts
        self._blocks = blocks
        self._kept = kept
        self._above_bytes = above_bytes
        sizes = [block.size_bytes for block in blocks]
        self._sizes = sizes
        self._measurer = Measurer(sizes)
        self._exactness = Exactness(sizes)
        self._uses = Uses(drafts)
        self._slots: list[Draft | None] = []
        self._moved: dict[int, int] = {}
        self._notes: dict[int, SplitNote] = {}

    def run(self) -> tuple[list[Draft], tuple[SplitNote, ...]]:
        for at, original in enumerate(self._drafts):
            draft = original.renumbered(self._moved) if self._moved else original
            self._slots.append(draft)
            before_bytes = self._need(draft)
            if before_bytes > self._above_bytes:
                self._notes[at] = self._split(at, draft, before_bytes)
        notes = tuple(self._notes[at] for at in sorted(self._notes))
        return [draft for draft in self._slots if draft is not None], notes

    def _need(self, draft: Draft) -> int:
        """Bytes at once; workspace is measured where a rule could do something about it."""
        touched = self._touched(draft) + draft.unused_bytes
        if touched > self._above_bytes or draft.kind not in RULES:
            return touched
        return self._touched(draft) + self._measurer.measure(draft).workspace_bytes

    def _touched(self, draft: Draft) -> int:
        return sum(self._sizes[storage] for storage in {*draft.operands, *draft.changes})

    def _split(self, at: int, draft: Draft, before_bytes: int) -> SplitNote:
        note = SplitNote(
            op=draft.name, kind=draft.kind, bytes_before=before_bytes, bytes_after=before_bytes
        )
        rule = RULES.get(draft.kind)
        if rule is None:
            return replace(note, why_not="no rule for this kind of op")
        whole_bytes = self._touched(draft) + self._measurer.measure(draft).workspace_bytes
        note = replace(note, bytes_before=whole_bytes, bytes_after=whole_bytes)
        why_not = "no rule for this layout, dimension or type"
        for rewrite in rule(draft, lambda storage: self._maker(storage, at)):
            why_not = self._obstacle(at, draft, rewrite)
            if why_not:
                continue
            rewritten = self._rewritten(draft, rewrite)
            workspace_bytes = self._measurer.measure(rewritten).workspace_bytes
            after_bytes = self._touched(rewritten) + workspace_bytes
            if after_bytes >= whole_bytes:
                why_not = "in pieces it needs no less"
            elif not self._same_bits(draft, rewritten, rewrite):
                why_not = "in pieces it gives other bits here"
            else:
                self._take(at, draft, rewritten, rewrite)
                return replace(note, bytes_after=after_bytes, rule=rewritten.kind)
        return replace(note, why_not=why_not)

    def _maker(self, storage: int, at: int) -> tuple[int, Draft] | None:
        """The draft that made a storage which only `at` uses, if its operands are as they were."""
        position = self._uses.of(storage)[0]
        draft = self._slots[position] if position < at else None
        if draft is None or list(self._uses.of(storage)) != [position, at] or draft.random:
            return None
        if draft.writes != (storage,) or draft.mutates or storage in self._kept:
            return None
        changed = any(self._uses.changed_within(one, position, at) for one in draft.operands)
        return None if changed else (position, draft)

    def _obstacle(self, at: int, draft: Draft, rewrite: Rewrite) -> str:
        """Why the target may not be overwritten; empty where it may."""
        target = rewrite.target
        if target is None:
            return ""
        output = draft.outputs[0]
        if output is None or output.storage in self._kept or output.storage in draft.mutates:
            return "its result is not a tensor of its own"
        if replace(output, storage=target.storage) != target or not self._fills(target):
            return "no operand has the form of the result"
        views = list(specs_in((rewrite.args, rewrite.kwargs)))
        if any(spec.storage == target.storage and spec != target for spec in views):
            return "the operand is given twice"
        if not self._blocks[target.storage].transient or target.storage in self._kept:
            return "the operand outlives the step"
        if self._uses.last(target.storage) != at:
            return "the operand is needed later"
        return ""

    def _fills(self, spec: TensorSpec) -> bool:
        size_bytes = torch.Size(spec.size).numel() * spec.dtype.itemsize
        return contiguous(spec) and size_bytes == self._sizes[spec.storage]

    def _rewritten(self, draft: Draft, rewrite: Rewrite) -> Draft:
        function, target = rewrite.function, rewrite.target
        name = function if isinstance(function, torch._ops.OpOverload) else function.__name__
        absorbed = (self._slots[position] for position in rewrite.absorbs)
        return replace(
            draft,
            kind=str(name) if name is function else f"poet.{name}",
            function=function,
            args=rewrite.args,
            kwargs=rewrite.kwargs,
            outputs=draft.outputs if target is None else draft.outputs[1:],
            mutates=draft.mutates if target is None else (*draft.mutates, target.storage),
            flops=draft.flops + sum(one.flops for one in absorbed if one is not None),
            unused_bytes=0,
        )

    def _same_bits(self, draft: Draft, rewritten: Draft, rewrite: Rewrite) -> bool:
        absorbed = [self._slots[position] for position in rewrite.absorbs]
        before = [one for one in (*absorbed, draft) if one is not None]
        results = {storage: storage for storage in draft.changes}
        if rewrite.target is not None and draft.outputs[0] is not None:
            results[draft.outputs[0].storage] = rewrite.target.storage
        return self._exactness.same_bits(before, [rewritten], results, rewrite.integers)

    def _take(self, at: int, draft: Draft, rewritten: Draft, rewrite: Rewrite) -> None:
        self._slots[at] = rewritten
        for position in rewrite.absorbs:
            self._slots[position] = None
            if position in self._notes:
                self._notes[position] = replace(
                    self._notes[position],
                    rule=f"part of {rewritten.kind}",
                    why_not="",
                    bytes_after=0,
                )
        if rewrite.target is not None and draft.outputs[0] is not None:
            gone = draft.outputs[0].storage
            self._moved[gone] = rewrite.target.storage
            self._uses.join(gone, rewrite.target.storage)
