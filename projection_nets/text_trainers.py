"""Trainers over tokens: (batch, length) of int64, 0 where a text has ended -> logits.

Invariant: what stands after the end of a text does not change its logits: the LSTM answers from the
last token's state, the transformer attends to tokens only and answers from their mean. A text
without tokens counts as one padding token.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError


class LstmTrainer(nn.Module):
    """Embedding, LSTM layers, and the last token's class; the default is Ravi's (section 4.3)."""

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        width: int = 100,
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        between = dropout if layers > 1 else 0.0
        self.lstm = nn.LSTM(width, width, num_layers=layers, batch_first=True, dropout=between)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.dropout(self.embedding(tokens)))
        last = ((tokens != 0).sum(dim=1) - 1).clamp(min=0)
        index = last[:, None, None].expand(-1, 1, states.shape[2])
        final = states.gather(1, index).squeeze(1)
        logits: Tensor = self.head(self.dropout(final))
        return logits


class TransformerTrainer(nn.Module):
    """A small encoder: embeddings and positions, pre-norm blocks, the mean token's class."""

    def __init__(
        self,
        vocabulary: int,
        classes: int,
        *,
        length: int,
        width: int = 128,
        heads: int = 4,
        layers: int = 2,
        feed_forward: int = 256,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UsageError(
                f"Expected a width that {heads} heads divide, got {width}.",
                code="trainer_invalid",
                hint="Choose a multiple of the number of heads.",
            )
        self.embedding = nn.Embedding(vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(
            _Block(width, heads, feed_forward, dropout) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        real = tokens != 0
        # the first place always counts, so that an empty text divides by one and not by zero
        real = real | (torch.arange(tokens.shape[1], device=tokens.device) == 0)
        states = self.embedding(tokens) + self.positions[: tokens.shape[1]]
        hidden = torch.zeros_like(real, dtype=states.dtype).masked_fill(~real, -math.inf)
        for block in self.blocks:
            states = block(states, hidden[:, None, None, :])
        weights = real.to(states.dtype)[:, :, None]
        mean = (self.norm(states) * weights).sum(dim=1) / weights.sum(dim=1)
        logits: Tensor = self.head(mean)
        return logits


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, feed_forward: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        self.layers = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, feed_forward), nn.GELU(), nn.Linear(feed_forward, width)
        )  # fmt: skip
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        batch, length, width = states.shape
        parts = self.queries_keys_values(self.attention_norm(states))
        queries, keys, values = (
            part.view(batch, length, self.heads, -1).transpose(1, 2)
            for part in parts.split(width, dim=2)
        )
        scores = queries @ keys.transpose(2, 3) / math.sqrt(width // self.heads) + mask
        mixed = (scores.softmax(dim=3) @ values).transpose(1, 2).reshape(batch, length, width)
        states = states + self.dropout(self.output(mixed))
        result: Tensor = states + self.dropout(self.layers(states))
        return result
