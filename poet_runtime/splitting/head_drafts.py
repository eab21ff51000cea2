"""The drafts of a vocabulary head on tiles of its logits (see `head_tiles`).

    where the loss was         by rows: linear, log-softmax, the chosen ones; then the loss
    where the backward was     by rows: the logits' gradient in place of the log-probabilities, the
                               rows of the hidden states', tiles cut; then, by columns, the weight's

Rows and columns are storages of their own, so a plan can page each or make it again. Invariant:
what the head leaves (loss, total weight, three gradients) lies in the storages that it had.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from poet_core.graph import Phase, Role
from poet_runtime.drafts import Block, Draft
from poet_runtime.program import TensorSpec
from poet_runtime.splitting import head_tiles, row_chunks, rules
from poet_runtime.splitting.head import Head

_aten = torch.ops.aten
_ALIGNMENT = 64
"""Rows and columns of a tile are a multiple of it: kernels take columns in groups of vectors."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TiledHead:
    """`forward` stands where the loss stood, `backward` where the softmax's gradient did."""

    forward: tuple[Draft, ...]
    backward: tuple[Draft, ...]


def tiled(
    drafts: Sequence[Draft], head: Head, blocks: list[Block], tile_bytes: int
) -> TiledHead | None:
    """The head on row pieces and column pieces of about `tile_bytes`; None where one piece is all.

    Appends their storages to `blocks`."""
    return _Tiling(drafts, head, blocks, tile_bytes).tiled()


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
        self._target = drafts[head.loss].args[1]

    def tiled(self) -> TiledHead | None:
        if len(self._row_parts) < 2 or len(self._column_parts) < 2:
            return None
        columns = self._logits.size[1]
        pieces = [
            self._fresh("log_probabilities", (count, columns)) for _, count in self._row_parts
        ]
        forward = tuple(self._forward(pieces))
        return TiledHead(forward=forward, backward=tuple(self._backward(pieces)))

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

    def _backward(self, pieces: Sequence[TensorSpec]) -> Iterator[Draft]:
        picking, softmax = self._drafts[self._head.picking], self._drafts[self._head.backward]
        to_hidden = self._drafts[self._head.to_hidden]
        of_hidden, weight = to_hidden.outputs[0], to_hidden.args[1]
        assert of_hidden is not None
        of_loss, _, target, _, reduction, ignore_index, total_weight = picking.args
        yield self._empty(to_hidden)
        tiles: list[list[TensorSpec]] = []
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
        yield from self._weight(tiles)

    def _weight(self, tiles: Sequence[Sequence[TensorSpec]]) -> Iterator[Draft]:
        to_weight = self._drafts[self._head.to_weight]
        to_bias = None if self._head.to_bias is None else self._drafts[self._head.to_bias]
        of_weight, hidden = to_weight.outputs[0], to_weight.args[1]
        of_bias = None if to_bias is None else to_bias.outputs[0]
        assert of_weight is not None
        yield self._empty(to_weight)
        if to_bias is not None:
            yield self._empty(to_bias)
        for number, (begin, width) in enumerate(self._column_parts):
            some = _rows_of(of_weight, begin, width)
            column = [row[number] for row in tiles]
            flops = to_weight.flops * width // self._logits.size[1]
            if of_bias is None:
                yield self._draft(
                    to_weight, f"{to_weight.name}.{number}", head_tiles.weight_gradient_,
                    (some, column, hidden), mutates=(of_weight.storage,), flops=flops,
                )  # fmt: skip
                continue
            bias = replace(of_bias, size=(1, width), offset=begin)
            yield self._draft(
                to_weight, f"{to_weight.name}.{number}", head_tiles.weight_and_bias_gradient_,
                (some, bias, column, hidden), mutates=(of_weight.storage, of_bias.storage),
                flops=flops,
            )  # fmt: skip

    def _empty(self, draft: Draft) -> Draft:
        """The storage that the draft fills, to be filled by rows."""
        (spec,) = draft.outputs
        assert spec is not None
        return self._draft(
            draft, f"{draft.name}.empty", _aten.empty.memory_format, (list(spec.size),),
            kwargs={"dtype": spec.dtype, "device": torch.device("cpu")}, outputs=(spec,),
        )  # fmt: skip

    def _fresh(self, name: str, size: tuple[int, ...]) -> TensorSpec:
        dtype = self._logits.dtype
        size_bytes = torch.Size(size).numel() * dtype.itemsize
        role = Role.GRADIENT if name == "tile" else Role.ACTIVATION
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
