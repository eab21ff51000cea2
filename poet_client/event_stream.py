"""Server-sent events, read as the HTML standard says, without any input or output.

Invariant: however the bytes are cut, the events are the same; a line, an event and a stream have a
most length, for the sender is a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.errors import ServiceError

_MOST_LINE_BYTES = 2**18
_MOST_DATA_BYTES = 2**18
_MOST_STREAM_BYTES = 2**24  # an hour of four events a second, four times over


@dataclass(frozen=True, slots=True)
class Frame:
    """One event as it was sent: the last id so far, its type, its data."""

    last_id: str
    kind: str
    data: str


class FrameReader:
    """Bytes in, frames out. `last_id` is what to ask for after a broken connection."""

    def __init__(self, last_id: str = "", most_bytes: int = _MOST_STREAM_BYTES) -> None:
        self.last_id, self._most_bytes = last_id, most_bytes
        self._rest = bytearray()
        self._after_return = False  # a line ended with CR; an LF that follows belongs to it
        self._first = True
        self._kind, self._data, self._data_bytes, self._total = "", list[str](), 0, 0

    def feed(self, chunk: bytes) -> list[Frame]:
        """The frames that these bytes complete. Raises ServiceError (`server_answer_too_large`,
        `server_answer_invalid`)."""
        self._total += len(chunk)
        if self._total > self._most_bytes:
            raise _too_long("stream of events", self._most_bytes)
        frames = []
        for line in self._lines(chunk):
            frame = self._take(line)
            if frame is not None:
                frames.append(frame)
        return frames

    def _lines(self, chunk: bytes) -> list[bytes]:
        """The lines that are whole now, ended by CR LF, LF or CR."""
        if self._after_return and chunk:
            chunk = chunk.removeprefix(b"\n")
            self._after_return = False
        if chunk.endswith(b"\r"):
            self._after_return = True
        before = len(self._rest)
        self._rest += chunk
        if b"\n" not in chunk and b"\r" not in chunk:
            if before + len(chunk) > _MOST_LINE_BYTES:
                raise _too_long("line", _MOST_LINE_BYTES)
            return []
        *whole, rest = bytes(self._rest).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._rest = bytearray(rest)
        if max(map(len, whole), default=0) > _MOST_LINE_BYTES or len(rest) > _MOST_LINE_BYTES:
            raise _too_long("line", _MOST_LINE_BYTES)
        return whole

    def _take(self, line: bytes) -> Frame | None:
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ServiceError(
                "The server's stream of events is not UTF-8.",
                code="server_answer_invalid",
                hint="Is this address a planning service?",
            ) from error
        if self._first:
            text, self._first = text.removeprefix("\ufeff"), False
        if not text:
            return self._end()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "event":
            self._kind = value
        elif name == "data":
            self._data_bytes += len(value) + 1
            if self._data_bytes > _MOST_DATA_BYTES:
                raise _too_long("event", _MOST_DATA_BYTES)
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last_id = value
        return None  # comments begin with a colon; other fields mean nothing here

    def _end(self) -> Frame | None:
        kind, data = self._kind or "message", self._data
        self._kind, self._data, self._data_bytes = "", [], 0
        return Frame(self.last_id, kind, "\n".join(data)) if data else None


def _too_long(what: str, most: int) -> ServiceError:
    return ServiceError(
        f"The server sends a {what} of more than {most} bytes.",
        code="server_answer_too_large",
        hint="Is this address a planning service?",
    )
