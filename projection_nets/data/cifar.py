"""CIFAR-100 in its binary version: one record of 3,074 bytes an image.

    byte 0         coarse label, 0..19
    byte 1         fine label, 0..99
    bytes 2..3073  32 x 32 red values, then green, then blue, row-major

The files are POET_DATA's cifar-100-binary/train.bin (50,000 records) and test.bin (10,000), as the
archive of Krizhevsky unpacks. An image's features keep the file's order: channel, row, column.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from projection_nets.data.images import ImageSplits, LabelledImages, divided, labelled
from projection_nets.data.reading import read_bytes, refused

RECORD_BYTES = 2 + 3 * 32 * 32
_CLASSES, _COARSE_CLASSES = 100, 20
_TRAIN_COUNT = 45_000
_VALIDATION_COUNT = 5_000
_TEST_COUNT = 10_000


def cifar100(data_root: Path, *, seed: int = 0) -> ImageSplits:
    """45,000 / 5,000 / 10,000 images of 3,072 values; `seed` chooses which are held out.

    Raises DataError: those of `read_cifar100`, and `data_counts_differ`.
    """
    folder = data_root / "cifar-100-binary"
    whole = read_cifar100(folder / "train.bin", records=_TRAIN_COUNT + _VALIDATION_COUNT)
    train, validation = divided(whole, (_TRAIN_COUNT, _VALIDATION_COUNT), seed)
    test = read_cifar100(folder / "test.bin", records=_TEST_COUNT)
    return ImageSplits(
        name="cifar100", classes=_CLASSES, train=train, validation=validation, test=test
    )


def read_cifar100(path: Path, *, records: int) -> LabelledImages:
    """The images of one file and their fine labels.

    Raises DataError: `data_file_missing`, `data_file_unreadable`, `cifar_size`,
    `data_label_invalid`.
    """
    expected_bytes = records * RECORD_BYTES
    content = read_bytes(path, limit_bytes=2 * expected_bytes)
    if len(content) != expected_bytes:
        raise refused(
            path,
            "cifar_size",
            f"expected {records} records of {RECORD_BYTES} bytes ({expected_bytes}), got "
            f"{len(content)} bytes",
            "The file was cut off, is CIFAR-10's, or is the other part; fetch it again.",
        )
    rows = np.frombuffer(content, dtype=np.uint8).reshape(records, RECORD_BYTES)
    wrong = np.flatnonzero((rows[:, 0] >= _COARSE_CLASSES) | (rows[:, 1] >= _CLASSES))
    if len(wrong):
        coarse, fine = rows[wrong[0], :2]
        raise refused(
            path,
            "data_label_invalid",
            f"expected labels below {_COARSE_CLASSES} and {_CLASSES}, got {coarse} and {fine} in "
            f"record {wrong[0]}",
            "The file is damaged or of another format; fetch it again.",
        )
    return labelled(rows[:, 2:], rows[:, 1], classes=_CLASSES, name=str(path))
