"""Logging of a service process: one JSON object a line on stderr, payloads never."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


class JsonFormatter(logging.Formatter):
    """Time, level, and what was logged: our own records are JSON already, others are a message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
        }
        message = record.getMessage()
        if record.name == "poet_service":
            line |= json.loads(message)
        else:
            line |= {"event": "log", "logger": record.name, "message": message}
            if record.exc_info:
                line["error"] = getattr(record.exc_info[0], "__name__", "unknown")
        return json.dumps(line, ensure_ascii=True)


def configure_logging() -> None:
    """Send the process's log to stderr as JSON. Called by who owns the process, never on import."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger("poet_service").setLevel(logging.INFO)
