"""What a conversation with a service is made of, without any input or output.

A *flow* is a generator that yields what it wants done and gets what came of it; a transport,
synchronous or asynchronous, does it. So retries, waiting and reading are written once.

    Send     a request                     -> Reply
    Open     a request for a stream        -> None, or the Reply that is no stream
    Read     more of the stream            -> bytes, b"" at its end
    Close    the stream                    -> None
    Pause    for some seconds              -> None
    Emit     something for the caller      -> None

What goes wrong comes back into the flow as an exception: ServiceError for the network's and the
server's faults, and whatever interrupted the caller (KeyboardInterrupt, CancelledError), so that a
flow may still say goodbye to the server.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request. `path` begins at the base address; `answer_seconds`: what its answer may take;
    `repeatable`: whether asking twice does no more than asking once."""

    method: str
    path: str
    most_bytes: int
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    answer_seconds: float = 30.0
    repeatable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Status, body, and the two headers that matter."""

    status: int
    body: bytes
    content_type: str = ""
    retry_after: str = ""


@dataclass(frozen=True, slots=True)
class Send:
    """Ask, and read the whole answer within the seconds."""

    request: Request
    timeout_seconds: float


@dataclass(frozen=True, slots=True)
class Open:
    """Ask for a stream. `quiet_seconds`: the longest silence on it. There is one at a time."""

    request: Request
    timeout_seconds: float
    quiet_seconds: float


@dataclass(frozen=True, slots=True)
class Read:
    """The next bytes of the open stream."""


@dataclass(frozen=True, slots=True)
class Close:
    """End the open stream, where one is."""


@dataclass(frozen=True, slots=True)
class Pause:
    """Do nothing for so long."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Emit:
    """Something that the caller may hear of."""

    value: Any


Effect: TypeAlias = Send | Open | Read | Close | Pause | Emit
Flow: TypeAlias = Generator[Effect, Any, _Value]


class Deadline:
    """So many seconds from now, by a monotonic clock."""

    __slots__ = ("_clock", "_ends", "seconds")

    def __init__(self, seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self._ends = clock() + seconds

    def left(self) -> float:
        """The seconds that are left; 0 or less: none."""
        return self._ends - self._clock()


def send(request: Request, timeout_seconds: float) -> Flow[Reply]:
    """The answer to a request. Raises ServiceError."""
    reply = yield Send(request, timeout_seconds)
    assert isinstance(reply, Reply)
    return reply


def open_stream(
    request: Request, timeout_seconds: float, quiet_seconds: float
) -> Flow[Reply | None]:
    """None where the stream is open, else the answer that is none. Raises ServiceError."""
    reply = yield Open(request, timeout_seconds, quiet_seconds)
    assert reply is None or isinstance(reply, Reply)
    return reply


def read_stream() -> Flow[bytes]:
    """More of the stream; nothing at its end. Raises ServiceError."""
    data = yield Read()
    assert isinstance(data, bytes)
    return data
