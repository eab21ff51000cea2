"""Where a token comes from: the argument, POET_TOKEN, or the file that POET_TOKEN_FILE names.

A file is the best place: an argument shows in lists of processes, a variable in those of children.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from poet_core.errors import UsageError
from poet_core.text import printable

VARIABLE, FILE_VARIABLE = "POET_TOKEN", "POET_TOKEN_FILE"
_MOST_BYTES = 4096


def find_token(given: str | None, environment: Mapping[str, str]) -> str | None:
    """The token, or None where none was given. Raises UsageError (`token_file_unreadable`)."""
    if given is not None:
        return given
    if environment.get(VARIABLE):
        return environment[VARIABLE].strip()
    if environment.get(FILE_VARIABLE):
        return _read(Path(environment[FILE_VARIABLE]))
    return None


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_BYTES + 1)
        if len(data) <= _MOST_BYTES:
            return data.decode("ascii").strip()
        reason = f"it has more than {_MOST_BYTES} bytes"
    except UnicodeDecodeError:
        reason = "it holds other characters than ASCII"
    except (OSError, ValueError) as error:
        reason = str((isinstance(error, OSError) and error.strerror) or error)
    raise UsageError(
        f"Cannot read the token in {printable(str(path))!r}: {printable(reason, 100)}.",
        code="token_file_unreadable",
        hint=f"{FILE_VARIABLE} names a file with one token in it.",
    )
