"""ViT-B/16 (Dosovitskiy et al. 2021), a transformer encoder over patches of an image.

Base: 12 layers of 768, 12 heads, patches of 16 x 16 of 224 x 224, a class token, 1000 classes.
Dropout of .1 follows every dense layer but the attention's first, and the position embedding, as
the paper has it for ImageNet (table 3, appendix B.1). Attention is F.scaled_dot_product_attention:
nothing is dropped in it, so torch's fused kernel runs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from examples.parts import Step, image_batch, optimizer_named, seeded


@dataclass(frozen=True, slots=True, kw_only=True)
class VitShape:
    """Sizes of an encoder; the defaults are ViT-B/16 at 224."""

    image_size: int = 224
    patch_size: int = 16
    classes: int = 1000
    width: int = 768
    layers: int = 12
    heads: int = 12
    feed_forward: int = 3072
    dropout: float = 0.1


TINY = VitShape(
    image_size=32, patch_size=8, classes=10, width=32, layers=2, heads=4, feed_forward=64
)


class SelfAttention(nn.Module):
    """Multi-head attention over (batch, length, width)."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.joint = nn.Linear(shape.width, 3 * shape.width)
        self.output = nn.Linear(shape.width, shape.width)

    def forward(self, states: Tensor) -> Tensor:
        query, key, value = (self._by_head(part) for part in self.joint(states).chunk(3, dim=-1))
        mixed = nn.functional.scaled_dot_product_attention(query, key, value)
        joined: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return joined

    def _by_head(self, states: Tensor) -> Tensor:
        batch, length, width = states.shape
        return states.view(batch, length, self.heads, width // self.heads).transpose(1, 2)


class EncoderLayer(nn.Module):
    """Attention and a GELU feed-forward network, each after a LayerNorm, with residual."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.attention = SelfAttention(shape)
        self.inner_norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.fc1 = nn.Linear(shape.width, shape.feed_forward)
        self.fc2 = nn.Linear(shape.feed_forward, shape.width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, states: Tensor) -> Tensor:
        states = states + self.dropout(self.attention(self.attention_norm(states)))
        inner = self.dropout(nn.functional.gelu(self.fc1(self.inner_norm(states))))
        summed: Tensor = states + self.dropout(self.fc2(inner))
        return summed


class VisionTransformer(nn.Module):
    """(batch, 3, size, size) -> (batch, classes)."""

    def __init__(self, shape: VitShape) -> None:
        super().__init__()
        patches = (shape.image_size // shape.patch_size) ** 2
        self.patches = nn.Conv2d(3, shape.width, shape.patch_size, shape.patch_size)
        self.class_token = nn.Parameter(torch.zeros(1, 1, shape.width))
        self.positions = nn.Parameter(torch.empty(1, patches + 1, shape.width))
        self.dropout = nn.Dropout(shape.dropout)
        self.layers = nn.ModuleList(EncoderLayer(shape) for _ in range(shape.layers))
        self.last_norm = nn.LayerNorm(shape.width, eps=1e-6)
        self.head = nn.Linear(shape.width, shape.classes)
        nn.init.normal_(self.positions, std=0.02)

    def forward(self, images: Tensor) -> Tensor:
        states = self.patches(images).flatten(2).transpose(1, 2)
        first = self.class_token.expand(images.shape[0], -1, -1)
        states = self.dropout(torch.cat([first, states], dim=1) + self.positions)
        for layer in self.layers:
            states = layer(states)
        logits: Tensor = self.head(self.last_norm(states)[:, 0])
        return logits


def step(
    *,
    batch_size: int = 8,
    shape: VitShape | None = None,
    optimizer: str = "adamw",
    seed: int = 0,
) -> Step:
    """ViT-B/16 at 224 x 224, dropout 0.1, cross-entropy, AdamW, batch 8."""
    shape = shape or VitShape()
    with seeded(seed):
        model = VisionTransformer(shape)
        example = image_batch(batch_size, shape.image_size, shape.classes)
    return model, nn.functional.cross_entropy, optimizer_named(optimizer, model), example


def step_tiny(*, batch_size: int = 4) -> Step:
    """Two layers of 32, images of 32 x 32, batch 4: for tests and first tries."""
    return step(batch_size=batch_size, shape=TINY)
