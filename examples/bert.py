"""BERT (Devlin et al. 2018) as a masked language model, attention written out, dropout in training.

Base: 12 layers of 768, 12 heads, 30,522 word pieces, the decoder tied to the word embedding; one
segment and full-length sequences, so there is neither a segment embedding nor a padding mask.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.parts import Step, optimizer_named, seeded

NOT_MASKED = -100
"""Target of a position that is not to be predicted: cross_entropy's own ignore_index."""

_MASKED_SHARE = 0.15  # Devlin et al. 2018, section 3.1


@dataclass(frozen=True, slots=True, kw_only=True)
class BertShape:
    """Sizes of an encoder; the defaults are BERT base."""

    vocabulary: int = 30522
    positions: int = 512
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    dropout: float = 0.1


TINY = BertShape(vocabulary=500, positions=32, width=32, layers=2, heads=4, feed_forward=64)


class SelfAttention(nn.Module):
    """Multi-head attention over (batch, length, width), with dropout on its probabilities."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.query = nn.Linear(shape.width, shape.width)
        self.key = nn.Linear(shape.width, shape.width)
        self.value = nn.Linear(shape.width, shape.width)
        self.output = nn.Linear(shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (
            self._by_head(layer(states)) for layer in (self.query, self.key, self.value)
        )
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        mixed = self.dropout(scores.softmax(dim=-1)) @ value
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention and a GELU feed-forward network, each with residual, then LayerNorm."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.attention = SelfAttention(shape)
        self.attention_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.fc1 = nn.Linear(shape.width, shape.feed_forward)
        self.fc2 = nn.Linear(shape.feed_forward, shape.width)
        self.output_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor) -> Tensor:
        states = self.attention_norm(states + self.dropout(self.attention(states)))
        inner = self.fc2(nn.functional.gelu(self.fc1(states)))
        normed: Tensor = self.output_norm(states + self.dropout(inner))
        return normed


class BertForMaskedTokens(nn.Module):
    """Token numbers (batch, length) -> logits (batch, length, vocabulary)."""

    def __init__(self, shape: BertShape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.embedding_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))
        self.transform = nn.Linear(shape.width, shape.width)
        self.transform_norm = nn.LayerNorm(shape.width, eps=1e-12)
        self.decoder_bias = nn.Parameter(torch.zeros(shape.vocabulary))
        self.apply(_initialise)

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.dropout(self.embedding_norm(self.words(tokens) + self.positions(positions)))
        for layer in self.layers:
            states = layer(states)
        hidden = self.transform_norm(nn.functional.gelu(self.transform(states)))
        return nn.functional.linear(hidden, self.words.weight, self.decoder_bias)


def _initialise(module: nn.Module) -> None:
    """Normal weights of deviation 0.02, zero biases (the published program's initializer_range)."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def masked_token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over the positions whose target is not NOT_MASKED."""
    return nn.functional.cross_entropy(
        logits.flatten(0, 1), target.flatten(), ignore_index=NOT_MASKED
    )


def step(
    *,
    batch_size: int = 4,
    length: int = 512,
    shape: BertShape | None = None,
    optimizer: str = "adam",
    seed: int = 0,
) -> Step:
    """BERT base, 512 tokens, dropout 0.1, Adam, batch 4."""
    shape = shape or BertShape()
    with seeded(seed):
        model = BertForMaskedTokens(shape)
        tokens = torch.randint(0, shape.vocabulary, (batch_size, length))
        masked = torch.rand(batch_size, length) < _MASKED_SHARE
        target = torch.where(masked, tokens, NOT_MASKED)
    return model, masked_token_loss, optimizer_named(optimizer, model), (tokens, target)


def step_tiny(*, batch_size: int = 4) -> Step:
    """Two layers of 32, 16 tokens, batch 4: for tests and first tries."""
    return step(batch_size=batch_size, length=16, shape=TINY)
