"""Tells a listener of better plans while a solve goes on.

    desk: better plan ── news ──> a thread of its own ── on_incumbent(Plan) ──> the listener

The listener hears at most four plans a second, each better than the one before, and before the solve
ends always the last: a plan that is overtaken within that quarter second is never told. A listener
that takes its time delays nobody but itself.

Invariant: every plan told was accepted by the judge for the very problem; its claims are the judge's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan
from poet_solvers.backends import SolveLimits
from poet_solvers.desk import Candidate, Desk
from poet_solvers.solution import Ending, solution_of

Listener = Callable[[Plan], None]

# Four plans a second are more than anybody reads.
PAUSE_SECONDS = 0.25


@contextmanager
def telling(desk: Desk, limits: SolveLimits, listener: Listener | None) -> Iterator[None]:
    """While this is open, `listener` hears of better plans. What it raises ends the solve (the desk
    is abandoned) and is raised here."""
    if listener is None:
        yield
        return
    teller = _Teller(desk, limits, listener)
    try:
        yield
    finally:
        teller.close()
        if teller.error is not None:  # also where the solve then ended without a plan
            raise teller.error


class _Teller:
    """The thread, and what the listener knows already."""

    def __init__(self, desk: Desk, limits: SolveLimits, listener: Listener) -> None:
        self._desk, self._limits, self._listener = desk, limits, listener
        self._graph_sha256: str | None = None
        self._told: Candidate | None = None
        self._news, self._closing = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        desk.on_better = self._news.set
        self._thread = threading.Thread(target=self._run, name="poet-incumbents", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Tell the last plan, and no more."""
        self._closing.set()
        self._news.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._closing.is_set():
                self._news.wait()
                self._news.clear()
                self._tell()
                self._closing.wait(PAUSE_SECONDS)
            self._tell()
        except BaseException as error:  # noqa: BLE001  Raised again by `telling`.
            self.error = error
            self._desk.abandon()

    def _tell(self) -> None:
        if self._desk.best() is self._told:
            return
        solution, self._told = solution_of(self._desk, self._limits, Ending.GOES_ON)
        if self._graph_sha256 is None:
            self._graph_sha256 = graph_sha256(self._desk.problem.graph)
        self._listener(solution.plan(self._graph_sha256))
