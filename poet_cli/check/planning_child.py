"""Rows of one graph's entries, planned in a child process: a planner that dies costs one row.

Invariant: every entry gets a row, and a row that no planner gave never says more than undecided.
"""

from __future__ import annotations

import pickle
import signal
import tempfile
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from poet_cli.check.children import ChildEnd, Ended, run_child
from poet_cli.check.decide_child import REQUEST, ROWS, DecideRequest
from poet_cli.check.entries import Entry
from poet_cli.check.report import Row, Verdict

# What a row may take beside its planner's time: reading the graph, judging, advice. Far more than
# it does: a machine with too much to do is no fault of a model's.
_BESIDE_SECONDS = 120.0
_SERVER_SECONDS = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """The rows, in the order of the entries, and what the children said (a fallback, a warning)."""

    rows: tuple[Row, ...]
    said: tuple[str, ...]


def planned(request: DecideRequest, work: Path, cancel: threading.Event) -> Planned:
    """The rows of a request; fewer where `cancel` was set meanwhile."""
    rows: list[Row] = []
    said: list[str] = []
    while len(rows) < len(request.entries) and not cancel.is_set():
        left = replace(request, entries=request.entries[len(rows) :])
        found, ended = _asked(left, work, cancel)
        rows += found
        said += [line for line in ended.said.splitlines() if line.strip()]
        if ended.end is ChildEnd.CANCELLED:
            break
        if len(found) < len(left.entries):
            rows.append(_lost(left.entries[len(found)], ended))
    return Planned(rows=tuple(rows), said=tuple(said))


def _asked(
    request: DecideRequest, work: Path, cancel: threading.Event
) -> tuple[Sequence[Row], Ended]:
    with tempfile.TemporaryDirectory(dir=work, ignore_cleanup_errors=True) as name:
        file = Path(name) / REQUEST
        file.write_bytes(pickle.dumps(request))
        beside = _BESIDE_SECONDS + (_SERVER_SECONDS if request.server is not None else 0.0)
        ended = run_child(
            "poet_cli.check.decide_child",
            file,
            folder=Path.cwd(),
            wall_seconds=sum(2 * entry.planner_seconds + beside for entry in request.entries),
            cancel=cancel,
        )
        return _read(Path(name) / ROWS), ended


def _read(path: Path) -> list[Row]:
    """The rows that were written whole."""
    rows: list[Row] = []
    try:
        with path.open("rb") as file:
            while True:
                row = pickle.load(file)  # noqa: S301  Our child's, which runs no code of the user's.
                assert isinstance(row, Row)
                rows.append(row)
    except (OSError, EOFError, pickle.UnpicklingError):
        return rows


def _lost(entry: Entry, ended: Ended) -> Row:
    """The row of an entry amid which the planner ended."""
    if ended.end is ChildEnd.TIMED_OUT:
        return Row(
            entry=entry,
            verdict=Verdict.UNDECIDED,
            reason="The planner did not stop at its time and was killed.",
            code="planner_timed_out",
            hint="Run fewer at once (poet check --jobs 1), or on a machine with less to do.",
        )
    if ended.exit_status == -signal.SIGKILL:
        return Row(
            entry=entry,
            verdict=Verdict.UNDECIDED,
            reason="The planner was killed; most often that is the system running out of memory.",
            code="planner_killed",
            hint="Run fewer at once (poet check --jobs 1), or on a larger machine.",
        )
    return Row(
        entry=entry,
        verdict=Verdict.FAILED,
        reason=f"The planner ended with exit status {ended.exit_status}.",
        code="internal",
        hint="Please report it, with what poet check --verbose shows.",
        internal=True,
    )
