"""IDX files: right ones are read, and every wrong one gets its own code."""

import gzip
import struct

import numpy as np
import pytest

from poet_core.errors import DataError
from projection_nets.data.idx import read_idx

VALUES = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


def idx(values=VALUES, kind=8):
    header = struct.pack(f">BBBB{values.ndim}I", 0, 0, kind, values.ndim, *values.shape)
    return header + values.tobytes()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "images"


def refusal(path, dimensions=3):
    with pytest.raises(DataError) as caught:
        read_idx(path, dimensions=dimensions)
    assert str(path) in caught.value.message
    assert caught.value.hint
    return caught.value.code


def test_gzipped_and_raw_files_are_read_whatever_their_name(path):
    for content in (idx(), gzip.compress(idx())):
        path.write_bytes(content)
        assert read_idx(path, dimensions=3).tolist() == VALUES.tolist()


def test_every_truncation_of_a_raw_file_is_noticed(path):
    for length in range(len(idx())):
        path.write_bytes(idx()[:length])
        assert refusal(path) == ("idx_magic" if length < 4 else "idx_truncated")


def test_every_truncation_of_a_gzipped_file_is_noticed(path):
    content = gzip.compress(idx())
    for length in range(2, len(content)):
        path.write_bytes(content[:length])
        assert refusal(path) == "idx_truncated"


@pytest.mark.parametrize(
    "content",
    [idx(kind=9), idx(VALUES[0]), b"", b"\x89PNG\r\n\x1a\n", b"<html>not found</html>"],
    ids=["kind", "dimensions", "empty", "png", "html"],
)
def test_another_magic_is_refused(path, content):
    path.write_bytes(content)
    assert refusal(path) == "idx_magic"


def test_trailing_bytes_are_refused(path):
    path.write_bytes(idx() + b"\0")
    assert refusal(path) == "idx_too_long"


def test_a_claimed_terabyte_is_refused_before_anything_is_read(path):
    path.write_bytes(struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 2**10, 2**10) + b"\0" * 9)
    assert refusal(path) == "idx_too_large"


def test_a_gzip_bomb_is_not_inflated(path):
    # 64 MiB of zeros behind a header of 24 values: reading stops at the first byte too many
    path.write_bytes(gzip.compress(idx() + bytes(2**26)))
    assert path.stat().st_size < 2**20
    assert refusal(path) == "idx_too_long"


def test_damaged_gzip_is_refused(path):
    content = bytearray(gzip.compress(idx(np.zeros((2, 3, 400), dtype=np.uint8))))
    content[-6] ^= 0xFF  # its stored CRC-32
    path.write_bytes(content)
    assert refusal(path) == "data_file_unreadable"
    path.write_bytes(b"\x1f\x8b\x08" + b"\xff" * 50)
    assert refusal(path) in {"data_file_unreadable", "idx_truncated"}


def test_missing_files_and_folders_are_refused(path, tmp_path):
    assert refusal(path) == "data_file_missing"
    assert refusal(tmp_path) == "data_file_unreadable"
