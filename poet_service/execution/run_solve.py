"""`run_solve`: one solve, from its claim to its end, whoever carries it out.

    claim ── request, warm start ── child ── incumbents, bounds, log ──> Store
                                      │
        final plan, judged here ──> FINISHED      asked to stop ──> STOPPED with the best plan
        killed, crashed, overran ──> FINISHED with the best plan, which says so, or FAILED
        this process leaves ──> QUEUED, not counted      warm process lost ──> QUEUED once

Invariant: whatever a child does, the solve leaves RUNNING when `run_solve` returns, or another worker
has it, or the database is away; and no plan is stored that the judge has not accepted in this
process.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from poet_core.documents import DEFAULT_LIMITS, canonical_json, parse_json
from poet_core.errors import DocumentError, PlanError, PoetError, ServiceError
from poet_core.plan_request import PlanRequest, request_from_document
from poet_service.database.store import Store
from poet_service.execution.failures import error_document, internal_document
from poet_service.execution.judging import JudgedPlan, ParentJudge
from poet_service.execution.limits import ExecutionLimits
from poet_service.execution.nursery import Nursery
from poet_service.execution.protocol import (
    BabbleError,
    BoundLine,
    ErrorLine,
    LogLine,
    Message,
    PlanLine,
    ProgressLine,
    first_line,
    plan_in,
)
from poet_service.execution.recorder import Recorder
from poet_service.execution.supervisor import Child, ChildEnd
from poet_service.execution.verdict import Attempted, Outcome, Verdict, verdict
from poet_service.jobs.records import SolveRecord
from poet_service.jobs.states import SolveState

_LOG = logging.getLogger("poet.service.execution")
# The service checked a request's wall limit when it was posted.
_ANY_WALL_SECONDS = 1e9


def run_solve(
    store: Store,
    solve_id: str,
    worker: str,
    stop: threading.Event,
    limits: ExecutionLimits,
    *,
    nursery: Nursery,
    leaving: threading.Event | None = None,
) -> SolveState | None:
    """Carry out a queued solve; its state afterwards, None where there is no such solve.

    `stop` ends it with the best plan so far, within two seconds; so does a `stop_requested` in the
    Store. `leaving` (this process shuts down) ends it at once and puts it back into the queue, as if
    it had not been begun; its best plan stays. Where another worker has it, nothing happens. Raises
    ServiceError where the database is away at the claim or, patiently waited for, at the end, and
    where no child can be had: then the solve is back in the queue, uncounted.
    """
    record = store.claim(solve_id, worker)
    if record is not None:
        attempt = _Attempt(store, record, stop, leaving or threading.Event(), limits, nursery)
        attempt.run()
        if attempt.trouble is not None:
            raise attempt.trouble
    now = store.solve(solve_id)
    return None if now is None else now.state


class _Attempt:
    """One claimed solve."""

    def __init__(
        self,
        store: Store,
        record: SolveRecord,
        stop: threading.Event,
        leaving: threading.Event,
        limits: ExecutionLimits,
        nursery: Nursery,
    ) -> None:
        self._store, self._id, self._attempt = store, record.id, record.attempt
        self._losses = record.losses
        self._stop, self._leaving = stop, leaving
        self._limits, self._nursery = limits, nursery
        self._recorder = Recorder(store, record.id, record.attempt, limits)
        self._recorder.stop_requested = record.stop_requested
        self._best: JudgedPlan | None = None
        self._final: JudgedPlan | None = None
        self._error: dict[str, Any] | None = None
        self._stopped = False
        # The newest plan that was not judged yet, and when the judge has time again.
        self._unjudged: PlanLine | None = None
        self.trouble: ServiceError | None = None
        # Not at once: what is solved in a moment is judged once.
        self._judge_at = time.monotonic() + limits.write_seconds

    def run(self) -> None:
        """Everything after the claim. Nothing raises."""
        try:
            self._run()
        except PoetError as error:
            # A request that is refused is found out when it is posted; a later version may differ.
            self._fail(error_document(error))
        except Exception:  # noqa: BLE001  A fault of ours fails this solve and no other.
            _LOG.exception("solve %s failed in its worker", self._id)
            self._fail(internal_document())

    def _run(self) -> None:
        store, solve = self._store, self._id
        inputs = self._recorder.end(
            lambda: (store.request(solve), store.plan(solve), store.warm_start(solve)),
            self._leaving,
        )
        if inputs is None:
            return
        request, stored, given = inputs
        asked = request_from_document(
            parse_json(request), DEFAULT_LIMITS, most_wall_seconds=_ANY_WALL_SECONDS
        )
        self._judge = ParentJudge(asked.problem())
        start = self._start(stored, given)
        line = first_line(
            request, start, memory_bytes=self._limits.memory_bytes, threads=self._limits.threads
        )
        self._stopped = self._wants_end()
        if self._stopped:
            self._conclude(ChildEnd.KILLED)
            return
        try:
            end = self._converse(line, asked)
        except ServiceError as error:  # no child can be had: not the fault of this solve
            self.trouble = error
            self._recorder.end(lambda: store.release(solve, self._attempt), self._leaving)
            return
        self._conclude(end)

    def _start(self, stored: bytes | None, given: bytes | None) -> bytes | None:
        """The plan to begin with: what an earlier attempt had, else what the request came with."""
        if stored is not None:
            try:
                self._best = self._judge.judged(parse_json(stored))
            except (DocumentError, PlanError):
                _LOG.warning("solve %s: what an earlier attempt had is no plan", self._id)
            else:
                self._recorder.saved = self._best
                return self._best.document()
        return None if given is None else canonical_json(parse_json(given))

    # -- the conversation ---------------------------------------------------------------------

    def _converse(self, line: bytes, asked: PlanRequest) -> ChildEnd:
        with Child(self._nursery, self._limits, line, asked.wall_seconds) as child:
            for message in child.messages():
                if message is not None:
                    self._hear(message)
                self._judge_when_due()
                self._recorder.tick()
                if self._recorder.fenced or self._leaving.is_set():
                    child.kill()
                elif self._wants_end() and self._final is None:
                    self._stopped = True
                    child.stop()
        if child.end not in (ChildEnd.ANSWERED, ChildEnd.KILLED):
            _LOG.warning("solve %s: %s %s", self._id, child.end.value, child.last_words.strip())
        return child.end

    def _wants_end(self) -> bool:
        return self._stop.is_set() or self._recorder.stop_requested

    def _hear(self, message: Message) -> None:
        recorder = self._recorder
        if isinstance(message, PlanLine) and message.final:
            self._final = self._judged(message)
        elif isinstance(message, PlanLine):
            self._unjudged = message
        elif isinstance(message, BoundLine):
            recorder.bound(message.value)
        elif isinstance(message, ProgressLine):
            recorder.progress(message.message)
        elif isinstance(message, LogLine):
            recorder.log(message.text)
        else:
            assert isinstance(message, ErrorLine)
            self._error = message.error

    def _judge_when_due(self) -> None:
        if time.monotonic() >= self._judge_at:
            self._judge_newest()

    def _judge_newest(self) -> None:
        """The newest incumbent that waits for the judge, if one does."""
        line, self._unjudged = self._unjudged, None
        judged = None if line is None else self._judged(line)
        if judged is not None and (self._best is None or judged.cost <= self._best.cost):
            self._best = judged
            self._recorder.incumbent(judged)

    def _judged(self, line: PlanLine) -> JudgedPlan | None:
        began = time.monotonic()
        try:
            return self._judge.judged(plan_in(line, DEFAULT_LIMITS))
        except (BabbleError, DocumentError, PlanError) as error:
            _LOG.error("solve %s: a plan was refused: %s", self._id, error)
            self._error = self._error or internal_document()
            return None
        finally:
            took = time.monotonic() - began
            pause = max(self._limits.write_seconds, took / self._limits.judge_share)
            self._judge_at = began + pause

    # -- the end ------------------------------------------------------------------------------

    def _conclude(self, end: ChildEnd) -> None:
        if self._final is None:
            self._judge_newest()
        decided = verdict(
            Attempted(
                end=end,
                losses=self._losses,
                best=self._best,
                final=self._final,
                error=self._error,
                stopped=self._stopped,
                leaving=self._leaving.is_set(),
            )
        )
        recorder = self._recorder
        if decided.note:
            recorder.progress(decided.note)
        recorder.superseded()
        recorder.flush()
        if not recorder.fenced:
            recorder.end(lambda: self._write(decided), self._leaving)

    def _write(self, decided: Verdict) -> object:
        solve, store, plan = (self._id, self._attempt), self._store, decided.plan
        if decided.outcome is Outcome.FINISH:
            assert plan is not None
            seconds = self._recorder.elapsed_seconds
            return store.finish(*solve, plan.document(), plan.cost, plan.bound, plan.gap, seconds)
        if plan is not None:
            self._recorder.save(plan)
        if decided.outcome is Outcome.FAIL:
            return store.fail(*solve, decided.error or {})
        if decided.outcome is Outcome.STOP:
            return store.stopped(*solve)
        if decided.outcome is Outcome.RELEASE:
            return store.release(*solve)
        return store.lost(*solve)

    def _fail(self, error: dict[str, Any]) -> None:
        self._recorder.end(lambda: self._store.fail(self._id, self._attempt, error), self._leaving)
