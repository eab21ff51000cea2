"""Jobs: what the routes call. A job belongs to one token; the solve behind it may have many jobs.

    submit   a body -> a stored answer at once, or a job that somebody will work on
    leave    this job wants it no more; the solve ends when its last job has left
    view, find, plan, log       a job as it stands (shown.py)

A request that was answered before costs this process no parsing and no judging: it remembers the
digests of bodies, and answers that it has judged. What it remembers is looked up in the database
each time, so that an answer that was erased or found damaged elsewhere is not given from here.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass

from poet_core.errors import ServiceError
from poet_service.database.store import Store
from poet_service.execution.executor import Executor
from poet_service.jobs.asked import Asked, read_asked
from poet_service.jobs.judged import JudgedPlans
from poet_service.jobs.keys import solve_key
from poet_service.jobs.records import JobRecord, QueueLimits, SolveRecord
from poet_service.jobs.remembered import Remembered
from poet_service.jobs.shown import ShownJobs, unknown_job
from poet_service.jobs.states import SolveState
from poet_service.jobs.views import has_ended, plan_job_path
from poet_service.poller import Poller
from poet_service.security.tokens import Caller
from poet_service.settings import Settings
from poet_service.threads import Threads

# Hashing this much takes about a millisecond, which is long for the event loop.
_LONG_BODY_BYTES = 2**20
_NO_PLACE = frozenset({"queue_full", "too_many_jobs"})
# Of the bytes that are remembered, requests that were turned away may have one in so many.
_TURNED_AWAY_SHARE = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a submission is answered with."""

    job_id: str
    ended: bool
    location: str
    body: bytes


def new_job_id() -> str:
    """128 random bits: nobody can guess a job."""
    return secrets.token_hex(16)


class Jobs(ShownJobs):
    """The plan jobs of one process. Every method is called from the event loop."""

    def __init__(
        self,
        *,
        store: Store,
        executor: Executor,
        settings: Settings,
        threads: Threads,
        poller: Poller,
        judged: JudgedPlans,
    ) -> None:
        super().__init__(
            store=store, settings=settings, threads=threads, poller=poller, judged=judged
        )
        self._executor = executor
        self._secret: bytes | None = None
        # A body's digest -> its key; a token's key -> the job that it has for it.
        self._keys: Remembered[tuple[str, bytes], bytes] = Remembered(
            most=settings.remembered_requests
        )
        self._answered: Remembered[tuple[int, bytes], str] = Remembered(
            most=settings.remembered_requests
        )
        # What was refused for want of a place comes again, word for word, until there is one.
        self._turned_away: Remembered[bytes, Asked] = Remembered(
            most=settings.remembered_bytes // _TURNED_AWAY_SHARE
        )

    async def submit(self, caller: Caller, body: bytes, *, idempotency_key: str | None) -> Reply:
        """Take a body of POST /v1/plans in. Raises what `read_asked` and the store refuse."""
        digest = await self._digest(body)
        if idempotency_key is None:
            key = self._keys.get((caller.tenant, digest))
            reply = None if key is None else await self._stored(caller, key)
            if reply is not None:
                return reply
        asked = self._turned_away.get(digest)
        if asked is None:
            asked = await self._threads.work(read_asked, body, self._settings)
        key = solve_key(await self.secret(), caller.tenant, asked.document, asked.warm_start)
        self._keys.put((caller.tenant, digest), key)
        reply = await self._stored(caller, key) if idempotency_key is None else None
        if reply is not None:
            return reply
        try:
            job, solve = await self._submitted(caller, asked, key, idempotency_key)
        except ServiceError as error:
            if error.code in _NO_PLACE:
                self._turned_away.put(digest, asked, weight=asked.size_bytes)
            raise
        self._turned_away.forget(digest)
        if idempotency_key is None and not await self._is_sound(job, solve):
            await self._threads.database(self._store.leave, job.id, caller.token_id, discard=True)
            job, solve = await self._submitted(caller, asked, key, None)
        if job.left_at is None and solve.state is SolveState.FINISHED:
            self._answered.put((caller.token_id, key), job.id)
        return await self._reply(job, solve)

    async def ending(self, caller: Caller, reply: Reply, seconds: float) -> Reply:
        """The reply to a submission again, at the job's end or after `seconds`."""
        return await self._reply(*await self._waited(caller, reply.job_id, seconds))

    async def leave(self, caller: Caller, job_id: str, *, discard: bool) -> bytes | None:
        """Stop the job and show it as it stays, or erase it. Raises ServiceError."""
        await self.find(caller, job_id)
        left = await self._threads.database(
            self._store.leave, job_id, caller.token_id, discard=discard
        )
        if left is None:
            raise unknown_job()
        for solve_id in left.solves_to_stop:
            await self._executor.stop(solve_id)
        self._poller.nudge(left.job.solve_ids)
        return None if discard else await self.view(caller, job_id)

    def limits_of(self, caller: Caller) -> QueueLimits:
        """What a submission of this token must stay within."""
        own = caller.most_active_jobs
        return QueueLimits(
            queue_depth=self._settings.queue_depth,
            active_jobs_of_token=self._settings.active_jobs_per_token if own is None else own,
            retry_after_seconds=self._settings.retry_after_seconds,
        )

    async def secret(self) -> bytes:
        """What keys are made with."""
        if self._secret is None:
            self._secret = await self._threads.database(self._store.secret)
        return self._secret

    async def _submitted(
        self, caller: Caller, asked: Asked, key: bytes, idempotency_key: str | None
    ) -> tuple[JobRecord, SolveRecord]:
        submitted = await self._threads.database(
            self._store.submit,
            job_id=new_job_id(),
            token_id=caller.token_id,
            tenant=caller.tenant,
            key=key,
            request=asked.document,
            wall_seconds=asked.wall_seconds,
            # The key says what was asked, however it was written.
            idempotency=None if idempotency_key is None else (idempotency_key, key),
            warm_start=asked.warm_start,
            limits=self.limits_of(caller),
        )
        if submitted.created_solve:
            await self._executor.submit(submitted.solve.id)
        return submitted.job, submitted.solve

    async def _is_sound(self, job: JobRecord, solve: SolveRecord) -> bool:
        """False where the stored answer that was joined turned out to be damaged."""
        if solve.state is not SolveState.FINISHED:
            return True
        try:
            return await self._answer(job, solve) is not None
        except ServiceError as error:
            if error.code != "stored_plan_invalid":
                raise
            return False

    async def _stored(self, caller: Caller, key: bytes) -> Reply | None:
        """The answer to a key that this token has a job for already; None where it must ask."""
        job_id = self._answered.get((caller.token_id, key))
        if job_id is None:
            return None

        def look() -> tuple[JobRecord | None, SolveRecord | None]:
            return (
                self._store.job(job_id, caller.token_id),
                self._store.find_solve(caller.tenant, key),
            )

        job, solve = await self._threads.database(look)
        if (
            job is None
            or solve is None
            or job.solve_id != solve.id
            or job.left_at is not None
            or solve.state is not SolveState.FINISHED
        ):
            self._answered.forget((caller.token_id, key))
            return None
        return await self._reply(job, solve)

    async def _digest(self, body: bytes) -> bytes:
        if len(body) < _LONG_BODY_BYTES:
            return hashlib.sha256(body).digest()
        return await self._threads.work(lambda: hashlib.sha256(body).digest())

    async def _reply(self, job: JobRecord, solve: SolveRecord) -> Reply:
        return Reply(
            job_id=job.id,
            ended=has_ended(job, solve),
            location=plan_job_path(job.id),
            body=await self._shown(job, solve),
        )
