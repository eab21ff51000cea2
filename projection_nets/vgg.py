"""A VGG-16-like mentor for small images: thirteen 3 x 3 convolutions in five blocks, then two layers.

    pixels ── input ── block1 ── block2 ── block3 ── block4 ── block5 ── classifier ── logits
    maps               w         2w        4w        8w        8w
    side      32       16        8         4         2         1

The names are the paths that a LayerMap gives. Unlike the original (Simonyan and Zisserman 2014,
configuration D), each convolution is normalised, without which thirteen of them do not start to
learn on a small data set.
"""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from poet_core.errors import UsageError

SIDE = 32
_BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))  # maps in units of the width, convolutions


def vgg16_like(
    classes: int,
    *,
    channels: int = 1,
    side: int = 28,
    width: int = 16,
    hidden: int = 128,
    dropout: float = 0.0,
) -> nn.Sequential:
    """Scaled, flat images (batch, channels * side * side), sides of up to 32 -> logits.

    Smaller images get a black border. Raises UsageError (`trainer_invalid`).
    """
    if not 1 <= side <= SIDE:
        raise UsageError(
            f"Expected images of at most {SIDE} x {SIDE}, got a side of {side!r:.40}.",
            code="trainer_invalid",
            hint="Larger images: examples/vgg.py has VGG-16 itself.",
        )
    border = SIDE - side
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["input"] = nn.Sequential(
        nn.Unflatten(1, (channels, side, side)),
        nn.ZeroPad2d((border // 2, border - border // 2) * 2),
    )
    for number, (factor, convolutions) in enumerate(_BLOCKS, start=1):
        layers[f"block{number}"] = _block(channels, factor * width, convolutions)
        channels = factor * width
    layers["classifier"] = nn.Sequential(
        nn.Flatten(),
        nn.Linear(channels, hidden),
        nn.ReLU(),
        nn.Dropout(dropout) if dropout else nn.Identity(),
        nn.Linear(hidden, classes),
    )
    return nn.Sequential(layers)


def small_mentee(
    classes: int,
    *,
    channels: int = 1,
    side: int = 28,
    maps: tuple[int, int] = (4, 8),
    hidden: int = 16,
) -> nn.Sequential:
    """A mentee for the same images: `block1` and `block2` of one convolution each, `classifier`.

    1 x 28 x 28 and 10 classes: 6,794 parameters.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["input"] = nn.Unflatten(1, (channels, side, side))
    for number, outputs in enumerate(maps, start=1):
        layers[f"block{number}"] = nn.Sequential(
            nn.Conv2d(channels, outputs, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)
        )
        channels, side = outputs, side // 2
    layers["hidden"] = nn.Sequential(
        nn.Flatten(), nn.Linear(channels * side * side, hidden), nn.ReLU()
    )
    layers["classifier"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)


def _block(inputs: int, outputs: int, convolutions: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for _ in range(convolutions):
        layers += [
            nn.Conv2d(inputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
        ]
        inputs = outputs
    layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)
