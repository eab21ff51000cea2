"""GPT-2 (Radford et al. 2019) as a next-token language model, attention written out, dropout .1.

Small: 12 layers of 768, 12 heads, 1,024 positions, 50,257 tokens, the head tied to the word
embedding and without a bias. Normalisation comes before each block and once at the end. Attention
is written out because its probabilities have dropout: on CPUs torch's fused kernel has none, and
F.scaled_dot_product_attention would run the same ops.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.parts import Step, optimizer_named, seeded

_DEVIATION = 0.02  # the published program's initializer_range


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpt2Shape:
    """Sizes of a decoder; the defaults are GPT-2 small."""

    vocabulary: int = 50257
    positions: int = 1024
    width: int = 768
    layers: int = 12
    heads: int = 12
    dropout: float = 0.1


TINY = Gpt2Shape(vocabulary=500, positions=32, width=32, layers=2, heads=4)


class CausalSelfAttention(nn.Module):
    """Multi-head attention of (batch, length, width) to what is not after it."""

    def __init__(self, shape: Gpt2Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.joint = nn.Linear(shape.width, 3 * shape.width)
        self.output = nn.Linear(shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (self._by_head(part) for part in self.joint(states).chunk(3, dim=-1))
        scores = query @ key.transpose(2, 3) / math.sqrt(query.shape[-1])
        length = states.shape[1]
        after = torch.ones(length, length, dtype=torch.bool, device=states.device).triu(1)
        mixed = self.dropout(scores.masked_fill(after, -math.inf).softmax(dim=-1)) @ value
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class DecoderLayer(nn.Module):
    """Attention and a GELU feed-forward network of four times the width, each after a LayerNorm."""

    def __init__(self, shape: Gpt2Shape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width)
        self.attention = CausalSelfAttention(shape)
        self.inner_norm = nn.LayerNorm(shape.width)
        self.fc1 = nn.Linear(shape.width, 4 * shape.width)
        self.fc2 = nn.Linear(4 * shape.width, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.dropout(self.attention(self.attention_norm(states)))
        inner = nn.functional.gelu(self.fc1(self.inner_norm(states)), approximate="tanh")
        summed: Tensor = states + self.dropout(self.fc2(inner))
        return summed


class Gpt2(nn.Module):
    """Token numbers (batch, length) -> logits of the next ones (batch, length, vocabulary)."""

    def __init__(self, shape: Gpt2Shape) -> None:
        super().__init__()
        self.words = nn.Embedding(shape.vocabulary, shape.width)
        self.positions = nn.Embedding(shape.positions, shape.width)
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(DecoderLayer(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.width)
        self.apply(_initialise)
        for layer in self.layers:
            assert isinstance(layer, DecoderLayer)
            # Each layer adds twice to the stream: section 2.3 scales these by 1 / sqrt(additions).
            for last in (layer.attention.output, layer.fc2):
                nn.init.normal_(last.weight, std=_DEVIATION / math.sqrt(2 * shape.layers))

    def forward(self, tokens: Tensor) -> Tensor:
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.dropout(self.words(tokens) + self.positions(positions))
        for layer in self.layers:
            states = layer(states)
        return nn.functional.linear(self.last_norm(states), self.words.weight)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=_DEVIATION)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def next_token_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy over all positions; the target is the tokens moved by one."""
    return nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten())


def step(
    *,
    batch_size: int = 2,
    length: int = 512,
    shape: Gpt2Shape | None = None,
    optimizer: str = "adamw",
    seed: int = 0,
) -> Step:
    """GPT-2 small, 512 tokens, dropout 0.1, AdamW, batch 2."""
    shape = shape or Gpt2Shape()
    with seeded(seed):
        model = Gpt2(shape)
        text = torch.randint(0, shape.vocabulary, (batch_size, length + 1))
    example = text[:, :-1].contiguous(), text[:, 1:].contiguous()
    return model, next_token_loss, optimizer_named(optimizer, model), example


def step_tiny(*, batch_size: int = 4) -> Step:
    """Two layers of 32, 16 tokens, batch 4: for tests and first tries."""
    return step(batch_size=batch_size, length=16, shape=TINY)
