"""IDX files (the format of MNIST), gzipped or raw, read without trusting their header.

    offset  bytes  what
    0       2      zero
    2       1      type; 8 = unsigned byte, the only one that MNIST and its kin use
    3       1      number of dimensions
    4       4 x n  the dimensions, big-endian
    ...            the values, row-major

Invariant: at most `VALUES_LIMIT` values are ever decompressed, whatever a header or a gzip stream
claims, and a file that is shorter or longer than its header says is refused.
"""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import numpy.typing as npt

from poet_core.errors import DataError
from poet_core.text import printable

VALUES_LIMIT = 2**30
"""One GiB; MNIST's largest file holds 47,040,000 values."""

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 8


def read_idx(path: Path, *, dimensions: int) -> npt.NDArray[np.uint8]:
    """The array of an IDX file of unsigned bytes with so many dimensions.

    Raises DataError: `data_file_missing`, `data_file_unreadable`, `idx_magic`, `idx_truncated`,
    `idx_too_long`, `idx_too_large`.
    """
    try:
        with path.open("rb") as file:
            zipped = file.read(2) == _GZIP_MAGIC  # by content: a suffix can lie
            file.seek(0)
            if not zipped:
                return _parsed(file, path, dimensions)
            with gzip.GzipFile(fileobj=file) as unzipped:
                return _parsed(cast(BinaryIO, unzipped), path, dimensions)
    except FileNotFoundError as error:
        raise _refused(
            path,
            "data_file_missing",
            "does not exist",
            "Set POET_DATA to the folder that holds the data sets, or use the bundled digits.",
        ) from error
    except EOFError as error:  # gzip's own word for a stream that stops early
        raise _truncated(path, "its gzip stream stops early") from error
    except (OSError, zlib.error) as error:
        raise _refused(
            path, "data_file_unreadable", f"cannot be read ({error})", "Fetch the file again."
        ) from error


def _parsed(file: BinaryIO, path: Path, dimensions: int) -> npt.NDArray[np.uint8]:
    expected = bytes((0, 0, _UNSIGNED_BYTE, dimensions))
    magic = file.read(4)
    if magic != expected:
        raise _refused(
            path,
            "idx_magic",
            f"expected to begin with {expected.hex()} (IDX, unsigned bytes, {dimensions} "
            f"dimensions), got {magic.hex() or 'nothing'}",
            "Images have 3 dimensions and labels 1: perhaps the two files are swapped.",
        )
    sizes_bytes = file.read(4 * dimensions)
    if len(sizes_bytes) < 4 * dimensions:
        raise _truncated(path, f"its header ends after {4 + len(sizes_bytes)} bytes")
    sizes = [int(size) for size in np.frombuffer(sizes_bytes, dtype=">u4")]
    count = math.prod(sizes)
    if count > VALUES_LIMIT:
        raise _refused(
            path,
            "idx_too_large",
            f"expected at most {VALUES_LIMIT} values, its header claims {count}",
            "The file is damaged; fetch it again.",
        )
    values = file.read(count)
    if len(values) < count:
        raise _truncated(path, f"expected {count} values, got {len(values)}")
    if file.read(1):
        raise _refused(
            path,
            "idx_too_long",
            f"expected to end after {count} values, but more follow",
            "The header and the content do not belong together; fetch the file again.",
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(sizes)


def _truncated(path: Path, reason: str) -> DataError:
    return _refused(path, "idx_truncated", reason, "The file was cut off; fetch it again.")


def _refused(path: Path, code: str, reason: str, hint: str) -> DataError:
    return DataError(
        f"Data file {printable(str(path))}: {printable(reason)}.", code=code, hint=hint
    )
