"""What the store should do, in dictionaries: no SQL, no times, no threads."""

from dataclasses import dataclass, field

from poet_service.jobs.states import ENDED, MOST_ATTEMPTS, SolveState


@dataclass
class ModelSolve:
    tenant: str
    key: bytes | None
    state: SolveState = SolveState.QUEUED
    attempt: int = 0
    losses: int = 0
    stop: bool = False
    plan: bytes | None = None
    log: str = ""
    events: list[str] = field(default_factory=lambda: ["state"])

    @property
    def ended(self):
        return self.state in ENDED


@dataclass
class ModelJob:
    token: int
    solves: list[str]
    frontier: bool
    left: bool = False
    kept: bytes | None = None


class Model:
    """Solves and jobs by id, in the order in which they were made."""

    def __init__(self):
        self.solves: dict[str, ModelSolve] = {}
        self.jobs: dict[str, ModelJob] = {}

    def joinable(self, tenant, key):
        """The solve that a request joins, if there is one."""
        return next(
            (
                id_
                for id_, solve in self.solves.items()
                if (solve.tenant, solve.key) == (tenant, key)
            ),
            None,
        )

    def submitted(self, job_id, token, tenant, solve_ids_by_key, order, *, frontier):
        for key, solve_id in solve_ids_by_key.items():
            if solve_id not in self.solves:
                self.solves[solve_id] = ModelSolve(tenant, key)
        solves = list(dict.fromkeys(solve_ids_by_key[key] for key in order))
        self.jobs[job_id] = ModelJob(token, solves, frontier)

    def queued(self):
        return [id_ for id_, solve in self.solves.items() if solve.state == SolveState.QUEUED]

    def holds(self, solve_id, attempt):
        """This attempt may write."""
        solve = self.solves[solve_id]
        return solve.state == SolveState.RUNNING and solve.attempt == attempt

    def claim(self, solve_id):
        solve = self.solves[solve_id]
        if solve.state != SolveState.QUEUED:
            return False
        solve.state = SolveState.RUNNING
        solve.attempt += 1
        solve.events.append("state")
        return True

    def write(self, solve_id, attempt, event, *, plan=None, log=""):
        if not self.holds(solve_id, attempt):
            return False
        solve = self.solves[solve_id]
        if event:
            solve.events.append(event)
        solve.plan = plan or solve.plan
        solve.log += log
        return True

    def end(self, solve_id, attempt, state, *, plan=None):
        if not self.holds(solve_id, attempt):
            return False
        self._end(self.solves[solve_id], state)
        self.solves[solve_id].plan = plan or self.solves[solve_id].plan
        return True

    def lost(self, solve_id, attempt):
        if not self.holds(solve_id, attempt):
            return None
        solve = self.solves[solve_id]
        if solve.stop:
            self._end(solve, SolveState.STOPPED)
        elif solve.losses + 1 >= MOST_ATTEMPTS:
            self._end(solve, SolveState.FAILED)
        else:
            solve.losses += 1
            self._requeue(solve)
        return solve.state

    def release(self, solve_id, attempt):
        if not self.holds(solve_id, attempt):
            return False
        solve = self.solves[solve_id]
        if solve.stop:
            self._end(solve, SolveState.STOPPED)
        else:
            self._requeue(solve)
        return True

    def corrupt(self, solve_id):
        solve = self.solves[solve_id]
        if solve.state == SolveState.FINISHED:
            self._end(solve, SolveState.FAILED)
            solve.plan = None

    def leave(self, job_id, token, *, discard):
        """None, or the solves to stop."""
        job = self.jobs.get(job_id)
        if job is None or job.token != token:
            return None
        if discard:
            del self.jobs[job_id]
            for id_ in job.solves:
                if self.solves[id_].ended and not self._referred(id_):
                    del self.solves[id_]
        elif job.left or all(self.solves[id_].ended for id_ in job.solves):
            return []
        else:
            job.left = True
            if not job.frontier:
                job.kept = self.solves[job.solves[0]].plan
        return [id_ for id_ in job.solves if id_ in self.solves and self._stop_unwanted(id_)]

    def sweep(self):
        """Everything that may go, goes."""
        for job_id, job in list(self.jobs.items()):
            if all(self.solves[id_].ended for id_ in job.solves):
                del self.jobs[job_id]
        for id_, solve in list(self.solves.items()):
            if solve.ended and not self._referred(id_):
                del self.solves[id_]

    def _referred(self, solve_id, *, waiting=False):
        return any(
            solve_id in job.solves and not (waiting and job.left) for job in self.jobs.values()
        )

    def _stop_unwanted(self, solve_id):
        solve = self.solves[solve_id]
        if solve.ended or solve.stop or self._referred(solve_id, waiting=True):
            return False
        if solve.state == SolveState.QUEUED:
            self._end(solve, SolveState.STOPPED)
            return False
        solve.stop, solve.key = True, None
        return True

    def _requeue(self, solve):
        solve.state = SolveState.QUEUED
        solve.events.append("state")

    def _end(self, solve, state):
        solve.state = state
        solve.events.append("done")
        if state != SolveState.FINISHED:
            solve.key = None
