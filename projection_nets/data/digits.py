"""The fallback that needs no download: scikit-learn's 1,797 digits of 8x8, brought to MNIST's 28x28.

It makes the same graph as MNIST (784 inputs, 10 classes), so plans, peaks and bit-identity mean the
same; accuracies do not: they are claimed for MNIST only.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from projection_nets.data.images import ImageSplits, divided, labelled

_SOURCE_SIDE = 8
_SOURCE_MAX = 16
_SIDE = 28
_CLASSES = 10
_TRAIN_COUNT = 1400  # seven batches of 200
_VALIDATION_COUNT = 97
_TEST_COUNT = 300

# A target pixel's centre lies at (4 i - 5) / 14 source pixels: 28 / 8 = 7 / 2.
_UNITS = 14


def digits(*, seed: int = 0) -> ImageSplits:
    """1,400 / 97 / 300 images of 28x28, values 0..255, split by `seed`."""
    # deferred: scikit-learn takes a second to import and MNIST needs none of it
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = upsampled(bunch.images.astype(np.int64))
    whole = labelled(
        images, bunch.target.astype(np.uint8), classes=_CLASSES, name="scikit-learn's digits"
    )
    train, validation, test = divided(whole, (_TRAIN_COUNT, _VALIDATION_COUNT, _TEST_COUNT), seed)
    return ImageSplits(
        name="digits", classes=_CLASSES, train=train, validation=validation, test=test
    )


def upsampled(images: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """(n, 8, 8) of 0..16 -> (n, 28, 28) of 0..255, bilinear in integers: equal on every machine."""
    weights = _weights()
    sums = np.einsum("ir,nrc,jc->nij", weights, images, weights)
    whole = _UNITS * _UNITS * _SOURCE_MAX
    rounded: npt.NDArray[np.int64] = (sums * 255 + whole // 2) // whole
    return rounded.astype(np.uint8)


def _weights() -> npt.NDArray[np.int64]:
    """(28, 8): what each source row gives to each target row, in fourteenths."""
    weights = np.zeros((_SIDE, _SOURCE_SIDE), dtype=np.int64)
    for target in range(_SIDE):
        below, part = divmod(4 * target - 5, _UNITS)
        for source, weight in ((below, _UNITS - part), (below + 1, part)):
            weights[target, min(max(source, 0), _SOURCE_SIDE - 1)] += weight
    return weights
