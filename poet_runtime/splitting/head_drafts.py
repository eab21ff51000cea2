"""The drafts of a vocabulary head on tiles of its logits (see `head_tiles`).

    where the loss was         by rows: linear, log-softmax, the chosen ones; then the loss
    where the backward was     by rows: the logits' gradient in place of the log-probabilities, the
                               rows of the hidden states', tiles cut; then, by columns, the weight's

Rows and columns are storages of their own, so a plan can page each or make it again. Invariant:
what the head leaves (loss, total weight, gradients) lies in the storages that it had, except a
weight's gradient that is asked for in row pieces.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from poet_core.graph import Phase, Role
from poet_runtime.program import TensorSpec
from poet_runtime.splitting import head_tiles, row_chunks, rules
from poet_runtime.splitting.head import Head
from poet_runtime.tracing.drafts import Block, Draft

_aten = torch.ops.aten
_ALIGNMENT = 64
"""Rows and columns of a tile are a multiple of it: kernels take columns in groups of vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledHead:
    """`forward` stands where the loss stood, `backward` where the softmax's gradient did.
    `of_weight`: the weight's gradient, in row pieces or in one."""

    forward: tuple[Draft, ...]
    backward: tuple[Draft, ...]
    of_weight: tuple[TensorSpec, ...]


def tiled(
    drafts: Sequence[Draft],
    head: Head,
    blocks: list[Block],
    tile_bytes: int,
    weight_rows: Sequence[tuple[int, int]] = (),
) -> TiledHead | None:
    """The head on row pieces and column pieces of about `tile_bytes`; None where one piece is all.

    `weight_rows`: first row and number of rows of the pieces of the weight's gradient; where there
    are none it stays whole. Appends storages to `blocks`."""
    return _Tiling(drafts, head, blocks, tile_bytes).tiled(weight_rows)


class _Tiling:
    """One head's tiles."""

    def __init__(
        self, drafts: Sequence[Draft], head: Head, blocks: list[Block], tile_bytes: int
    ) -> None:
        self._drafts, self._head, self._blocks = drafts, head, blocks
        logits = drafts[head.linear].outputs[0]
        assert logits is not None
        self._logits = logits
        rows, columns = logits.size
        size_bytes = rows * columns * logits.dtype.itemsize
        pieces = -(-size_bytes // tile_bytes)
        self._row_parts = _parts(rows, pieces)
        self._column_parts = _parts(columns, pieces)

    def tiled(self, weight_rows: Sequence[tuple[int, int]]) -> TiledHead | None:
        if len(self._row_parts) < 2 or len(self._column_parts) < 2:
            return None
        columns = self._logits.size[1]
        pieces = [
            self._fresh("log_probabilities", (count, columns)) for _, count in self._row_parts
        ]
        whole = self._drafts[self._head.to_weight].outputs[0]
        assert whole is not None
        of_weight = [(0, whole)]
        if weight_rows:
            width = whole.size[1]
            of_weight = [
                (begin, self._fresh("weight_gradient", (count, width)))
                for begin, count in weight_rows
            ]
        forward = tuple(self._forward(pieces))
        tiles: list[list[TensorSpec]] = []
        by_rows = tuple(self._by_rows(pieces, tiles))
        return TiledHead(
            forward=forward,
            backward=(*by_rows, *self._by_columns(tiles, of_weight)),
            of_weight=tuple(piece for _, piece in of_weight),
        )

    def _forward(self, pieces: Sequence[TensorSpec]) -> Iterator[Draft]:
        linear, loss = self._drafts[self._head.linear], self._drafts[self._head.loss]
        softmax = self._drafts[self._head.softmax]
        *bias, hidden, weight = linear.args
        _, target, _, reduction, ignore_index = loss.args
        chosen: list[TensorSpec] = []
        for number, ((begin, count), piece) in enumerate(zip(self._row_parts, pieces, strict=True)):
            logits = self._fresh("logits", piece.size)
            chosen.append(self._fresh("chosen", (count,)))
            some = _rows_of(target, begin, count)
            yield self._draft(
                linear, f"{linear.name}.{number}", linear.function,
                (*bias, _rows_of(hidden, begin, count), weight), outputs=(logits,),
                kind=linear.kind, flops=linear.flops * count // self._logits.size[0],
            )  # fmt: skip
            # Not in place: what only writes can be made again, and pieces are small.
            yield self._draft(
                softmax, f"{softmax.name}.{number}", _aten._log_softmax.default,
                (logits, 1, False), outputs=(piece,), flops=torch.Size(piece.size).numel(),
            )  # fmt: skip
            yield self._draft(
                loss, f"{loss.name}.chosen.{number}", head_tiles.chosen_log_probabilities,
                (piece, some, ignore_index), outputs=(chosen[-1],), flops=count,
            )  # fmt: skip
        yield self._draft(
            loss, loss.name, head_tiles.nll_loss_of_chosen,
            (chosen, target, reduction, ignore_index), outputs=loss.outputs, flops=loss.flops,
        )  # fmt: skip

    def _by_rows(
        self, pieces: Sequence[TensorSpec], tiles: list[list[TensorSpec]]
    ) -> Iterator[Draft]:
        """The backward by rows. Appends the tiles of each row piece."""
        picking, softmax = self._drafts[self._head.picking], self._drafts[self._head.backward]
        to_hidden = self._drafts[self._head.to_hidden]
        of_hidden, weight = to_hidden.outputs[0], to_hidden.args[1]
        assert of_hidden is not None
        of_loss, _, target, _, reduction, ignore_index, total_weight = picking.args
        yield self._empty(to_hidden, of_hidden)
        for number, ((begin, count), piece) in enumerate(zip(self._row_parts, pieces, strict=True)):
            gradient = _rows_of(of_loss, begin, count) if of_loss.size else of_loss
            some = _rows_of(target, begin, count)
            yield self._draft(
                softmax, f"{softmax.name}.{number}", row_chunks.cross_entropy_backward_,
                (piece, gradient, some, None, reduction, ignore_index, total_weight,
                 rules.rows_in_chunk(piece)),
                mutates=(piece.storage,), flops=2 * torch.Size(piece.size).numel(),
            )  # fmt: skip
            yield self._draft(
                to_hidden, f"{to_hidden.name}.{number}", _aten.mm.out, (piece, weight),
                kwargs={"out": _rows_of(of_hidden, begin, count)}, mutates=(of_hidden.storage,),
                flops=to_hidden.flops * count // self._logits.size[0],
            )  # fmt: skip
            tiles.append([self._fresh("tile", (count, width)) for _, width in self._column_parts])
            yield self._draft(
                softmax, f"{softmax.name}.tiles.{number}", head_tiles.cut_by_columns,
                (piece, self._column_parts[0][1]), outputs=tuple(tiles[-1]),
            )  # fmt: skip

    def _by_columns(
        self, tiles: Sequence[Sequence[TensorSpec]], of_weight: Sequence[tuple[int, TensorSpec]]
    ) -> Iterator[Draft]:
        """The backward by columns. `of_weight`: first row and tensor of each piece."""
        to_weight = self._drafts[self._head.to_weight]
        to_bias = None if self._head.to_bias is None else self._drafts[self._head.to_bias]
        of_bias = None if to_bias is None else to_bias.outputs[0]
        hidden = to_weight.args[1]
        if to_bias is not None and of_bias is not None:
            yield self._empty(to_bias, of_bias)
        made: set[int] = set()
        for number, (begin, width) in enumerate(self._column_parts):
            some: list[TensorSpec] = []
            for first, piece in of_weight:
                low, high = max(begin, first), min(begin + width, first + piece.size[0])
                if low >= high:
                    continue
                if piece.storage not in made:
                    yield self._empty(to_weight, piece, number=len(made))
                    made.add(piece.storage)
                some.append(_rows_of(piece, low - first, high - low))
            column = [row[number] for row in tiles]
            bias = () if of_bias is None else (replace(of_bias, size=(1, width), offset=begin),)
            function = head_tiles.weight_and_bias_gradient_ if bias else head_tiles.weight_gradient_
            yield self._draft(
                to_weight, f"{to_weight.name}.{number}", function, (some, *bias, column, hidden),
                mutates=tuple(spec.storage for spec in (*some, *bias)),
                flops=to_weight.flops * width // self._logits.size[1],
            )  # fmt: skip

    def _empty(self, draft: Draft, spec: TensorSpec, *, number: int = 0) -> Draft:
        """A storage that the draft fills, to be filled by rows."""
        return self._draft(
            draft, f"{draft.name}.empty.{number}", _aten.empty.memory_format, (list(spec.size),),
            kwargs={"dtype": spec.dtype, "device": torch.device("cpu")}, outputs=(spec,),
        )  # fmt: skip

    def _fresh(self, name: str, size: tuple[int, ...]) -> TensorSpec:
        dtype = self._logits.dtype
        size_bytes = torch.Size(size).numel() * dtype.itemsize
        role = (
            Role.ACTIVATION if name in ("logits", "log_probabilities", "chosen") else Role.GRADIENT
        )
        self._blocks.append(
            Block(name=f"{name}.{len(self._blocks)}", size_bytes=size_bytes, role=role)
        )
        stride = tuple(torch.empty(size, device="meta").stride())
        return TensorSpec(storage=len(self._blocks) - 1, dtype=dtype, size=size, stride=stride)

    @staticmethod
    def _draft(of: Draft, name: str, function: Any, args: tuple[Any, ...], **more: Any) -> Draft:
        """A part of draft `of`."""
        operator = isinstance(function, torch._ops.OpOverload)
        more.setdefault("kind", str(function) if operator else f"poet.{function.__name__}")
        phase: Phase = of.phase
        return Draft(
            name=name, phase=phase, module=of.module, function=function, args=args,
            recomputable=of.recomputable, **more,
        )  # fmt: skip


def _parts(count: int, pieces: int) -> list[tuple[int, int]]:
    """`count` in about `pieces` parts (begin, size), all but the last of one aligned size."""
    alignment = _ALIGNMENT if count >= pieces * _ALIGNMENT else 1
    size = max(1, -(-count // (pieces * alignment)) * alignment)
    return [(begin, min(size, count - begin)) for begin in range(0, count, size)]


def _rows_of(spec: TensorSpec, begin: int, count: int) -> TensorSpec:
    return replace(spec, size=(count, *spec.size[1:]), offset=spec.offset + begin * spec.stride[0])
