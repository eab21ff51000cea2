"""Documents from and to disk: bounded when read, whole when written.

`-` is standard input or output. A file that is written appears complete or not at all.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from poet_core.device import DeviceProfile
from poet_core.device_document import PROFILE_LIMITS, read_device, read_device_toml
from poet_core.documents import DEFAULT_LIMITS
from poet_core.errors import DocumentError, PoetError, UsageError
from poet_core.graph import TrainingGraph
from poet_core.graph_document import read_graph
from poet_core.plan import Plan
from poet_core.plan_document import read_plan
from poet_core.text import printable

_MOST_NAMES = 2000  # of a folder, looked at for the nearest name
_SCHEMA = re.compile(rb'"schema"\s*:\s*"poet\.([a-z]{1,20})/')


def read_file(path: Path, most_bytes: int) -> bytes:
    """The bytes of a file of at most `most_bytes`. Raises UsageError or DocumentError."""
    try:
        if str(path) == "-":
            data = sys.stdin.buffer.read(most_bytes + 1)
        else:
            with path.open("rb") as file:
                data = file.read(most_bytes + 1)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Cannot read {printable(str(path))!r}: {_reason(error)}.",
            code="file_unreadable",
            hint=_instead(path) if isinstance(error, FileNotFoundError) else "Check the path.",
        ) from error
    if len(data) > most_bytes:
        raise DocumentError(
            f"Expected at most {most_bytes} bytes in {printable(str(path))!r}, got more.",
            code="document_too_large",
            hint="Is this the right file?",
        )
    return data


def _instead(path: Path) -> str:
    """What to try where there is no such file: one with a similar name, or how one is made."""
    from difflib import get_close_matches

    try:
        names = [
            each.name for each, _ in zip(path.parent.iterdir(), range(_MOST_NAMES), strict=False)
        ]
    except OSError:
        return f"There is no folder {printable(str(path.parent), 80)!r}; check the path."
    near = get_close_matches(path.name[:80], names, n=1)
    meant = f"Did you mean {printable(str(path.parent / near[0]), 120)}? " if near else ""
    if path.name.endswith(".graph.json"):
        return f"{meant}Make it: poet trace MODULE:FUNCTION -o {printable(str(path), 120)}"
    return meant.strip() or "Check the path; `poet trace` writes graphs, `poet plan` plans."


def load_graph(path: Path) -> TrainingGraph:
    """The graph in a file; errors name the file."""
    with _named(path):
        text = read_file(path, DEFAULT_LIMITS.document_bytes)
        with _told_apart(text, "graph"):
            return read_graph(text)


def load_plan(path: Path) -> Plan:
    """The plan in a file; errors name the file."""
    with _named(path):
        text = read_file(path, DEFAULT_LIMITS.document_bytes)
        with _told_apart(text, "plan"):
            return read_plan(text)


def load_device_file(path: Path) -> DeviceProfile:
    """The profile in a TOML or JSON file; errors name the file."""
    with _named(path):
        text = read_file(path, PROFILE_LIMITS.document_bytes)
        return read_device(text) if path.suffix == ".json" else read_device_toml(text)


def keep_inputs(inputs: Iterable[Path], outputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read. Raises UsageError (`output_is_input`)."""
    read = {_whole(path) for path in inputs if str(path) != "-"}
    for path in outputs:
        if path is not None and str(path) != "-" and _whole(path) in read:
            raise UsageError(
                f"Expected another file for the output than the input {printable(str(path))!r}.",
                code="output_is_input",
                hint="Give the output another name.",
            )


def _whole(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):  # what cannot be resolved is refused when opened
        return path


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file. Raises UsageError (`file_unwritable`)."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    try:
        if path.exists() and not path.is_file():  # a device or a pipe is written through
            path.write_bytes(data)
            return
        _replace(path, data)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"Cannot write {printable(str(path))!r}: {_reason(error)}.",
            code="file_unwritable",
            hint="Check the folder and its permissions.",
        ) from error


def _replace(path: Path, data: bytes) -> None:
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:40]}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        Path(name).chmod(0o666 & ~umask)
        Path(name).replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


@contextlib.contextmanager
def _told_apart(text: bytes, wanted: str) -> Iterator[None]:
    """A document of another kind is named as what it says that it is."""
    try:
        yield
    except DocumentError as error:
        said = _SCHEMA.search(text)
        if said is not None and (kind := said.group(1).decode()) != wanted:
            error.hint = (
                f"It says that it is a poet.{kind} document, and a {wanted} is expected here."
            )
        raise


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    try:
        yield
    except UsageError:
        raise
    except PoetError as error:
        error.message = f"{printable(str(path), 80)}: {error.message}"
        error.hint = error.hint or "Is this the right file, written by this version?"
        raise


def _reason(error: Exception) -> str:
    return printable((isinstance(error, OSError) and error.strerror) or str(error), 100)
