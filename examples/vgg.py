"""VGG-16 (Simonyan and Zisserman 2014, configuration D), with dropout in the classifier.

At 224 x 224 and 1000 classes it has the published 138,357,544 parameters.
"""

from __future__ import annotations

from torch import Tensor, nn

from examples.parts import Step, image_batch, optimizer_named, seeded

# channels in units of the first block's width; convolutions a block; a 2 x 2 max-pool ends each
_BLOCKS = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
_REDUCTION = 2 ** len(_BLOCKS)


class VGG16(nn.Module):
    """(batch, 3, size, size) -> (batch, classes); size is a multiple of 32."""

    def __init__(
        self,
        *,
        classes: int = 1000,
        image_size: int = 224,
        width: int = 64,
        classifier_width: int = 4096,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for factor, convolutions in _BLOCKS:
            for _ in range(convolutions):
                layers += [nn.Conv2d(channels, factor * width, 3, padding=1), nn.ReLU()]
                channels = factor * width
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Sequential(
            nn.Linear(channels * (image_size // _REDUCTION) ** 2, classifier_width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(classifier_width, classifier_width),
            nn.ReLU(),
            nn.Dropout(),
            nn.Linear(classifier_width, classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.features(images).flatten(1))
        return logits


def step(
    *,
    batch_size: int = 8,
    image_size: int = 224,
    classes: int = 1000,
    width: int = 64,
    classifier_width: int = 4096,
    optimizer: str = "momentum",
    seed: int = 0,
) -> Step:
    """VGG-16 at 224 x 224, cross-entropy, SGD with momentum, batch 8."""
    with seeded(seed):
        model = VGG16(
            classes=classes,
            image_size=image_size,
            width=width,
            classifier_width=classifier_width,
        )
        example = image_batch(batch_size, image_size, classes)
    return model, nn.functional.cross_entropy, optimizer_named(optimizer, model), example


def step_small(*, batch_size: int = 4) -> Step:
    """The same layers at 32 x 32, an eighth of the width, 10 classes."""
    return step(batch_size=batch_size, image_size=32, classes=10, width=8, classifier_width=64)
