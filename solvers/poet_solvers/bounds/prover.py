"""The prover: lower bounds for the best plan at the desk, and plans that fall out on the way.

    first   a cover's LP: a tenth of a second, for every order unless the problem keeps the given one
    run     for the order of the best plan: its ladder (ladder.py), until bound = plan

It follows the best plan: where that comes to have another order for longer than a moment, the solve
in hand is dropped and the other order's ladder goes on. Nothing raises where a solver fails: there is
then no bound. Solvers are children that end with the call.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator

from poet_core.plan import Problem
from poet_solvers.backends import BackendName, BackendResult, SolveLimits
from poet_solvers.bounds.any_order import any_order_cover
from poet_solvers.bounds.ladder import Ladder
from poet_solvers.bounds.orders import in_order
from poet_solvers.bounds.prove import Relaxed, Report, lp_bound
from poet_solvers.bounds.relaxation import relax
from poet_solvers.desk import Desk

# How long the best plan must have another order before the solve in hand is dropped for it, and
# how long a solve may take at any rate: what it ends with may be the best plan of all.
_STABLE_SECONDS, _WORTH_SECONDS = 0.5, 1.2
_WATCH_SECONDS = 0.05
_FIRST_SECONDS = 2.0
# What a solver that stops at its limit gets to say what it has, before the time is up.
_ANSWER_SECONDS = 0.3
_MOST_LADDERS = 8

Order = tuple[int, ...]


def _never() -> bool:
    return False


def _note(desk: Desk) -> Report:
    """Tells the desk what a solver claims about a relaxation, and what it held."""

    def note(relaxation: Relaxed, result: BackendResult) -> None:
        desk.solver_held(result.peak_memory_bytes)
        if result.bound is not None:
            value = float(relaxation.prices.base) + result.bound
            desk.model_bound(value, relaxation.name, result.backend)

    return note


class Prover:
    """Bounds for one problem; it keeps a ladder for each order that it met lately."""

    def __init__(
        self,
        problem: Problem,
        *,
        backend: BackendName = "highs",
        limits: SolveLimits,
        cancel: threading.Event | None = None,
    ) -> None:
        self._problem, self._backend, self._limits = problem, backend, limits
        self._cancel = cancel or threading.Event()
        self._ladders: dict[Order, Ladder | None] = {}
        self._build_seconds = 0.05

    def first(self, desk: Desk) -> None:
        """The bound of any order, or of the given one where the problem keeps it."""
        with self._watch(desk, None, _never) as stop:
            seconds = min(_FIRST_SECONDS, desk.left_seconds())
            limits = SolveLimits(
                wall_seconds=max(0.1, seconds), threads=1, memory_bytes=self._limits.memory_bytes
            )
            free = self._problem.allowed.reorder
            cover = any_order_cover(self._problem) if free else relax(self._problem, chains=False)
            desk.take(lp_bound(cover, limits, stop, _note(desk)))

    def run(self, desk: Desk, more: Callable[[], bool] = _never) -> None:
        """Until the desk is done, or nothing is left to do and `more` (whether better plans may
        still come) says no."""
        while not desk.done():
            order = self._order(desk)
            ladder = self._ladder(order, _note(desk))
            if desk.met() or ladder is None or ladder.finished:
                if not more():
                    return
                time.sleep(_WATCH_SECONDS)
                continue
            seconds = desk.left_seconds() - _ANSWER_SECONDS
            if seconds < 2 * self._build_seconds:
                return
            with self._watch(desk, order, more) as stop:
                found = ladder.climb(seconds, stop)
            self._build_seconds = ladder.build_seconds
            self._backend = ladder.backend
            desk.take(found.bound, order)
            desk.offer("first-run relaxation", found.schedule)

    def _order(self, desk: Desk) -> Order:
        best = desk.best()
        return best.order if best is not None else tuple(range(len(self._problem.graph.ops)))

    def _ladder(self, order: Order, report: Report) -> Ladder | None:
        """None where a relaxation cannot speak of that order."""
        if order not in self._ladders:
            while len(self._ladders) >= _MOST_LADDERS:
                del self._ladders[next(iter(self._ladders))]
            ordered = in_order(self._problem, order)
            self._ladders[order] = (
                Ladder(ordered, self._backend, self._limits, report)
                if ordered is not None
                else None
            )
        return self._ladders[order]

    @contextlib.contextmanager
    def _watch(
        self, desk: Desk, order: Order | None, more: Callable[[], bool]
    ) -> Iterator[threading.Event]:
        """An event that is set once the solve in hand is of no more use."""
        stop, over = threading.Event(), threading.Event()
        watcher = threading.Thread(
            target=self._look,
            args=(desk, order, more, stop, over),
            name="poet-prover-watch",
            daemon=True,
        )
        watcher.start()
        try:
            yield stop
        finally:
            over.set()
            watcher.join()

    def _look(
        self,
        desk: Desk,
        order: Order | None,
        more: Callable[[], bool],
        stop: threading.Event,
        over: threading.Event,
    ) -> None:
        other_since: float | None = None
        begun = time.monotonic()
        while not over.wait(_WATCH_SECONDS):
            other = order is not None and self._order(desk) != order
            now = time.monotonic()
            other_since = (other_since or now) if other else None
            settled = other_since is not None and now - other_since > _STABLE_SECONDS
            settled = settled and now - begun > _WORTH_SECONDS
            moved_on = settled or (other and not more())
            met = order is not None and desk.met()
            if moved_on or met or desk.done() or self._cancel.is_set():
                stop.set()
                return
