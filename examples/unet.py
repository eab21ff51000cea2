"""U-Net (Ronneberger et al. 2015), its convolutions padded so that the mask is as large as the image.

With 64 channels at the top, one channel in and two classes it has 31,030,658 parameters.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.parts import Step, optimizer_named, seeded

_LEVELS = 4


def _block(channels: int, out_channels: int) -> nn.Sequential:
    """Two 3 x 3 convolutions with ReLU."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(out_channels, out_channels, 3, padding=1),
        nn.ReLU(),
    )


class UNet(nn.Module):
    """(batch, channels, size, size) -> (batch, classes, size, size); size is a multiple of 16."""

    def __init__(self, *, channels: int = 1, classes: int = 2, width: int = 64) -> None:
        super().__init__()
        widths = [width * 2**level for level in range(_LEVELS + 1)]
        self.down = nn.ModuleList(
            _block(before, after)
            for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * after, after, 2, 2) for after in reversed(widths[:-1])
        )
        self.join = nn.ModuleList(_block(2 * after, after) for after in reversed(widths[:-1]))
        self.head = nn.Conv2d(width, classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        maps, kept = images, []
        for block in self.down:
            maps = block(maps if block is self.down[0] else self.pool(maps))
            kept.append(maps)
        kept.pop()
        for up, join in zip(self.up, self.join, strict=True):
            maps = join(torch.cat([kept.pop(), up(maps)], dim=1))
        logits: Tensor = self.head(maps)
        return logits


def step(
    *,
    batch_size: int = 2,
    image_size: int = 256,
    classes: int = 2,
    width: int = 64,
    optimizer: str = "momentum",
    seed: int = 0,
) -> Step:
    """U-Net at 256 x 256, cross-entropy of every pixel, SGD with momentum, batch 2."""
    with seeded(seed):
        model = UNet(classes=classes, width=width)
        images = torch.rand(batch_size, 1, image_size, image_size)
        masks = torch.randint(0, classes, (batch_size, image_size, image_size))
    loss = nn.functional.cross_entropy
    return model, loss, optimizer_named(optimizer, model), (images, masks)


def step_small(*, batch_size: int = 2) -> Step:
    """An eighth of the width at 32 x 32."""
    return step(batch_size=batch_size, image_size=32, width=8)
