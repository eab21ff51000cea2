"""What a client asks for, and how it behaves: shared by the synchronous and the asynchronous one."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from poet_client import job_flows, plan_flows
from poet_client.address import Address, parse_address
from poet_client.frontier_flows import MOST_POINTS, Sweep, frontier_place, submit_frontier, sweep_of
from poet_client.handles import (
    CALL_SECONDS,
    FrontierFlows,
    PlanJobFlows,
    job_seconds,
    sweep_seconds,
)
from poet_client.job_flows import PLANS, Terms, place_of
from poet_client.judging import with_figures
from poet_client.retrying import RetryPolicy
from poet_client.tokens import find_token
from poet_client.views import check_job_id
from poet_client.wire import Deadline, Flow
from poet_core.device import DeviceProfile
from poet_core.plan import Allowed, Objective, Plan
from poet_core.plan_request import BackendChoice, PlannerChoice, PlanRequest


class PlanArguments(TypedDict, total=False):
    """What `plan` takes besides the graph: the fields of PlanRequest."""

    device: str | DeviceProfile
    ram_bytes: int
    time_ratio: float | None
    step_seconds: float | None
    energy_ratio: float | None
    energy_joules: float | None
    flash_bytes: int | None
    flash_write_bytes: int | None
    objective: Objective
    allowed: Allowed
    backend: BackendChoice
    planner: PlannerChoice
    wall_seconds: float
    patience_seconds: float


@dataclass(frozen=True, slots=True)
class Asking:
    """A service's address, and how its client behaves. `timeout`: bounds a whole plan in seconds,
    waiting for its turn included; None: the planning time asked for, and ten minutes more."""

    address: Address
    terms: Terms
    timeout: float | None

    def plan(self, request: PlanRequest, *, listening: bool) -> Flow[Plan]:
        """The judged plan."""
        request = with_figures(request)
        ends = self._ends(job_seconds(request))
        return plan_flows.planned(request, new_key(), self.terms, ends, listening=listening)

    def submit(self, request: PlanRequest, warm_start: Plan | None) -> Flow[PlanJobFlows]:
        """A job for it."""
        request = with_figures(request)
        ends = self._ends(job_seconds(request))
        view = yield from job_flows.submit(request, new_key(), self.terms, ends, warm_start)
        return self.job(view.job_id, request)

    def job(self, job_id: str, request: PlanRequest | None) -> PlanJobFlows:
        """One that is there; `request`: in figures."""
        graph = None if request is None else request.graph
        return PlanJobFlows(
            place=place_of(check_job_id(job_id), graph, PLANS),
            terms=self.terms,
            timeout=self.timeout,
            request=request,
        )

    def sweep(self, request: PlanRequest, ram_bytes: Sequence[int]) -> Sweep:
        """Many budgets. The request's own says nothing but which device's RAM none may exceed."""
        return sweep_of(with_figures(request), ram_bytes)

    def submit_frontier(self, sweep: Sweep) -> Flow[FrontierFlows]:
        """A job for them."""
        ends = self._ends(CALL_SECONDS)
        view = yield from submit_frontier(sweep, new_key(), self.terms, ends)
        return self.frontier(view.job_id, sweep)

    def frontier(self, job_id: str, sweep: Sweep | None) -> FrontierFlows:
        """One that is there."""
        points = MOST_POINTS if sweep is None else len(sweep.ram_bytes)
        place = frontier_place(check_job_id(job_id), points)
        return FrontierFlows(place=place, terms=self.terms, timeout=self.timeout, sweep=sweep)

    def sweep_ends(self, sweep: Sweep) -> Deadline:
        """When all of them must have ended."""
        return self._ends(sweep_seconds(sweep))

    def soon(self) -> Deadline:
        """For what waits for no solver."""
        return self._ends(CALL_SECONDS)

    def _ends(self, seconds: float) -> Deadline:
        return self.terms.within(self.timeout or seconds)


def asking_of(
    url: str,
    *,
    timeout: float | None,
    token: str | None,
    allow_insecure: bool,
    retry: RetryPolicy | None,
) -> Asking:
    """From what a user passes. Raises UsageError (`server_invalid`, `token_invalid`,
    `token_insecure`, `token_file_unreadable`)."""
    found = find_token(token, os.environ)
    address = parse_address(url, token=found, allow_insecure=allow_insecure)
    terms = Terms(retry=retry or RetryPolicy(), clock=time.monotonic)
    return Asking(address, terms, timeout)


def new_key() -> str:
    """An Idempotency-Key: random, of one call, and derived from nothing."""
    return secrets.token_hex(16)
