"""Any order of calls leaves the store where a model made of dictionaries is."""

import itertools

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from poet_service.jobs.states import TRANSITIONS, SolveState
from tests.service.database.model import Model
from tests.service.database.scenes import Scene, empty

KEYS = st.sampled_from([b"1", b"2", b"3"])
TOKENS = st.sampled_from([1, 2, 3])
TENANT_OF = {1: "a", 2: "a", 3: "b"}
# Of the attempts of a solve, its newest, or one that has lost it.
AGE = st.sampled_from([0, 0, 0, 0, 1, -1])


class StoreMachine(RuleBasedStateMachine):
    """The store and the model, told the same."""

    store = None  # set by the test

    def __init__(self):
        super().__init__()
        empty(self.store)
        self.scene, self.model = Scene(self.store), Model()
        self.plans, self.gone = 0, []

    def _solve(self, data, age):
        solve_id = data.draw(st.sampled_from(list(self.model.solves)), label="solve")
        return solve_id, self.model.solves[solve_id].attempt - age

    def _plan(self):
        self.plans += 1
        return b"plan %d" % self.plans

    @rule(key=KEYS, token=TOKENS)
    def submit(self, key, token):
        tenant = TENANT_OF[token]
        joins = self.model.joinable(tenant, key)
        submitted = self.scene.submit(key, token=token)
        assert submitted.created_solve == (joins is None)
        assert joins in (None, submitted.solve.id)
        self.model.submitted(
            submitted.job.id, token, tenant, {key: submitted.solve.id}, [key], frontier=False
        )

    @rule(keys=st.lists(KEYS, min_size=1, max_size=4), token=TOKENS)
    def submit_frontier(self, keys, token):
        tenant = TENANT_OF[token]
        joins = {key: self.model.joinable(tenant, key) for key in keys}
        submitted = self.scene.frontier(*keys, token=token)
        ids = {key: point.solve_id for key, point in zip(keys, submitted.job.points, strict=True)}
        assert all(joins[key] in (None, ids[key]) for key in keys)
        assert set(submitted.created_solves) == {ids[key] for key in keys if joins[key] is None}
        made = {key: ids[key] for key in dict.fromkeys(keys)}
        self.model.submitted(submitted.job.id, token, tenant, made, keys, frontier=True)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data())
    def claim(self, data):
        solve_id, _ = self._solve(data, 0)
        solve = self.store.claim(solve_id, "worker")
        assert (solve is not None) == self.model.claim(solve_id)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data(), age=AGE, what=st.sampled_from(["incumbent", "bound", "progress", "log"]))
    def report(self, data, age, what):
        solve_id, attempt = self._solve(data, age)
        plan = self._plan() if what == "incumbent" else None
        written = {
            "incumbent": lambda: self.store.incumbent(solve_id, attempt, plan, 2.0, 1.0, 1.0, 1.0),
            "bound": lambda: self.store.bound(solve_id, attempt, 1.0, 1.0, 1.0),
            "progress": lambda: self.store.progress(solve_id, attempt, "on it", 1.0),
            "log": lambda: self.store.log(solve_id, attempt, "line\n"),
        }[what]()
        event, log = ("", "line\n") if what == "log" else (what, "")
        assert written == self.model.write(solve_id, attempt, event, plan=plan, log=log)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data(), age=AGE, state=st.sampled_from(["finished", "failed", "stopped"]))
    def end(self, data, age, state):
        solve_id, attempt = self._solve(data, age)
        plan = self._plan() if state == "finished" else None
        ended = {
            "finished": lambda: self.store.finish(solve_id, attempt, plan, 2.0, 2.0, 0.0, 1.0),
            "failed": lambda: self.store.fail(solve_id, attempt, {"code": "odd"}),
            "stopped": lambda: self.store.stopped(solve_id, attempt),
        }[state]()
        assert ended == self.model.end(solve_id, attempt, SolveState(state), plan=plan)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data(), age=AGE)
    def lost(self, data, age):
        solve_id, attempt = self._solve(data, age)
        assert self.store.lost(solve_id, attempt) == self.model.lost(solve_id, attempt)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data(), age=AGE)
    def release(self, data, age):
        solve_id, attempt = self._solve(data, age)
        assert self.store.release(solve_id, attempt) == self.model.release(solve_id, attempt)

    @precondition(lambda self: self.model.solves)
    @rule(data=st.data())
    def corrupt(self, data):
        solve_id, _ = self._solve(data, 0)
        self.store.corrupt(solve_id)
        self.model.corrupt(solve_id)

    @precondition(lambda self: self.model.jobs)
    @rule(data=st.data(), own=st.sampled_from([True, True, True, False]), discard=st.booleans())
    def leave(self, data, own, discard):
        job_id = data.draw(st.sampled_from(list(self.model.jobs)), label="job")
        token = self.model.jobs[job_id].token
        token = token if own else token % 3 + 1
        left = self.store.leave(job_id, token, discard=discard)
        before = set(self.model.solves)
        expected = self.model.leave(job_id, token, discard=discard)
        assert (None if left is None else sorted(left.solves_to_stop)) == (
            None if expected is None else sorted(expected)
        )
        self.gone += before - set(self.model.solves)

    @rule()
    def sweep(self):
        before = set(self.model.solves)
        self.store.sweep(older_than_seconds=1e9, most_bytes=0)
        self.model.sweep()
        self.gone += before - set(self.model.solves)

    @invariant()
    def solves_agree(self):
        found = self.store.solves([*self.model.solves, *self.gone])
        assert set(found) == set(self.model.solves)
        for id_, expected in self.model.solves.items():
            solve = found[id_]
            assert (solve.state, solve.attempt, solve.losses, solve.stop_requested) == (
                expected.state,
                expected.attempt,
                expected.losses,
                expected.stop,
            ), id_
            assert self.store.plan(id_) == expected.plan
            assert solve.has_plan == (expected.plan is not None)
            assert (solve.error is not None) == (solve.state == SolveState.FAILED)
            assert self.store.read_log(id_, 0, 10_000)[0] == expected.log
        assert self.store.queued(1000) == self.model.queued()
        counts = self.store.counts()
        assert sum(counts.values()) == len(self.model.solves)

    @invariant()
    def events_tell_the_story(self):
        for id_, expected in self.model.solves.items():
            events = self.store.events(id_, 0, 1000)
            assert [event.kind.value for event in events] == expected.events
            assert [event.seq for event in events] == list(range(1, len(events) + 1))
            states = [event.data["state"] for event in events if event.kind in ("state", "done")]
            assert states[0] == "queued"
            for step in itertools.pairwise(states):
                assert step in TRANSITIONS
            assert states[-1] == expected.state

    @invariant()
    def jobs_agree(self):
        for token in (1, 2, 3):
            mine = [id_ for id_, job in self.model.jobs.items() if job.token == token]
            found = self.store.jobs(token, limit=1000, before=None)
            assert [job.id for job in found] == mine[::-1]
            for job in found:
                expected = self.model.jobs[job.id]
                assert list(job.solve_ids) == expected.solves
                assert (job.left_at is not None) == expected.left
                assert self.store.job_plan(job.id) == expected.kept
                assert self.store.job(job.id, token) == job
                assert self.store.job(job.id, token % 3 + 1) is None

    @invariant()
    def nothing_stored_means_zero(self):
        assert (self.store.stored_bytes() == 0) == (not self.model.solves)


@pytest.mark.parametrize("examples", [15, pytest.param(60, marks=pytest.mark.slow)])
def test_the_store_does_what_the_model_does(store, examples):
    machine = type("Machine", (StoreMachine,), {"store": store})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.mark.parametrize(("before", "after"), sorted(TRANSITIONS))
def test_no_state_follows_an_end_but_a_damaged_plan(before, after):
    assert not before.ended or (before, after) == (SolveState.FINISHED, SolveState.FAILED)
