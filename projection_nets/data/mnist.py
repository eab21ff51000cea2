"""MNIST by the protocol of Ravi 2017: 55,000 to train, 5,000 of the training set held out, 10,000.

Fashion-MNIST has the same four files. `data_root` is the folder that POET_DATA names; the files lie
in its `mnist/` and `fashion-mnist/`, gzipped or raw.
"""

from __future__ import annotations

from pathlib import Path

from poet_core.errors import DataError
from poet_core.text import printable
from projection_nets.data.digits import digits
from projection_nets.data.idx import read_idx
from projection_nets.data.images import ImageSplits, LabelledImages, divided, labelled

_SIDE = 28
_CLASSES = 10
_TRAIN_COUNT = 55_000
_VALIDATION_COUNT = 5_000
_TEST_COUNT = 10_000


def mnist(data_root: Path, *, seed: int = 0) -> ImageSplits:
    """The three parts; `seed` chooses which images are held out.

    Raises DataError: those of `read_idx`, `data_counts_differ`, `data_label_invalid`, `data_shape`.
    """
    return _splits(data_root / "mnist", "mnist", seed)


def fashion_mnist(data_root: Path, *, seed: int = 0) -> ImageSplits:
    """The same of Fashion-MNIST (Xiao et al. 2017)."""
    return _splits(data_root / "fashion-mnist", "fashion-mnist", seed)


def _splits(folder: Path, name: str, seed: int) -> ImageSplits:
    whole = _pair(folder, "train")
    train, validation = divided(whole, (_TRAIN_COUNT, _VALIDATION_COUNT), seed)
    test = _pair(folder, "t10k")
    if len(test) != _TEST_COUNT:
        raise DataError(
            f"Expected {_TEST_COUNT} test images in {printable(str(folder))}, got {len(test)}.",
            code="data_counts_differ",
            hint="The files are not of the full set; fetch them again.",
        )
    return ImageSplits(name=name, classes=_CLASSES, train=train, validation=validation, test=test)


def mnist_or_digits(data_root: Path | None, *, seed: int = 0) -> ImageSplits:
    """MNIST where the folder `data_root`/mnist exists, else the bundled digits.

    A folder with damaged files is an error, not a reason to train on something else in silence.
    """
    if data_root is not None and (data_root / "mnist").is_dir():
        return mnist(data_root, seed=seed)
    return digits(seed=seed)


def _pair(folder: Path, part: str) -> LabelledImages:
    image_path = _existing(folder / f"{part}-images-idx3-ubyte")
    images = read_idx(image_path, dimensions=3)
    labels = read_idx(_existing(folder / f"{part}-labels-idx1-ubyte"), dimensions=1)
    if images.shape[1:] != (_SIDE, _SIDE):
        raise DataError(
            f"Expected images of {_SIDE} x {_SIDE} in {printable(str(image_path))}, got "
            f"{images.shape[1]} x {images.shape[2]}.",
            code="data_shape",
            hint="The file is not MNIST's; fetch it again.",
        )
    return labelled(images, labels, classes=_CLASSES, name=printable(str(folder)))


def _existing(path: Path) -> Path:
    """The gzipped file where there is one, else the raw one."""
    zipped = path.with_name(f"{path.name}.gz")
    return zipped if zipped.exists() else path
