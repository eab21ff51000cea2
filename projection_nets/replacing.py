"""A file written whole or not at all: beside its place first, then renamed into it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from poet_core.errors import DataError
from poet_core.text import printable


def replace_file(path: Path, content: bytes, *, what: str) -> None:
    """Writes `content` so that a crash leaves the old file or the new one.

    Raises DataError (`model_file_unwritable`); `what` names the file in its message.
    """
    with replacing(path, what=what) as file:
        file.write(content)


@contextmanager
def replacing(path: Path, *, what: str) -> Iterator[BinaryIO]:
    """A file to write to; it takes its place when the block ends, and not if the block fails.

    Raises DataError (`model_file_unwritable`), also for an OSError of the block.
    """
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; an exported model is to be shared
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise DataError(
            f"Cannot write {what} {printable(str(path))}: {error.strerror}.",
            code="model_file_unwritable",
            hint="Check that the folder exists, is writable and has room.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)
