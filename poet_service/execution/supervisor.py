"""One child, watched: its conversation, its limits, its end.

    with Child(nursery, limits, first_line, wall_seconds) as child:
        for message in child.messages():        # None about ten times a second
            ...
            child.stop()                        # it gets a moment to say what it has
    child.end, child.last_words

Invariant: after the `with`, no process of the child's group lives and its folder is gone. Nothing
that a child does or leaves undone makes `messages` last longer than its wall limit, the grace and a
moment. Solver processes under a child that was killed follow within a quarter second
(poet_solvers.backends.supervisor).
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import time
from collections.abc import Iterator
from enum import Enum
from types import TracebackType
from typing import Self

from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.nursery import ChildEnds, Nursery
from poet_service.execution.protocol import (
    STOP_LINE,
    BabbleError,
    ErrorLine,
    LineBuffer,
    Message,
    PlanLine,
    read_message,
)

_TICK_SECONDS = 0.1
_READ_BYTES = 2**18
_LAST_WORDS_BYTES = 8192
# A killed process is gone in a moment; a warm process that does not say so is stuck itself.
_GONE_SECONDS = 5.0


class ChildEnd(Enum):
    """How a child ended. Each member's value is its sentence."""

    ANSWERED = "The planner ended by itself and said what it has."
    KILLED = "The planner was killed because its answer was no longer wanted or came too slowly."
    OVERRAN = "The planner did not end at its wall limit and was killed."
    OUT_OF_MEMORY = "The planner reached its memory limit and was killed by it."
    CRASHED = "The planner's process died."
    BABBLED = "The planner's process wrote what is no answer and was killed."
    LOST = "The warm process died, and the planner with it."


class Child:
    """See the module. One thread uses it."""

    def __init__(
        self, nursery: Nursery, limits: ExecutionLimits, first_line: bytes, wall_seconds: float
    ) -> None:
        self._nursery, self._limits = nursery, limits
        self._to_write = memoryview(first_line)
        self._wall_seconds = wall_seconds
        self._lines = LineBuffer(line_bytes=limits.line_bytes, output_bytes=limits.output_bytes)
        self._last_words = bytearray()
        self._leash_words = b""
        self._stopping: float | None = None  # when it is killed for not having stopped
        self._answered = self._overran = self._killed = self._leash_ended = False
        self._babble: BabbleError | None = None
        self._selector = selectors.DefaultSelector()
        self._cleanup = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with self._cleanup:
            self._ends = self._cleanup.enter_context(self._nursery.new_child(self._limits))
            self._cleanup.callback(self._selector.close)
            self._watch(self._ends)
            self._cleanup.callback(self._kill_and_wait)
            self._cleanup = self._cleanup.pop_all()
        self._deadline = time.monotonic() + self._wall_seconds + self._limits.wall_grace_seconds
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._cleanup.close()

    def messages(self) -> Iterator[Message | None]:
        """What the child says, until it has ended or is to be killed; None when it says nothing."""
        try:
            while not self._over():
                yield from self._step(_TICK_SECONDS)
                yield None
            yield from self._rest()
        except BabbleError as error:
            self._babble = error

    def stop(self) -> None:
        """Ask it to end; it is killed where it has not within `stop_seconds`. Again: nothing."""
        if self._stopping is None:
            self._stopping = time.monotonic() + self._limits.stop_seconds
            self._to_write = memoryview(bytes(self._to_write) + STOP_LINE)
            self._register_writer()

    def kill(self) -> None:
        """End it without waiting for what it has."""
        self._killed = True

    @property
    def end(self) -> ChildEnd:
        """How it ended; known after the `with`."""
        if self._answered:
            return ChildEnd.ANSWERED
        if self._babble is not None:
            return ChildEnd.BABBLED
        if self._overran:
            return ChildEnd.OVERRAN
        if self._killed:
            return ChildEnd.KILLED
        status = self._exit_status()
        if status is None:
            return ChildEnd.LOST
        crashed, peak_bytes = status
        # Half of the address space held in RAM: what then fails, fails for want of memory.
        near = crashed != 0 and 2 * peak_bytes > self._limits.memory_bytes
        return ChildEnd.OUT_OF_MEMORY if near else ChildEnd.CRASHED

    @property
    def process_id(self) -> int | None:
        """The child's, once it has begun."""
        found = re.match(rb"pid (\d+)\n", self._leash_words)
        return int(found.group(1)) if found else None

    @property
    def last_words(self) -> str:
        """For the operator: what was wrong with its lines, its exit, the end of its standard error."""
        said = f"{self._babble}; " if self._babble is not None else ""
        leash = self._leash_words.decode("ascii", "replace").strip().replace("\n", ", ")
        return f"{said}{leash}; {self._last_words.decode('utf-8', 'replace')}"

    # -- the conversation ---------------------------------------------------------------------

    def _watch(self, ends: ChildEnds) -> None:
        for descriptor in (ends.words_in, ends.words_out, ends.last_words):
            os.set_blocking(descriptor, False)
        ends.leash.setblocking(False)
        self._selector.register(ends.words_out, selectors.EVENT_READ, self._read_words)
        self._selector.register(ends.last_words, selectors.EVENT_READ, self._read_last_words)
        self._selector.register(ends.leash, selectors.EVENT_READ, self._read_leash)
        self._register_writer()

    def _register_writer(self) -> None:
        if self._ends.words_in not in self._selector.get_map():
            self._selector.register(self._ends.words_in, selectors.EVENT_WRITE, self._write)

    def _over(self) -> bool:
        """Whether the conversation has ended, or must."""
        now = time.monotonic()
        if now > self._deadline and not self._overran:
            self._overran = True
            self.stop()
        if self._stopping is not None and now > self._stopping:
            self._killed = True
        return self._answered or self._killed or self._leash_ended

    def _rest(self) -> Iterator[Message]:
        """What a child that crashed had written before."""
        words = self._ends.words_out
        while not self._answered and words in self._selector.get_map():
            if all(key.fd != words for key, _events in self._selector.select(0)):
                return
            yield from self._read_words()

    def _step(self, seconds: float) -> Iterator[Message]:
        """One wait; what came."""
        for key, _events in self._selector.select(seconds):
            yield from key.data() or ()

    def _write(self) -> None:
        try:
            written = os.write(self._ends.words_in, self._to_write[:_READ_BYTES])
        except BlockingIOError:
            return
        except BrokenPipeError:  # it died; the leash says how
            written = len(self._to_write)
        self._to_write = self._to_write[written:]
        if not self._to_write:
            self._selector.unregister(self._ends.words_in)

    def _read_words(self) -> Iterator[Message]:
        data = os.read(self._ends.words_out, _READ_BYTES)
        if not data:
            self._selector.unregister(self._ends.words_out)
        for line in self._lines.feed(data):
            message = read_message(line)
            self._answered = isinstance(message, ErrorLine) or (
                isinstance(message, PlanLine) and message.final
            )
            yield message
            if self._answered:
                return

    def _read_last_words(self) -> None:
        data = os.read(self._ends.last_words, _READ_BYTES)
        if not data:
            self._selector.unregister(self._ends.last_words)
        self._lines.count(data)
        self._last_words += data
        del self._last_words[:-_LAST_WORDS_BYTES]

    def _read_leash(self) -> None:
        try:
            data = self._ends.leash.recv(4096)
        except ConnectionError:
            data = b""
        self._leash_words += data
        if not data or b"end " in self._leash_words:
            self._leash_ended = True
            self._selector.unregister(self._ends.leash)

    # -- the end ------------------------------------------------------------------------------

    def _kill_and_wait(self) -> None:
        """The warm process kills and reaps it, and says so; if it does not, it goes too."""
        with contextlib.suppress(OSError):
            self._ends.leash.send(b"kill")
        deadline = time.monotonic() + _GONE_SECONDS
        self._ends.leash.setblocking(True)
        while not self._leash_ended:
            left = deadline - time.monotonic()
            if left <= 0:
                self._nursery.kill()
                return
            self._ends.leash.settimeout(left)
            with contextlib.suppress(TimeoutError):
                self._read_leash()

    def _exit_status(self) -> tuple[int, int] | None:
        """Exit status (or minus the signal) and the most RAM it held; None where nobody said so."""
        for line in self._leash_words.decode("ascii", "replace").splitlines():
            word, *numbers = line.split()
            if word == "end":
                return int(numbers[0]), int(numbers[1])
        return None
