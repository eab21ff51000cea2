"""Graphs and rows of earlier checks, by content: an unchanged model is answered without tracing.

    FOLDER/traces/KEY/...json  what a trace read (`inputs`), and which graph it gave
    FOLDER/graphs/SHA256.json  graph documents, under the hash of their bytes
    FOLDER/rows/KEY.json       rows without their entry

A trace's key is the step, the batch size, the folder and sys.path; a few are kept for each, so that
going from one branch to another and back traces nothing. A row's key is the graph and everything
that the verdict follows from: the profile, the budget, the limits, the planner's time and version.

Invariant: what is answered was found for the same content. Unsure means not there: a trace that
could not be followed, a damaged file, a folder that others may write to. Rows that time decided
(undecided) or that have no graph (failed) are never kept: trying again may end otherwise.
"""

from __future__ import annotations

import hashlib
import os
import platform
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from poet_cli.check.cache_files import CacheFolder
from poet_cli.check.entries import Entry, Limit
from poet_cli.check.formats.document import outcome_document, row_from_outcome
from poet_cli.check.inputs import (
    Footprint,
    World,
    footprint_document,
    footprint_from_document,
)
from poet_cli.check.profiles import profile_file
from poet_cli.check.report import Row, Verdict
from poet_cli.check.tracing import Graph, TraceTask
from poet_cli.check.versions import planner_version
from poet_core.documents import Limits, Node, parse_json, sha256_of
from poet_core.errors import DocumentError

_TRACE_SCHEMA, _ROW_SCHEMA = "poet.check-trace/1", "poet.check-row/1"
_LIMITS = Limits(document_bytes=64 * 2**20, string_length=8192, values=2_000_000)
_MOST_TRACES = 8
_KEPT = frozenset({Verdict.FITS, Verdict.DOES_NOT_FIT})


def cache_folder(environment: Mapping[str, str]) -> Path:
    """POET_CACHE_DIR/check, or the platform's cache folder."""
    own = environment.get("POET_CACHE_DIR")
    if own:
        return Path(own).absolute() / "check"
    home = Path(environment.get("HOME") or "~").expanduser()
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "poet" / "check"
    base = environment.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path is to be ignored.
    return (Path(base) if base.startswith("/") else home / ".cache") / "poet" / "check"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTrace:
    """A trace that is still true. `sha256` is the graph's, as `graph_sha256` says it."""

    sha256: str
    footprint: Footprint
    document_sha256: str


class Cache:
    """One run's view: what is on disk is looked at once."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None) -> None:
        """`folder`: as `cache_folder` says. `environment`: a child's, this process's unless given."""
        self._files = CacheFolder(folder)
        self._world = World(environment)
        self._why: dict[TraceTask, str] = {}
        self._profiles: dict[Path, str] = {}
        self._version = ""

    @property
    def trouble(self) -> str:
        """Why nothing is kept at all; "" where all is well."""
        return self._files.trouble

    def why_traced(self, task: TraceTask) -> str:
        """What changed since the last trace, in words for people; "" where there was none."""
        return self._why.get(task, "")

    def graph_of(self, task: TraceTask, folder: Path) -> StoredTrace | None:
        """The trace of `task` in `folder`, where everything that it read is as it was."""
        for path in self._files.newest(f"traces/{_trace_key(task, folder)}"):
            stored = _read_trace(self._files.read(path))
            if stored is None:
                continue
            change = self._world.change(stored.footprint)
            if change is None and self._files.has(_graph_path(stored)):
                self._files.touch(path)
                return stored
            self._why.setdefault(task, change or "its graph is no longer kept")
        return None

    def document_of(self, stored: StoredTrace) -> bytes | None:
        """The graph document; None: it is damaged or gone, and has to be traced again."""
        data = self._files.read(_graph_path(stored))
        if data is None or hashlib.sha256(data).hexdigest() != stored.document_sha256:
            return None
        self._files.touch(_graph_path(stored))
        return data

    def keep_graph(self, task: TraceTask, folder: Path, graph: Graph) -> None:
        """Keeps a fresh trace, unless its footprint is unsure."""
        if graph.footprint.unsure:
            self._why[task] = graph.footprint.unsure
            return
        stored = StoredTrace(
            sha256=graph.sha256,
            footprint=graph.footprint,
            document_sha256=hashlib.sha256(graph.document).hexdigest(),
        )
        document = {
            "schema": _TRACE_SCHEMA,
            "graph_sha256": stored.sha256,
            "document_sha256": stored.document_sha256,
            "footprint": footprint_document(stored.footprint),
        }
        traces = f"traces/{_trace_key(task, folder)}"
        self._files.write(_graph_path(stored), graph.document)
        self._files.write_json(f"{traces}/{sha256_of(document)}.json", document)
        self._files.keep_newest(traces, _MOST_TRACES)

    def row_of(self, entry: Entry, graph_sha256: str) -> Row | None:
        """The row of an earlier check of the same graph, device, budget and limits."""
        path = self._row_path(entry, graph_sha256)
        data = None if path is None else self._files.read(path)
        if path is None or data is None:
            return None
        try:
            fields = Node(parse_json(data, _LIMITS), "$", _LIMITS).fields(
                frozenset({"schema", "outcome"})
            )
            fields.check_schema(_ROW_SCHEMA)
            row = row_from_outcome(entry, fields["outcome"])
        except DocumentError:
            return None
        if row.verdict not in _KEPT:
            return None
        self._files.touch(path)
        return replace(row, from_cache=True, took_seconds=0.0)

    def keep_row(self, row: Row, graph_sha256: str) -> None:
        """Keeps a row that is founded on more than time."""
        path = self._row_path(row.entry, graph_sha256)
        if path is not None and row.verdict in _KEPT and not row.internal:
            document = {"schema": _ROW_SCHEMA, "outcome": outcome_document(row)}
            self._files.write_json(path, document)

    def prune(self) -> None:
        """Away with what was used longest ago, beyond the folder's size."""
        self._files.prune()

    def _row_path(self, entry: Entry, graph_sha256: str) -> str | None:
        device = self._device_digest(entry)
        if device is None:
            return None
        self._version = self._version or planner_version()
        key = {
            "graph": graph_sha256,
            "device": device,
            "named": [entry.step, entry.batch_size, entry.device],  # reasons may say these
            "ram_bytes": entry.ram_bytes,
            "ram_by_device": entry.ram_by_device,  # the advice says which line to write
            "max_time": _limit_key(entry.max_time),
            "max_energy": _limit_key(entry.max_energy),
            "page": entry.page,
            "rematerialize": entry.rematerialize,
            "planner_seconds": entry.planner_seconds,
            "version": self._version,
        }
        return f"rows/{sha256_of(key)}.json"

    def _device_digest(self, entry: Entry) -> str | None:
        path = profile_file(entry.device, entry.place.file.parent)
        if path is None:
            return "shipped"  # the shipped profiles are part of the version
        if path not in self._profiles:
            try:
                self._profiles[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            except (OSError, ValueError):
                self._profiles[path] = ""
        return self._profiles[path] or None


def _trace_key(task: TraceTask, folder: Path) -> str:
    key: dict[str, Any] = {
        "schema": _TRACE_SCHEMA,
        "step": task.step,
        "batch_size": task.batch_size,
        "folder": os.path.realpath(folder),
        "python": sys.executable,
        "path": list(dict.fromkeys(filter(None, sys.path))),
        # Seconds that were measured are this machine's.
        "machine": _machine() if task.measured else None,
    }
    return sha256_of(key)


def _machine() -> list[str]:
    processor = platform.processor()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        processor = next((line for line in lines if line.startswith("model name")), processor)
    except (OSError, ValueError):
        pass
    return [platform.node(), platform.machine(), processor, str(os.cpu_count())]


def _graph_path(stored: StoredTrace) -> str:
    return f"graphs/{stored.document_sha256}.json"


def _limit_key(limit: Limit | None) -> list[Any] | None:
    return None if limit is None else [limit.text, limit.ratio, limit.absolute]


def _read_trace(data: bytes | None) -> StoredTrace | None:
    if data is None:
        return None
    try:
        fields = Node(parse_json(data, _LIMITS), "$", _LIMITS).fields(
            frozenset({"schema", "graph_sha256", "document_sha256", "footprint"})
        )
        fields.check_schema(_TRACE_SCHEMA)
        return StoredTrace(
            sha256=fields["graph_sha256"].string(),
            document_sha256=fields["document_sha256"].string(),
            footprint=footprint_from_document(fields["footprint"].value),
        )
    except DocumentError:
        return None
