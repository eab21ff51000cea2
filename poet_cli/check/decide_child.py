"""The child that plans and judges the entries of one graph, one after the other.

    python -P -m poet_cli.check.decide_child REQUEST LEASH

REQUEST is a pickled `DecideRequest` of our own making; each row is added to the file beside it as
soon as it is known, so that a planner that dies costs one row. Invariant: none of the user's code
runs here, and torch is not imported.
"""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from poet_cli.check.children import on_release
from poet_cli.check.entries import Entry
from poet_cli.check.report import Row, Verdict
from poet_core.errors import PoetError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_cli.server_options import ServerChoice
    from poet_core.graph import TrainingGraph

REQUEST, ROWS = "request.pickle", "rows.pickle"
# What solvers get to end with, once nobody waits for them.
_LAST_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DecideRequest:
    """The entries to decide, all of the same graph."""

    graph_file: str
    graph_sha256: str
    entries: tuple[Entry, ...]
    server: ServerChoice | None


def main(request_file: str, leash: int) -> None:
    """Decides every entry of the request."""
    from poet_cli.files import load_graph

    cancel = threading.Event()
    on_release(leash, lambda: _let_go(cancel))
    path = Path(request_file)
    request = pickle.loads(path.read_bytes())  # noqa: S301  Our parent's, in a folder of ours.
    assert isinstance(request, DecideRequest)
    graph = load_graph(Path(request.graph_file))
    with (path.parent / ROWS).open("ab") as rows:
        for entry in request.entries:
            row = decided(entry, graph, request.graph_sha256, cancel, request.server)
            if cancel.is_set():
                return
            pickle.dump(row, rows)
            rows.flush()


def decided(
    entry: Entry,
    graph: TrainingGraph,
    graph_sha256: str,
    cancel: threading.Event,
    server: ServerChoice | None = None,
) -> Row:
    """The row of an entry; whatever goes wrong is one too."""
    from poet_cli.check.advice import advised
    from poet_cli.check.asking import Planner
    from poet_cli.check.deciding import Case, decide, refused
    from poet_cli.check.profiles import profile_of

    began = time.monotonic()
    planner = Planner(graph_sha256=graph_sha256, cancel=cancel, server=server)
    try:
        case = Case(entry=entry, graph=graph, device=profile_of(entry))
        row, plan = decide(case, planner)
        row = advised(case, row, plan, planner)
    except PoetError as error:
        row = refused(entry, error)
    except Exception as error:  # noqa: BLE001  A fault of ours in one row is no reason to lose others.
        row = Row(
            entry=entry,
            verdict=Verdict.FAILED,
            reason=f"Something unexpected happened: {type(error).__name__}: "
            f"{printable(str(error), 300)}",
            code="internal",
            hint="Please report it.",
            internal=True,
        )
    return replace(row, took_seconds=time.monotonic() - began)


def _let_go(cancel: threading.Event) -> None:
    """Nobody waits any more: solvers are stopped first, for they are in sessions of their own."""
    cancel.set()
    time.sleep(_LAST_SECONDS)
    os._exit(1)


if __name__ == "__main__":
    # As the module that the parent pickled the request of, and not as __main__.
    from poet_cli.check.decide_child import main as _main

    _main(sys.argv[1], int(sys.argv[2]))
