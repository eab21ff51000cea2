"""MobileNetV2 (Sandler et al. 2018), batch normalisation in training mode, dropout before the head.

At 224 x 224, width 1.0 and 1000 classes it has 3,504,872 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.parts import Step, image_batch, optimizer_named, seeded

# Table 2 of the paper: expansion, channels, blocks, stride of the first.
_STAGES = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2),
    (6, 320, 1, 1),
)  # fmt: skip
_STEM, _LAST = 32, 1280
_DROPOUT = 0.2  # the published program's


def _conv(
    channels: int, out_channels: int, kernel: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    """A convolution with batch normalisation and ReLU6."""
    return nn.Sequential(
        nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(),
    )


class InvertedResidual(nn.Module):
    """Expand, convolve depthwise, project; a shortcut where the shape stays."""

    def __init__(self, channels: int, out_channels: int, *, stride: int, expansion: int) -> None:
        super().__init__()
        inner = channels * expansion
        layers: list[nn.Module] = [] if expansion == 1 else [_conv(channels, inner, 1)]
        layers += [
            _conv(inner, inner, 3, stride=stride, groups=inner),
            nn.Conv2d(inner, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.layers = nn.Sequential(*layers)
        self.shortcut = stride == 1 and channels == out_channels

    def forward(self, maps: Tensor) -> Tensor:
        out: Tensor = self.layers(maps)
        return maps + out if self.shortcut else out


class MobileNetV2(nn.Module):
    """(batch, 3, size, size) -> (batch, classes). `width` multiplies every layer's channels."""

    def __init__(self, *, classes: int = 1000, width: float = 1.0) -> None:
        super().__init__()
        channels = _scaled(_STEM, width)
        layers: list[nn.Module] = [_conv(3, channels, 3, stride=2)]
        for expansion, out, blocks, stride in _STAGES:
            for block in range(blocks):
                layers.append(
                    InvertedResidual(
                        channels,
                        _scaled(out, width),
                        stride=stride if block == 0 else 1,
                        expansion=expansion,
                    )
                )
                channels = _scaled(out, width)
        last = _scaled(_LAST, max(1.0, width))
        layers.append(_conv(channels, last, 1))
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(nn.Dropout(_DROPOUT), nn.Linear(last, classes))

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(images).mean(dim=(2, 3)))
        return logits


def _scaled(channels: int, width: float) -> int:
    """A multiple of eight near channels * width, and not below nine tenths of it."""
    scaled = max(8, int(channels * width + 4) // 8 * 8)
    return scaled + 8 if scaled < 0.9 * channels * width else scaled


def step(
    *,
    batch_size: int = 8,
    image_size: int = 224,
    classes: int = 1000,
    width: float = 1.0,
    optimizer: str = "momentum",
    seed: int = 0,
) -> Step:
    """MobileNetV2 at 224 x 224, cross-entropy, SGD with momentum, batch 8."""
    with seeded(seed):
        model = MobileNetV2(classes=classes, width=width)
        example = image_batch(batch_size, image_size, classes)
    return model, nn.functional.cross_entropy, optimizer_named(optimizer, model), example


def step_small(*, batch_size: int = 8) -> Step:
    """A quarter of the width at 64 x 64, 10 classes."""
    return step(batch_size=batch_size, image_size=64, classes=10, width=0.25)
