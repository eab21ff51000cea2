"""The conversation with a child, as the parent reads and writes it: JSON lines.

    parent -> child   {"request": {...}, "warm_start": {poet.plan/1} or null, "limits": {...}}
                      stop                     end within a second, with what there is
    child -> parent   {"t":"incumbent","plan":{poet.plan/1}}
                      {"t":"bound","value":1.5}
                      {"t":"progress","message":"..."}
                      {"t":"log","text":"..."}
                      {"t":"done","plan":{poet.plan/1}}      the last line, or
                      {"t":"error","error":{code, detail, hint, kind, ...}}

Invariant: a child is not trusted to be sane. No line and no sum of lines is longer than allowed,
nothing is parsed before that is known, and plans are left for the judge. Every line names its kind
first, so that a plan which is overtaken at once need not be parsed.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from poet_core.documents import Limits, parse_json
from poet_core.errors import DocumentError
from poet_core.text import printable
from poet_service.execution.failures import checked_document

STOP_LINE = b"stop\n"

_KIND = re.compile(rb'\{"t":"([a-z]{1,16})",')
_MOST_MESSAGE_CHARACTERS = 500
_MOST_LOG_LINES = 1000
_DEPTH = 16


class BabbleError(Exception):
    """The child said something that is not of this conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanLine:
    """A plan, not looked at yet. `final`: the child has ended with it."""

    line: bytes
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class BoundLine:
    """What no plan can cost less than, as the child claims."""

    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgressLine:
    """A sentence of the planner's."""

    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LogLine:
    """Lines for the log, each ended."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLine:
    """The child has ended without a plan."""

    error: dict[str, Any]


Message = PlanLine | BoundLine | ProgressLine | LogLine | ErrorLine


def first_line(
    request: bytes, warm_start: bytes | None, *, memory_bytes: int, threads: int
) -> bytes:
    """What a child is told at the beginning. Both documents are canonical JSON: without newlines."""
    assert b"\n" not in request
    assert warm_start is None or b"\n" not in warm_start
    limits = json.dumps({"memory_bytes": memory_bytes, "threads": threads}).encode()
    start = warm_start or b"null"
    return b'{"request":' + request + b',"warm_start":' + start + b',"limits":' + limits + b"}\n"


class LineBuffer:
    """Cuts what a child writes into lines, within its limits."""

    def __init__(self, *, line_bytes: int, output_bytes: int) -> None:
        self._line_bytes, self._left_bytes = line_bytes, output_bytes
        self._part = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises BabbleError."""
        self.count(data)
        *ended, rest = data.split(b"\n")
        lines: list[bytes] = []
        for part in ended:
            self._extend(part)
            lines.append(bytes(self._part))
            self._part.clear()
        self._extend(rest)
        return lines

    def count(self, data: bytes) -> None:
        """Bytes that are no lines count all the same. Raises BabbleError."""
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise BabbleError("it wrote more than a solve may")

    def _extend(self, part: bytes) -> None:
        if len(self._part) + len(part) > self._line_bytes:
            raise BabbleError(f"it wrote a line of more than {self._line_bytes} bytes")
        self._part += part


def read_message(line: bytes) -> Message:
    """The message in a line. Raises BabbleError."""
    found = _KIND.match(line)
    kind = found.group(1) if found else b""
    if kind in (b"incumbent", b"done"):
        return PlanLine(line=line, final=kind == b"done")
    if kind not in (b"bound", b"progress", b"log", b"error"):
        raise BabbleError(f"it wrote {_quoted(line)}")
    fields = _parsed(line)
    if kind == b"error":
        error = fields.get("error")
        document = checked_document(error) if isinstance(error, dict) else None
        if document is None:
            raise BabbleError(f"it wrote {_quoted(line)}")
        return ErrorLine(error=document)
    if kind == b"bound":
        value = fields.get("value")
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not math.isfinite(value)
        ):
            raise BabbleError(f"it wrote {_quoted(line)}")
        return BoundLine(value=float(value))
    text = fields.get("message" if kind == b"progress" else "text")
    if not isinstance(text, str):
        raise BabbleError(f"it wrote {_quoted(line)}")
    if kind == b"log":
        lines = text.splitlines()[:_MOST_LOG_LINES]
        return LogLine(
            text="".join(f"{printable(one, _MOST_MESSAGE_CHARACTERS)}\n" for one in lines)
        )
    return ProgressLine(message=printable(text, _MOST_MESSAGE_CHARACTERS))


def plan_in(message: PlanLine, limits: Limits) -> Any:
    """The plan document of a line. Raises BabbleError."""
    return _parsed(message.line, limits).get("plan")


def _parsed(line: bytes, limits: Limits | None = None) -> dict[str, Any]:
    limits = limits or Limits(document_bytes=len(line), depth=_DEPTH, values=10_000)
    try:
        fields = parse_json(line, limits)
    except DocumentError as error:
        raise BabbleError(f"it wrote {_quoted(line)} ({error.message})") from None
    if not isinstance(fields, dict):
        raise BabbleError(f"it wrote {_quoted(line)}")
    return fields


def _quoted(line: bytes) -> str:
    return printable(line[:80].decode("utf-8", "replace"), 80)
