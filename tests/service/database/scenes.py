"""Short ways to the states that the tests begin from, and a clock that goes where it is told."""

import itertools

from sqlalchemy import delete

from poet_service.database.tables import METADATA
from poet_service.jobs.records import QueueLimits

NO_LIMITS = QueueLimits(queue_depth=10_000, active_jobs_of_token=10_000)
_NUMBERS = itertools.count(1)


class SettableClock:
    """Seconds since 1970 as the test says."""

    def __init__(self, now=1_000_000.0):
        self.now = now

    def __call__(self):
        return self.now


def new_job_id():
    return f"{next(_NUMBERS):032x}"


def empty(store):
    """Remove every row."""

    def work(connection):
        for table in reversed(METADATA.sorted_tables):
            connection.execute(delete(table))

    store._database.write(work)


class Scene:
    """A store with short commands; token 1 and 2 are of tenant a, token 3 of tenant b."""

    def __init__(self, store):
        self.store = store

    def submit(self, key=b"key", *, token=1, **changes):
        arguments = {
            "job_id": new_job_id(),
            "token_id": token,
            "tenant": "b" if token == 3 else "a",
            "key": key,
            "request": b"request of " + key,
            "wall_seconds": 60.0,
            "idempotency": None,
            "warm_start": None,
            "limits": NO_LIMITS,
        }
        return self.store.submit(**arguments | changes)

    def frontier(self, *keys, token=1, **changes):
        arguments = {
            "job_id": new_job_id(),
            "token_id": token,
            "tenant": "b" if token == 3 else "a",
            "points": [(1000 + n, key, b"request of " + key) for n, key in enumerate(keys)],
            "wall_seconds": 60.0,
            "idempotency": None,
            "warm_start": None,
            "limits": NO_LIMITS,
        }
        return self.store.submit_frontier(**arguments | changes)

    def running(self, key=b"key", **changes):
        """A claimed solve."""
        return self.store.claim(self.submit(key, **changes).solve.id, "worker")

    def finished(self, key=b"key", plan=b"plan", **changes):
        """A job whose solve has a plan."""
        submitted = self.submit(key, **changes)
        solve = self.store.claim(submitted.solve.id, "worker")
        assert self.store.finish(solve.id, solve.attempt, plan, 3.0, 2.0, 0.5, 1.0)
        return submitted

    def state(self, solve_id):
        return self.store.solve(solve_id).state

    def kinds(self, solve_id):
        return [event.kind.value for event in self.store.events(solve_id, 0, 1000)]
