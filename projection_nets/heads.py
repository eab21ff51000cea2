"""From bits to classes: fully connected layers, or tables that a block of bits is an index into.

    dense    bits ── Linear ── ReLU ── ... ── Linear ── logits
    lookup   block t of d bits, read as a number i (bit j counts 2^j) ── row i of table t
             logits = bias + the sum of the T rows

Parameters: dense [n, h, C] n*h + h + h*C + C; lookup T * 2^d * C + C. Invariant of a lookup head: a
row that no training input touches stays exactly 0 (tables start at 0, and an optimizer without
weight decay leaves a 0 without gradient at 0), so leaving it out of an export changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError

TABLE_VALUES_LIMIT = 2**26
"""256 MiB of float32."""


def dense_head(bits: int, hidden: Sequence[int], classes: int) -> nn.Module:
    """Linear layers with ReLU between them; one Linear alone where `hidden` is empty."""
    sizes = (bits, *hidden, classes)
    if min(sizes) < 1:
        raise UsageError(
            f"Expected at least one class and one unit a hidden layer, got {classes} and "
            f"{tuple(hidden)}.",
            code="projection_invalid",
            hint="Pass positive sizes; hidden=None means no hidden layer.",
        )
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers.pop()
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


class LookupHead(nn.Module):
    """(batch, T * d) values of bits -> (batch, classes), by T rows of a (T * 2^d, classes) table.

    Raises UsageError (`projection_invalid`) for tables of more than `TABLE_VALUES_LIMIT` values.
    """

    def __init__(self, functions: int, bits: int, classes: int) -> None:
        super().__init__()
        values = functions * classes << bits if bits < 64 else TABLE_VALUES_LIMIT + 1
        if classes < 1 or values > TABLE_VALUES_LIMIT:
            raise UsageError(
                f"Expected tables of 1..{TABLE_VALUES_LIMIT} values, got {functions} x 2^{bits} "
                f"rows of {classes}.",
                code="projection_invalid",
                hint="A lookup doubles with each bit of d: use fewer bits and more functions.",
            )
        self.functions = functions
        self.bits = bits
        self.table = nn.Parameter(torch.zeros(functions << bits, classes))
        self.bias = nn.Parameter(torch.zeros(classes))

    def forward(self, values: Tensor) -> Tensor:
        rows: Tensor = nn.functional.embedding(self.rows(values), self.table)
        return rows.sum(dim=1) + self.bias

    def rows(self, values: Tensor) -> Tensor:
        """int64 (batch, T): the row that each block of bits points to."""
        blocks = (values > 0).to(torch.int64).view(-1, self.functions, self.bits)
        powers = 2 ** torch.arange(self.bits, device=values.device)
        firsts = torch.arange(self.functions, device=values.device) << self.bits
        rows: Tensor = (blocks * powers).sum(dim=2) + firsts
        return rows

    def touched(self) -> Tensor:
        """bool (T * 2^d,): the rows that training has moved from 0, the only ones to ship."""
        return (self.table.detach() != 0).any(dim=1)
