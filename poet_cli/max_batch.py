"""The largest batch whose step fits: each size is traced in a child, decided as `poet check` decides
it, and kept with what it showed.

    batch_search.next_size  ->  trace (a child)  ->  decide (floor, keep-everything, planner, bound)
                  ^---------------- fits | too large | undecided ----------------'

Invariant: a size is "too large" by a proof alone; one that could not be traced is undecided.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from poet_cli.batch_search import Brackets, Outcome, brackets, next_size
from poet_cli.check.asking import Planner
from poet_cli.check.deciding import Case, decide
from poet_cli.check.entries import Entry, Limit, Place
from poet_cli.check.report import Verdict
from poet_cli.check.tracing import NoGraph, TraceLimits, TraceTask, traced, untraced_row
from poet_core.errors import PoetError, TraceError, UsageError
from poet_core.graph_document import read_graph

if TYPE_CHECKING:
    from poet_cli.check.report import Row
    from poet_cli.check.tracing import Graph
    from poet_cli.server_options import ServerChoice
    from poet_core.device import DeviceProfile

_OUTCOMES = {
    Verdict.FITS: Outcome.FITS,
    Verdict.DOES_NOT_FIT: Outcome.TOO_LARGE,
    Verdict.UNDECIDED: Outcome.UNDECIDED,
    Verdict.FAILED: Outcome.UNDECIDED,
}
# A factory that fails for this many sizes and has worked for none fails for what it is: of one,
# batch normalisation may be the reason.
_HOPELESS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchQuery:
    """What is asked. `planner_seconds` and `trace_seconds` are for each size; `most`: the largest
    size that is tried."""

    step: str
    device: DeviceProfile
    ram_bytes: int
    max_time: Limit | None
    max_energy: Limit | None
    page: bool
    rematerialize: bool
    planner_seconds: float
    trace_seconds: float
    most: int
    folder: Path
    server: ServerChoice | None = None

    def entry(self, size: int) -> Entry:
        """One size as `poet check` would ask it."""
        return Entry(
            name=f"{self.step}, batch {size}",
            step=self.step,
            device=self.device.name,
            ram_bytes=self.ram_bytes,
            place=Place(file=self.folder, line=1),
            batch_size=size,
            max_time=self.max_time,
            max_energy=self.max_energy,
            page=self.page,
            rematerialize=self.rematerialize,
            planner_seconds=self.planner_seconds,
        )


@dataclass(slots=True, kw_only=True)
class BatchAnswer:
    """What every size that was tried showed, in the order of the tries."""

    query: BatchQuery
    rows: dict[int, Row] = field(default_factory=dict)
    cancelled: bool = False
    took_seconds: float = 0.0

    @property
    def known(self) -> dict[int, Outcome]:
        """The outcomes by size."""
        return {size: _OUTCOMES[row.verdict] for size, row in self.rows.items()}

    def next_size(self) -> int | None:
        """What to try next; None where trying decides no more."""
        floors = {
            size: row.floor_bytes for size, row in self.rows.items() if row.floor_bytes is not None
        }
        return next_size(self.known, self.query.most, floors, self.query.ram_bytes)

    @property
    def brackets(self) -> Brackets:
        """What they say together."""
        return brackets(self.known)


def find_largest(
    query: BatchQuery,
    work: Path,
    cancel: threading.Event,
    tell: Callable[[str, BatchAnswer], None],
) -> BatchAnswer:
    """Tries sizes until nothing more can be decided. `tell` hears what is done next; `work` is a
    folder for what is temporary. Raises UsageError and TraceError where no size can be traced."""
    answer = BatchAnswer(query=query)
    began = time.monotonic()
    while not cancel.is_set() and (size := answer.next_size()) is not None:
        tell(f"batch {size}: tracing", answer)
        graph = _graph(query, size, work, cancel)
        if cancel.is_set():
            break
        if isinstance(graph, NoGraph):
            row = untraced_row(query.entry(size), graph)
        else:
            tell(f"batch {size}: planning", answer)
            row = _decided(query, size, graph, cancel)
            if cancel.is_set() and row.verdict is not Verdict.FITS:
                break
        answer.rows[size] = row
        _check_hope(answer)
    answer.cancelled = cancel.is_set()
    answer.took_seconds = time.monotonic() - began
    return answer


def _graph(query: BatchQuery, size: int, work: Path, cancel: threading.Event) -> Graph | NoGraph:
    task = TraceTask(step=query.step, batch_size=size, measured=query.device.measured)
    limits = TraceLimits(wall_seconds=query.trace_seconds)
    return traced(task, query.folder, work, limits, cancel)


def _decided(query: BatchQuery, size: int, graph: Graph, cancel: threading.Event) -> Row:
    entry = query.entry(size)
    case = Case(entry=entry, graph=read_graph(graph.document), device=query.device)
    planner = Planner(graph_sha256=graph.sha256, cancel=cancel, server=query.server)
    row, _ = decide(case, planner)
    return row


def _check_hope(answer: BatchAnswer) -> None:
    """Raises what a factory that works for no size is refused with."""
    rows = list(answer.rows.values())
    last = rows[-1]
    if any(row.verdict is not Verdict.FAILED for row in rows):
        return
    if last.code == "step_batch_size" or len(rows) >= _HOPELESS:
        if last.internal:
            raise PoetError(last.reason, code=last.code, hint=last.hint)
        kind = UsageError if last.code.startswith("step_") else TraceError
        raise kind(last.reason, code=last.code, hint=last.hint)
