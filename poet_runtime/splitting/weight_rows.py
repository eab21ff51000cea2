"""A head's weight gradient in row pieces, where its updates come in row chunks.

    head (tiles) -> X -> + embedding's gradient, if tied -> update of rows, one by one
    head (tiles) -> X.0, X.1, ..  each: + its rows of the embedding's gradient -> its update

Each piece is a storage: it waits on flash by itself, and its update needs no other. Invariant: the
pieces are the rows of the updates, and everything that used the whole uses pieces.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from poet_core.graph import Phase
from poet_runtime.program import TensorSpec
from poet_runtime.splitting import row_chunks
from poet_runtime.splitting.rules import contiguous
from poet_runtime.splitting.uses import Uses
from poet_runtime.tracing.drafts import Draft, map_specs, specs_in

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightUsers:
    """Positions of what uses a head's weight gradient. `additions`: embedding's gradient and its
    addition; `updates`: with the first row and the number of rows of each, in the order of rows."""

    additions: tuple[tuple[int, int], ...]
    updates: tuple[tuple[int, int, int], ...]

    @property
    def rows(self) -> tuple[tuple[int, int], ...]:
        """First row and number of rows of each piece."""
        return tuple((begin, count) for _, begin, count in self.updates)


def weight_users(drafts: Sequence[Draft], uses: Uses, to_weight: int) -> WeightUsers | None:
    """What uses the weight gradient that the draft at `to_weight` makes, if it can all be done by
    rows."""
    whole = drafts[to_weight].outputs[0]
    assert whole is not None, "as a product has it"
    additions: list[tuple[int, int]] = []
    updates: list[tuple[int, int, int]] = []
    for at in uses.of(whole.storage):
        if at == to_weight:
            continue
        rows = _updated_rows(drafts[at], whole)
        source = None if rows else _embedding(drafts, uses, at, whole)
        if rows:
            updates.append((at, *rows))
        elif source is not None and not updates:
            additions.append((source, at))
        else:
            return None
    updates.sort(key=lambda update: update[1])
    ends = [0, *(begin + count for _, begin, count in updates)]
    if len(updates) < 2 or [begin for _, begin, _ in updates] != ends[:-1] or ends[-1] != whole.size[0]:  # fmt: skip
        return None
    last = max(at for at, _, _ in updates)
    read = {(at, storage) for at, _ in additions for storage in drafts[at].operands}
    if any(uses.changed_within(storage, at, last) for at, storage in read):
        return None
    return WeightUsers(additions=tuple(additions), updates=tuple(updates))


def _updated_rows(draft: Draft, whole: TensorSpec) -> tuple[int, int] | None:
    """First row and number of rows that an update works on."""
    found = [spec for spec in specs_in((draft.args, draft.kwargs)) if spec.storage == whole.storage]
    if draft.phase is not Phase.UPDATE or draft.outputs or len(found) != 1:
        return None
    (spec,) = found
    width = whole.size[1]
    if spec.size[1:] != (width,) or spec.stride != (width, 1) or spec.offset % width:
        return None
    return spec.offset // width, spec.size[0]


def _embedding(drafts: Sequence[Draft], uses: Uses, at: int, whole: TensorSpec) -> int | None:
    """Position of the embedding's gradient that the draft at `at` adds to the whole."""
    draft = drafts[at]
    if draft.kind != str(_aten.add_.Tensor) or draft.kwargs or draft.args[0] != whole:
        return None
    dense = draft.args[1]
    if not isinstance(dense, TensorSpec) or dense.size != whole.size:
        return None
    source = uses.of(dense.storage)[0]
    made_here = list(uses.of(dense.storage)) == [source, at]
    kind, by_frequency = drafts[source].kind, drafts[source].args[4:5] == (True,)
    if not made_here or by_frequency or kind != str(_aten.embedding_dense_backward.default):
        return None
    return source if contiguous(dense) else None


def by_rows(
    drafts: Sequence[Draft], users: WeightUsers, pieces: Sequence[TensorSpec], whole: TensorSpec
) -> dict[int, tuple[Draft, ...]]:
    """What stands at the positions of the users, by position."""
    slots: dict[int, tuple[Draft, ...]] = {at: () for pair in users.additions for at in pair}
    for piece, (at, begin, _) in zip(pieces, users.updates, strict=True):
        added = tuple(added_to_piece(drafts, pair, piece, begin) for pair in users.additions)
        slots[at] = (*added, _on_piece(drafts[at], whole, piece))
    return slots


def added_to_piece(
    drafts: Sequence[Draft], pair: tuple[int, int], piece: TensorSpec, begin: int
) -> Draft:
    """The addition of an embedding's gradient to the rows from `begin` on."""
    embedding, addition = drafts[pair[0]], drafts[pair[1]]
    gradient, indices, _, padding_index, _ = embedding.args
    function = row_chunks.embedding_rows_added_
    return replace(
        addition,
        name=f"{addition.name}.{begin}",
        kind=f"poet.{function.__name__}",
        function=function,
        args=(piece, gradient, indices, padding_index, begin),
        mutates=(piece.storage,),
        flops=torch.Size(piece.size).numel(),
    )


def cut(whole: TensorSpec, pieces: Sequence[TensorSpec]) -> Draft:
    """The pieces as rows of the whole: where the two are compared."""
    return Draft(
        name="cut", kind="poet.cut_rows", phase=Phase.BACKWARD, function=cut_rows,
        args=(whole, [piece.size[0] for piece in pieces]), outputs=tuple(pieces),
    )  # fmt: skip


def cut_rows(whole: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
    """Copies of so many rows each."""
    return tuple(piece.clone() for piece in torch.split(whole, counts))


def _on_piece(update: Draft, whole: TensorSpec, piece: TensorSpec) -> Draft:
    def moved(spec: TensorSpec) -> Any:
        return replace(piece, dtype=spec.dtype) if spec.storage == whole.storage else spec

    return replace(
        update,
        args=map_specs(moved, update.args),
        kwargs=map_specs(moved, dict(update.kwargs)),
        mutates=tuple(
            piece.storage if storage == whole.storage else storage for storage in update.mutates
        ),
    )
