"""The report in an artifact, read as what it is: bytes that any author of a pull request can write.

Invariant: nothing is extracted to disk and no name in the archive is used; one known name is read,
at most `LARGEST_REPORT_BYTES` of it, whatever the archive claims; what comes out is a `Report`.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib

from action.problems import ActionError
from poet_cli.check.report import Report
from poet_core.errors import PoetError

NAME = "report.json"
LARGEST_ARCHIVE_BYTES = 2 * 2**20
LARGEST_REPORT_BYTES = 4 * 2**20
"""Thousands of rows; the comment shows what fits into 65,536 characters."""
_MOST_FILES = 16  # one is written; a central directory of many thousands is slow to read
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
# What zipfile raises at an archive that is damaged, encrypted or from another world.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
)


def report_in(archive: bytes) -> Report:
    """The report in a downloaded artifact. Raises ActionError (`artifact_refused`)."""
    text = _member(archive)
    from poet_cli.check.formats.document import read_report

    try:
        return read_report(text)
    except PoetError as error:
        raise _refusal(f"{NAME} is not a report: {error.message}") from error


def _member(archive: bytes) -> bytes:
    try:
        with zipfile.ZipFile(io.BytesIO(archive)) as opened:
            names = opened.namelist()
            if len(names) > _MOST_FILES:
                raise _refusal(f"it holds {len(names)} files, at most {_MOST_FILES} are expected")
            if names.count(NAME) != 1:
                raise _refusal(f"it holds {names.count(NAME)} files named {NAME}, expected one")
            if opened.getinfo(NAME).compress_type not in _COMPRESSIONS:
                raise _refusal(f"{NAME} is compressed in an unusual way")
            with opened.open(NAME) as member:
                text = member.read(LARGEST_REPORT_BYTES + 1)
    except _DAMAGED as error:
        raise _refusal("it is not a zip archive that can be read") from error
    if len(text) > LARGEST_REPORT_BYTES:
        raise _refusal(f"{NAME} holds more than {LARGEST_REPORT_BYTES} bytes")
    return text


def _refusal(why: str) -> ActionError:
    return ActionError(
        f"The artifact was refused: {why}.",
        code="artifact_refused",
        hint="See the pull request's own run. Nothing of the artifact was shown.",
    )
