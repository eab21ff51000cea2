"""ResNet-18 (He et al. 2015) with batch normalisation in training mode.

Two stems: 7 x 7 with stride 2 and a max-pool for ImageNet's sizes (11,689,512 parameters at 1000
classes), and the 3 x 3 stem of the same paper's CIFAR experiments for small images.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.parts import Step, image_batch, optimizer_named, seeded

_SMALL_IMAGE = 64  # below it the large stem would leave a last map of one pixel


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(maps)))
        summed: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))
        return summed


class ResNet18(nn.Module):
    """(batch, 3, size, size) -> (batch, classes)."""

    def __init__(self, *, classes: int = 1000, width: int = 64, large_stem: bool = True) -> None:
        super().__init__()
        stem: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        if large_stem:
            stem = [nn.Conv2d(3, width, 7, 2, padding=3, bias=False)]
        stem += [nn.BatchNorm2d(width), nn.ReLU()]
        if large_stem:
            stem.append(nn.MaxPool2d(3, 2, padding=1))
        self.stem = nn.Sequential(*stem)
        blocks: list[nn.Module] = []
        channels = width
        for stage in range(4):
            out_channels = width * 2**stage
            blocks.append(BasicBlock(channels, out_channels, 1 if stage == 0 else 2))
            blocks.append(BasicBlock(out_channels, out_channels, 1))
            channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.blocks(self.stem(images))
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits


def step(
    *,
    batch: int = 8,
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
    optimizer: str = "momentum",
    seed: int = 0,
) -> Step:
    """ResNet-18 at 224 x 224, cross-entropy, SGD with momentum, batch 8."""
    with seeded(seed):
        model = ResNet18(classes=classes, width=width, large_stem=image_size > _SMALL_IMAGE)
        example = image_batch(batch, image_size, classes)
    return model, nn.functional.cross_entropy, optimizer_named(optimizer, model), example


def step_small() -> Step:
    """ResNet-18 for 32 x 32 and 10 classes, batch 8."""
    return step(batch=8, image_size=32, classes=10)
