"""Text files of data sets, read without trusting them: bounded, decoded strictly, parsed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from poet_core.errors import DataError
from poet_core.text import printable

FILE_LIMIT_BYTES = 2**27
"""128 MiB; the largest text file of these data sets has 3 MB."""


def read_bytes(path: Path, *, limit_bytes: int = FILE_LIMIT_BYTES) -> bytes:
    """The content of a file.

    Raises DataError: `data_file_missing`, `data_file_unreadable`, `data_file_too_large`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(limit_bytes + 1)
    except FileNotFoundError as error:
        raise refused(
            path,
            "data_file_missing",
            "does not exist",
            "Set POET_DATA to the folder that holds the data sets.",
        ) from error
    except OSError as error:
        reason = f"cannot be read ({error.strerror})"
        raise refused(path, "data_file_unreadable", reason, "Fetch the file again.") from error
    if len(content) > limit_bytes:
        raise refused(
            path,
            "data_file_too_large",
            f"expected at most {limit_bytes} bytes",
            "The file is not of this data set; fetch it again.",
        )
    return content


def read_text(path: Path, *, stray_latin_1: bool = False) -> str:
    """The UTF-8 text of a file; raises DataError also where it is none (`data_encoding`).

    `stray_latin_1`: bytes that are no UTF-8 are latin-1, as in a file that was saved as both.
    """
    content = read_bytes(path)
    if stray_latin_1:
        text = content.decode("utf-8", "surrogateescape")
        strays = {0xDC00 + byte: byte for byte in range(0x80, 0x100)}
        return text.translate(strays)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise refused(
            path,
            "data_encoding",
            f"expected UTF-8, got byte {error.object[error.start]:#04x} at {error.start}",
            "The file is damaged or was saved again in another encoding; fetch it again.",
        ) from error


def read_json(path: Path, *, stray_latin_1: bool = False) -> Any:
    """The JSON value of a file; raises DataError also where it is none (`data_json`)."""
    try:
        return json.loads(read_text(path, stray_latin_1=stray_latin_1))
    except (ValueError, RecursionError) as error:
        raise refused(
            path,
            "data_json",
            f"is no JSON ({printable(str(error))[:120]})",
            "The file was cut off or damaged; fetch it again.",
        ) from error


def refused(path: Path, code: str, reason: str, hint: str) -> DataError:
    """The error of a data file."""
    return DataError(
        f"Data file {printable(str(path))}: {printable(reason)}.", code=code, hint=hint
    )
