"""Logging of a service process: one JSON object a line on stderr, payloads never.

What is logged are events with figures, ids and codes. Names out of documents and messages of
unforeseen errors, which may quote them, are no fields of any event. The id of the request that is
being answered is added to every line that is written on its behalf, in whichever thread.
"""

from __future__ import annotations

import json
import logging
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

from poet_core.text import printable

LOGGER = logging.getLogger("poet_service")
REQUEST_ID: ContextVar[str | None] = ContextVar("poet_request_id", default=None)

Field = str | int | float | bool | None | list[str]


def event(name: str, /, *, level: int = logging.INFO, **fields: Field) -> None:
    """Log that something happened, e.g. `event("solve_lost", solve_id=..., attempt=2)`."""
    if not LOGGER.isEnabledFor(level):
        return
    line: dict[str, Field] = {"event": name}
    request_id = REQUEST_ID.get()
    if request_id is not None:
        line["request_id"] = request_id
    for key, value in fields.items():
        line[key] = printable(value, 200) if isinstance(value, str) else value
    LOGGER.log(level, "%s", json.dumps(line), extra={"poet_event": line})


def failure(error: BaseException, **fields: Field) -> None:
    """Log where an unforeseen error happened, without its message, which may quote a payload."""
    frames = traceback.extract_tb(error.__traceback__)
    event(
        "failure",
        level=logging.ERROR,
        error=str(getattr(error, "code", type(error).__name__)),
        trace=[f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
        **fields,
    )


class JsonFormatter(logging.Formatter):
    """Time, level, and what was logged: our own events as they are, others as a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        ours = getattr(record, "poet_event", None)
        if ours is not None:
            line |= ours
        else:
            line |= {
                "event": "log",
                "logger": record.name,
                "message": printable(record.getMessage(), 500),
            }
            if record.exc_info:
                line["error"] = getattr(record.exc_info[0], "__name__", "unknown")
        return json.dumps(line, ensure_ascii=True)


class StderrHandler(logging.StreamHandler[TextIO]):
    """To standard error as it is when a line is written, which need not be what it was: whoever
    replaced it for a while has closed theirs. A log that nobody can be given is no error."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class has a variable
        """Asked for at each line."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  logging's name
        """A stream that is closed cannot be told either."""
        if sys.stderr is not None and not sys.stderr.closed:
            super().handleError(record)


def configure_logging(level: str = "info") -> None:
    """Send the process's log to stderr as JSON. Called by who owns the process, never on import."""
    handler = StderrHandler()
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    LOGGER.setLevel(level.upper())
