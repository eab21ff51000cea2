"""The logbook of a solve: its events and its planner's log, both bounded, and honest about it.

Of the events the newest are kept; a reader who comes later is told how many were dropped. Of the
log the beginning is kept, and its last line says that it was cut. Log offsets are bytes of UTF-8.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from poet_service.database.part import Part
from poet_service.database.rows import event_record, finite, json_text
from poet_service.database.tables import SOLVE_EVENTS, SOLVE_LOGS, SOLVES
from poet_service.jobs.records import EventKind, EventRecord
from poet_service.jobs.states import SolveState

# A solve of ten minutes with four incumbents and four progress lines a second has 4,800 events; a
# page of some hundred bytes each is a megabyte.
MOST_EVENTS = 4096
_TRIM_EVERY = 256
MOST_LOG_BYTES = 2**20
_MOST_MESSAGE = 2000
# The columns are 32 bits wide; what a client sends may be anything.
_MOST_INTEGER = 2**31 - 1
_LONGEST_CHARACTER = 4
_LOG_CUT = b"\n[The log is cut here: the service keeps its first %d bytes.]\n" % MOST_LOG_BYTES


class Logbook(Part):
    """The part of the Store that tells what happened."""

    def progress(
        self, solve_id: str, attempt: int, message: str, elapsed_seconds: float | None
    ) -> bool:
        """A sentence about a running solve, as an event."""
        data = {"message": _cut(message), "elapsed_seconds": finite(elapsed_seconds)}

        def work(connection: Connection) -> bool:
            values = {"solve_": solve_id, "attempt_": attempt}
            seq = connection.execute(_NEXT_SEQ, values).scalar()
            if seq is None:
                return False
            add_event(connection, solve_id, seq, self._clock(), EventKind.PROGRESS, data)
            return True

        return self._database.write(work)

    def events(self, solve_id: str, after_seq: int, limit: int) -> list[EventRecord]:
        """At most `limit` events after `after_seq`, oldest first. Where events in between were
        dropped, the first one says so."""
        rows = self._database.read(
            lambda connection: connection.execute(
                _EVENTS,
                {"solve_": solve_id, "after_": min(after_seq, _MOST_INTEGER), "limit_": limit},
            ).all()
        )
        events = [event_record(row) for row in rows]
        if events and (dropped := events[0].seq - after_seq - 1) > 0:
            note = EventRecord(
                seq=events[0].seq - 1,
                at=events[0].at,
                kind=EventKind.PROGRESS,
                data={"message": f"{dropped} events before were dropped.", "dropped": dropped},
            )
            events = [note, *events][:limit]
        return events

    def log(self, solve_id: str, attempt: int, text: str) -> bool:
        """Append to the log of a running solve. False where the attempt has lost the solve; what
        is over the bound is dropped and counts as written."""
        data = text.encode("utf-8", "backslashreplace")

        def work(connection: Connection) -> bool:
            start = connection.execute(
                _LOG_BYTES, {"solve_": solve_id, "attempt_": attempt}
            ).scalar_one_or_none()
            if start is None:
                return False
            if start > MOST_LOG_BYTES or not data:
                return True
            piece = data
            if start + len(data) > MOST_LOG_BYTES:
                whole = data[: MOST_LOG_BYTES - start].decode("utf-8", "ignore").encode("utf-8")
                piece = whole + _LOG_CUT
            connection.execute(_SET_LOG_BYTES, {"solve_": solve_id, "bytes_": start + len(piece)})
            connection.execute(_INSERT_LOG, {"solve_id": solve_id, "start": start, "piece": piece})
            return True

        return self._database.write(work)

    def read_log(self, solve_id: str, offset: int, most: int) -> tuple[str, int]:
        """At most about `most` bytes of the log from `offset`, and where to go on. Characters stay
        whole where `offset` is one that was returned before."""
        if offset >= _MOST_INTEGER:
            return "", offset
        most = max(_LONGEST_CHARACTER, most)
        rows = self._database.read(
            lambda connection: connection.execute(
                _LOG, {"solve_": solve_id, "offset_": offset, "end_": offset + most}
            ).all()
        )
        data = b"".join(
            bytes(piece)[max(0, offset - start) : max(0, offset + most - start)]
            for start, piece in rows
        )
        # A character cut by `most` is left for the next read.
        for missing in range(_LONGEST_CHARACTER):
            try:
                return data[: len(data) - missing].decode("utf-8"), offset + len(data) - missing
            except UnicodeDecodeError:
                continue
        return data.decode("utf-8", "replace"), offset + len(data)


def add_event(
    connection: Connection,
    solve_id: str,
    seq: int,
    at: float,
    kind: EventKind,
    data: Mapping[str, Any],
) -> None:
    """Store an event whose number was just taken, and now and then drop the oldest ones."""
    connection.execute(
        _INSERT_EVENT,
        {
            "solve_id": solve_id,
            "seq": seq,
            "at": at,
            "kind": kind.value,
            "data": json_text(data),
        },
    )
    if seq % _TRIM_EVERY == 0 and seq > MOST_EVENTS:
        connection.execute(_TRIM, {"solve_": solve_id, "until_": seq - MOST_EVENTS})


def _cut(message: str) -> str:
    if len(message) <= _MOST_MESSAGE:
        return message
    return f"{message[:_MOST_MESSAGE]} [cut after {_MOST_MESSAGE} characters]"


FENCED = (
    SOLVES.c.id == bindparam("solve_"),
    SOLVES.c.state == SolveState.RUNNING.value,
    SOLVES.c.attempt == bindparam("attempt_"),
)
_NEXT_SEQ = (
    update(SOLVES)
    .where(*FENCED)
    .values(last_seq=SOLVES.c.last_seq + 1)
    .returning(SOLVES.c.last_seq)
)
_INSERT_EVENT = insert(SOLVE_EVENTS)
_TRIM = delete(SOLVE_EVENTS).where(
    SOLVE_EVENTS.c.solve_id == bindparam("solve_"), SOLVE_EVENTS.c.seq <= bindparam("until_")
)
_EVENTS = (
    select(SOLVE_EVENTS.c.seq, SOLVE_EVENTS.c.at, SOLVE_EVENTS.c.kind, SOLVE_EVENTS.c.data)
    .where(SOLVE_EVENTS.c.solve_id == bindparam("solve_"), SOLVE_EVENTS.c.seq > bindparam("after_"))
    .order_by(SOLVE_EVENTS.c.seq)
    .limit(bindparam("limit_"))
)
_LOG_BYTES = select(SOLVES.c.log_bytes).where(*FENCED).with_for_update()
_SET_LOG_BYTES = (
    update(SOLVES).where(SOLVES.c.id == bindparam("solve_")).values(log_bytes=bindparam("bytes_"))
)
_INSERT_LOG = insert(SOLVE_LOGS)
_LOG = (
    select(SOLVE_LOGS.c.start, SOLVE_LOGS.c.piece)
    .where(
        SOLVE_LOGS.c.solve_id == bindparam("solve_"),
        SOLVE_LOGS.c.start + func.length(SOLVE_LOGS.c.piece) > bindparam("offset_"),
        SOLVE_LOGS.c.start < bindparam("end_"),
    )
    .order_by(SOLVE_LOGS.c.start)
)
