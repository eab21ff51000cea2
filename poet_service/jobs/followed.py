"""A job's events as they come: what a stream sends.

    plan job       one solve's events; ids are their seqs
    frontier job   those of several solves, each with its ram_bytes; an id says how far each was read

Whoever comes back with the last id that it got misses nothing and gets nothing twice. A stream ends
after `done`, which the solve wrote. A job that left its solve has one event left: `done`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping

from poet_core.errors import UsageError
from poet_service.database.store import Store
from poet_service.jobs.records import EventKind, EventRecord, JobRecord, SolveRecord
from poet_service.jobs.states import SolveState
from poet_service.jobs.views import frontier_state
from poet_service.poller import Poller
from poet_service.settings import Settings
from poet_service.streams import HEARTBEAT, frame
from poet_service.threads import Threads

# Events that are read at once; a reader that is slower holds no more than these.
_BATCH = 100
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_SEPARATOR = "-"


def read_cursor(text: str | None, solves: int) -> list[int]:
    """How far each solve was read, of an event's id; None: from the beginning. Raises UsageError
    (`parameter_invalid`)."""
    if text is None or text == "":
        return [0] * solves
    parts = text.split(_SEPARATOR)
    if solves == 1:
        valid = text.isascii() and text.isdecimal() and len(text) <= 15
        seqs = [int(text)] if valid else []
    else:
        valid = all(0 < len(part) <= 8 and set(part) <= set(_DIGITS) for part in parts)
        seqs = [int(part, 36) for part in parts] if valid else []
    if len(seqs) != solves:
        raise UsageError(
            "Expected the id of an event of this job to resume after.",
            code="parameter_invalid",
            hint="Send the last id that the stream gave, or none for all events.",
            details={"parameter": "Last-Event-ID"},
        )
    return seqs


def write_cursor(seqs: list[int]) -> str:
    """An event's id: a plan job's is the seq itself."""
    if len(seqs) == 1:
        return str(seqs[0])
    return _SEPARATOR.join(map(_base36, seqs))


class Follower:
    """The events of one job, from a cursor on."""

    def __init__(
        self, store: Store, threads: Threads, poller: Poller, settings: Settings, job: JobRecord
    ) -> None:
        self._store, self._threads, self._poller = store, threads, poller
        self._heartbeat_seconds = settings.stream_heartbeat_seconds
        self._job, self._ids = job, list(job.solve_ids)
        self._ram = {point.solve_id: point.ram_bytes for point in job.points}

    async def frames(self, cursor: list[int]) -> AsyncGenerator[bytes, None]:
        """Frames and, in between, heartbeats. Ends after `done`, with the job, or the service."""
        seqs = list(cursor)
        while True:
            mark = self._poller.mark
            job, solves, events = await self._threads.database(self._look, tuple(seqs))
            if job is None or len(solves) < len(self._ids):
                return  # erased
            if job.left_at is not None:
                yield frame(write_cursor(seqs), EventKind.DONE, {"state": SolveState.STOPPED})
                return
            for index, found in enumerate(events):
                for event in found:
                    seqs[index] = event.seq
                    yield self._frame(index, event, seqs)
            if any(len(found) == _BATCH for found in events):
                continue
            if self._have_ended(solves, seqs):
                if self._ram:
                    state = frontier_state(job, solves.values())
                    yield frame(write_cursor(seqs), EventKind.DONE, {"state": state})
                return
            waited_for = dict(zip(self._ids, seqs, strict=True))
            if not await self._poller.news(waited_for, self._heartbeat_seconds, mark=mark):
                if self._poller.closed:
                    return
                yield HEARTBEAT

    def _look(
        self, seqs: tuple[int, ...]
    ) -> tuple[JobRecord | None, Mapping[str, SolveRecord], list[list[EventRecord]]]:
        job = self._store.job(self._job.id, self._job.token_id)
        # The solves first: what has ended then has written all its events.
        solves = self._store.solves(self._ids)
        events = [
            self._store.events(solve_id, seq, _BATCH)
            if solve_id in solves and solves[solve_id].last_seq > seq
            else []
            for solve_id, seq in zip(self._ids, seqs, strict=True)
        ]
        return job, solves, events

    def _frame(self, index: int, event: EventRecord, seqs: list[int]) -> bytes:
        kind, data = str(event.kind), {"seq": event.seq, "at": event.at, **event.data}
        if self._ram:
            data["ram_bytes"] = self._ram[self._ids[index]]
            kind = "point" if event.kind is EventKind.DONE else kind
        return frame(write_cursor(seqs), kind, data)

    def _have_ended(self, solves: Mapping[str, SolveRecord], seqs: list[int]) -> bool:
        return all(
            solves[solve_id].state.ended and seq >= solves[solve_id].last_seq
            for solve_id, seq in zip(self._ids, seqs, strict=True)
        )


def _base36(number: int) -> str:
    digits = ""
    while True:
        number, digit = divmod(number, 36)
        digits = _DIGITS[digit] + digits
        if not number:
            return digits
