"""A whole check: every entry's graph once, every entry's row.

    entries -> by (step, batch size) -> kept graph, or a child that traces -> graph
            -> kept row, or a child that plans its graph's entries, one after the other -> rows

At most `jobs` children run at once. Invariant: there is a row for each entry, in the order of the
configuration; where the check is interrupted there is no report, no child and no file left.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poet_cli.check.children import work_folder
from poet_cli.check.decide_child import DecideRequest
from poet_cli.check.entries import Entry
from poet_cli.check.planning_child import Planned, planned
from poet_cli.check.profiles import profile_of
from poet_cli.check.report import Report, Row, Verdict
from poet_cli.check.tracing import Graph, NoGraph, TraceLimits, TraceTask, traced, untraced_row
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_cli.check.cache import Cache
    from poet_cli.server_options import ServerChoice

_MOST_JOBS = 4  # more models in memory at once than that is more than many machines have
_LOOK_SECONDS = 0.2
_MOST_NOTES = 5
# Proofs and judged plans stay true; that nothing was found may be otherwise the next time.
_FACTS = frozenset({Verdict.FITS, Verdict.DOES_NOT_FIT})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """How a check is run. `cache` None: nothing is kept; `refresh`: what is kept is not looked at."""

    folder: Path
    trace: TraceLimits
    jobs: int
    cache: Cache | None = None
    refresh: bool = False
    server: ServerChoice | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The report, the last that each step's code printed, and why it was traced again, by step."""

    report: Report
    said: dict[str, str]
    why_traced: dict[str, str]


def default_jobs() -> int:
    """As many children at once as there are cores for this process, within reason."""
    return max(1, min(_MOST_JOBS, len(os.sched_getaffinity(0))))


def run_check(
    entries: Sequence[Entry], options: RunOptions, tell: Callable[[str], None] = lambda _: None
) -> Outcome:
    """Checks every entry. `tell` hears how far it is. Raises KeyboardInterrupt."""
    began = time.monotonic()
    run = _Run(entries, options, tell)
    with work_folder() as work, ThreadPoolExecutor(options.jobs, "poet-check") as pool:
        try:
            run.go(work, pool)
        except BaseException:
            run.cancel.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if options.cache is not None:
        options.cache.prune()
        if options.cache.trouble:
            run.notes.append(f"Nothing is kept for the next check: {options.cache.trouble}")
    rows = with_batch_advice([run.rows[entry.name] for entry in entries])
    report = Report(
        rows=tuple(rows),
        took_seconds=time.monotonic() - began,
        notes=tuple(dict.fromkeys(run.notes))[:_MOST_NOTES],
    )
    return Outcome(report=report, said=run.said, why_traced=run.why_traced)


class _Run:
    """One check: what is done, what is under way, what is left."""

    def __init__(
        self, entries: Sequence[Entry], options: RunOptions, tell: Callable[[str], None]
    ) -> None:
        self.cancel = threading.Event()
        self.rows: dict[str, Row] = {}
        self.notes: list[str] = []
        self.said: dict[str, str] = {}
        self.why_traced: dict[str, str] = {}
        self._entries, self._options, self._tell = entries, options, tell
        self._under_way: dict[Future[Any], tuple[str, Callable[[Any], None]]] = {}

    def go(self, work: Path, pool: ThreadPoolExecutor) -> None:
        """Until every entry has its row."""
        self._work, self._pool = work, pool
        groups = _by_trace(self._entries)
        self._split = max(1, self._options.jobs // max(1, len(groups)))
        for task, entries in groups.items():
            self._begin(task, entries)
        while self._under_way:
            doing = ", ".join(what for what, _ in list(self._under_way.values())[:3])
            self._tell(f"{len(self.rows)} of {len(self._entries)} checked; {doing}")
            done, _ = wait(self._under_way, _LOOK_SECONDS, FIRST_COMPLETED)
            for future in done:
                _, then = self._under_way.pop(future)
                then(future.result())

    def _begin(self, task: TraceTask, entries: list[Entry]) -> None:
        """Rows that are kept; for the others the graph that is kept, or a child that traces."""
        options, cache = self._options, self._cache_to_read
        kept = None if cache is None else cache.graph_of(task, options.folder)
        if cache is not None and kept is not None:
            key = kept.document_sha256 if task.measured else kept.sha256
            entries = self._without_kept(entries, key)
            document = cache.document_of(kept) if entries else b""
            if document is not None:
                self._plan(entries, document, kept.sha256, key)
                return
        if cache is not None and (why := cache.why_traced(task)):
            self.why_traced[task.step] = why
        self._do(
            f"tracing {printable(task.step, 60)}",
            lambda: traced(task, options.folder, self._work, options.trace, self.cancel),
            lambda found: self._traced(task, entries, found),
        )

    def _do(self, what: str, work: Callable[[], Any], then: Callable[[Any], None]) -> None:
        self._under_way[self._pool.submit(work)] = (what, then)

    def _traced(self, task: TraceTask, entries: list[Entry], found: Graph | NoGraph) -> None:
        if found.said.strip():
            self.said[task.step] = found.said
        if isinstance(found, NoGraph):
            for entry in entries:
                self.rows[entry.name] = untraced_row(entry, found)
            return
        if self._options.cache is not None:
            self._options.cache.keep_graph(task, self._options.folder, found)
        # The graph's hash leaves out seconds that were measured; a row follows from them.
        key = hashlib.sha256(found.document).hexdigest() if task.measured else found.sha256
        self._plan(self._without_kept(entries, key), found.document, found.sha256, key)

    @property
    def _cache_to_read(self) -> Cache | None:
        return None if self._options.refresh else self._options.cache

    def _without_kept(self, entries: list[Entry], key: str) -> list[Entry]:
        """The entries of which no row is kept."""
        cache, left = self._cache_to_read, list[Entry]()
        for entry in entries:
            row = None if cache is None else cache.row_of(entry, key)
            if row is None:
                left.append(entry)
            else:
                self.rows[entry.name] = replace(row, entry=entry, from_cache=True)
        return left

    def _plan(self, entries: list[Entry], document: bytes, sha256: str, key: str) -> None:
        """Children for the entries of a graph; their rows are kept under `key`."""
        if not entries:
            return
        number, file = tempfile.mkstemp(dir=self._work, suffix=".graph.json")
        with os.fdopen(number, "wb") as graph:
            graph.write(document)
        size = -(-len(entries) // self._split)
        for start in range(0, len(entries), size):
            request = DecideRequest(
                graph_file=file,
                graph_sha256=sha256,
                entries=tuple(entries[start : start + size]),
                server=self._options.server,
            )
            self._do(
                f"planning {printable(request.entries[0].name, 60)}",
                partial(planned, request, self._work, self.cancel),
                lambda found: self._planned(found, key),
            )

    def _planned(self, found: Planned, key: str) -> None:
        self.notes += [printable(line, 300) for line in found.said]
        for row in found.rows:
            self.rows[row.entry.name] = row
            if self._options.cache is not None and row.verdict in _FACTS:
                self._options.cache.keep_row(row, key)


def _by_trace(entries: Iterable[Entry]) -> dict[TraceTask, list[Entry]]:
    """Entries by what is to be traced, in their order."""
    groups: dict[TraceTask, list[Entry]] = {}
    for entry in entries:
        task = TraceTask(
            step=entry.step, batch_size=entry.batch_size, measured=profile_of(entry).measured
        )
        groups.setdefault(task, []).append(entry)
    return groups


def with_batch_advice(rows: Sequence[Row]) -> list[Row]:
    """The rows; one that does not fit names the largest batch size of the same matrix that does."""

    def same(row: Row) -> Entry:
        return replace(row.entry, name="", batch_size=None)

    fitting: dict[Entry, list[Row]] = {}
    for row in rows:
        if row.verdict is Verdict.FITS and row.entry.batch_size is not None:
            fitting.setdefault(same(row), []).append(row)
    found: list[Row] = []
    for row in rows:
        size = row.entry.batch_size
        if size is None or row.verdict not in {Verdict.DOES_NOT_FIT, Verdict.UNDECIDED}:
            found.append(row)
            continue
        smaller = [
            other.entry.batch_size
            for other in fitting.get(same(row), [])
            if other.entry.batch_size is not None and other.entry.batch_size < size
        ]
        advice = (f"batch_size = {max(smaller)} fits.",) if smaller else ()
        found.append(replace(row, advice=row.advice + advice))
    return found
