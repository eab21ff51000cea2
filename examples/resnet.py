"""ResNet-18 and ResNet-50 (He et al. 2015) with batch normalisation in training mode.

Two stems: 7 x 7 with stride 2 and a max-pool for ImageNet's sizes (11,689,512 and 25,557,032
parameters at 1000 classes), and the 3 x 3 stem of the same paper's CIFAR experiments for small
images. ResNet-50's stride is in its 3 x 3 convolutions, as everybody's programs have it.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.parts import Step, image_batch, optimizer_named, seeded

_EXPANSION = 4
_SMALL_IMAGE = 64  # below it the large stem would leave a last map of one pixel


def _shortcut(channels: int, out_channels: int, stride: int) -> nn.Module:
    """What is added to a block's output: its input, projected where the shape changes."""
    if stride == 1 and channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, 1, stride, bias=False), nn.BatchNorm2d(out_channels)
    )


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut, projected where the shape changes."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(channels, out_channels, stride)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(maps)))
        summed: Tensor = self.relu(self.bn2(self.conv2(inner)) + self.shortcut(maps))
        return summed


class Bottleneck(nn.Module):
    """1 x 1 down, 3 x 3, 1 x 1 up to four times the channels, and a shortcut."""

    def __init__(self, channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        inner = out_channels // _EXPANSION
        self.conv1 = nn.Conv2d(channels, inner, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.relu = nn.ReLU()
        self.shortcut = _shortcut(channels, out_channels, stride)

    def forward(self, maps: Tensor) -> Tensor:
        inner = self.relu(self.bn1(self.conv1(maps)))
        inner = self.relu(self.bn2(self.conv2(inner)))
        summed: Tensor = self.relu(self.bn3(self.conv3(inner)) + self.shortcut(maps))
        return summed


class ResNet(nn.Module):
    """(batch, 3, size, size) -> (batch, classes). `depth`: 18 or 50."""

    def __init__(
        self, *, depth: int = 18, classes: int = 1000, width: int = 64, large_stem: bool = True
    ) -> None:
        super().__init__()
        stem: list[nn.Module] = [nn.Conv2d(3, width, 3, padding=1, bias=False)]
        if large_stem:
            stem = [nn.Conv2d(3, width, 7, 2, padding=3, bias=False)]
        stem += [nn.BatchNorm2d(width), nn.ReLU()]
        if large_stem:
            stem.append(nn.MaxPool2d(3, 2, padding=1))
        self.stem = nn.Sequential(*stem)
        kind, expansion, depths = _KINDS[depth]
        blocks: list[nn.Module] = []
        channels = width
        for stage, count in enumerate(depths):
            out_channels = width * 2**stage * expansion
            for number in range(count):
                blocks.append(kind(channels, out_channels, 2 if stage and not number else 1))
                channels = out_channels
        self.blocks = nn.Sequential(*blocks)
        self.head = nn.Linear(channels, classes)

    def forward(self, images: Tensor) -> Tensor:
        maps = self.blocks(self.stem(images))
        logits: Tensor = self.head(maps.mean(dim=(2, 3)))
        return logits


# Table 1 of the paper: the block, its channels over those of its 3 x 3, and how many a stage.
_KINDS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], int, tuple[int, ...]]] = {
    18: (BasicBlock, 1, (2, 2, 2, 2)),
    50: (Bottleneck, _EXPANSION, (3, 4, 6, 3)),
}


def step(
    *,
    batch_size: int = 8,
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
    depth: int = 18,
    optimizer: str = "momentum",
    seed: int = 0,
) -> Step:
    """ResNet-18 at 224 x 224, cross-entropy, SGD with momentum, batch 8."""
    large = image_size > _SMALL_IMAGE
    with seeded(seed):
        model = ResNet(depth=depth, classes=classes, width=width, large_stem=large)
        example = image_batch(batch_size, image_size, classes)
    return model, nn.functional.cross_entropy, optimizer_named(optimizer, model), example


def step_small(*, batch_size: int = 8) -> Step:
    """ResNet-18 for 32 x 32 and 10 classes, batch 8."""
    return step(batch_size=batch_size, image_size=32, classes=10)


def step_50(*, batch_size: int = 8) -> Step:
    """ResNet-50 at 224 x 224, batch 8."""
    return step(batch_size=batch_size, depth=50)
