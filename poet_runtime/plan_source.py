"""PlanSource: where a step's plan comes from: the user, a planner, or nowhere (everything is kept).

Invariant: whatever the source, the plan has been judged against this very program.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from poet_core.device import DeviceProfile
from poet_core.devices import load_device
from poet_core.errors import ReplayError, UsageError
from poet_core.plan import Allowed, Objective, Plan, Problem
from poet_core.plan_request import PlanRequest
from poet_core.problem import make_problem
from poet_core.simulate import Judgement
from poet_core.units import parse_bytes
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.planner import Planner, accept, obtain_plan, unconstrained_plan
from poet_runtime.program import Program

_FLASH_FIGURES = (
    "page_in_latency_seconds", "page_in_bytes_per_second", "page_out_latency_seconds",
    "page_out_bytes_per_second", "flash_watts",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """What TrainStep was asked for; see there. `ram`: bytes or a text such as "512MiB";
    `machine`: the profile of what the step runs on, where no device is named; `paging_directory`
    and `flash`: where it pages, which is measured before a plan is made for time."""

    device: str | DeviceProfile | None
    ram: str | int | None
    plan: Plan | None
    planner: Planner | str | None
    time_ratio: float | None
    objective: Objective
    allowed: Allowed | None
    flash_write_bytes: int | None
    wall_seconds: float
    machine: str = "host"
    paging_directory: str | os.PathLike[str] | None = None
    flash: FlashOptions | None = None

    @property
    def profile(self) -> DeviceProfile | None:
        """The device. Raises DeviceError (`unknown_device`)."""
        return load_device(self.device) if isinstance(self.device, str) else self.device

    @property
    def ram_bytes(self) -> int | None:
        """The budget. Raises UsageError."""
        if self.ram is None:
            profile = self.profile
            return profile.ram_bytes if profile and self.plan is None else None
        return parse_bytes(self.ram) if isinstance(self.ram, str) else self.ram

    @property
    def plans_for_this_machine(self) -> bool:
        """Whether a plan is to be made that wants the seconds of this machine."""
        target = self.profile or load_device(self.machine)
        return self.plan is None and self.ram_bytes is not None and target.measured

    def plan_for(self, program: Program) -> tuple[Plan, Judgement]:
        """The plan and its judgement. Raises what planner and judge raise."""
        ram_bytes = self.ram_bytes
        if self.plan is not None or ram_bytes is None:
            return self._given(program, self.profile, ram_bytes)
        request = PlanRequest(
            graph=program.graph,
            device=self._target(),
            ram_bytes=ram_bytes,
            time_ratio=self.time_ratio,
            flash_write_bytes=self.flash_write_bytes,
            objective=self.objective,
            allowed=self.allowed or Allowed(),
            wall_seconds=self.wall_seconds,
        )
        return obtain_plan(request, self.planner)

    def problem_of(self, program: Program) -> Problem | None:
        """What a planner would be asked within RAM; None where no plan is to be made. Raises
        UsageError and DeviceError."""
        if self.plan is not None or self.ram_bytes is None:
            return None
        return make_problem(
            program.graph,
            self.profile or load_device(self.machine),
            ram_bytes=self.ram_bytes,
            allowed=self.allowed,
        )

    def _target(self) -> DeviceProfile:
        """What a plan is made for. A plan for time on this machine rests on its flash as measured,
        not on the estimates that the profile comes with; a GPU that pages to flash does so at the
        flash's speed, not its bus's."""
        profile = self.profile or load_device(self.machine)
        at_hand = not isinstance(self.device, DeviceProfile) and profile.name in {"host", "cuda"}
        flash = self.flash or FlashOptions()
        pages = flash.tier == "flash" and (self.allowed is None or self.allowed.page)
        if not at_hand or not pages:
            return profile
        if self.objective is not Objective.TIME:
            return _paging_as(load_device("host"), profile)
        from poet_runtime.flash.calibrate import calibrated_host
        from poet_runtime.memory.arena import Arena

        try:
            aligned = Arena.active() is not None
            host = calibrated_host(self.paging_directory, flash, aligned=aligned)
            return _paging_as(host, profile)
        except (UsageError, ReplayError):
            return profile  # a plan that pages there is refused, for that reason, when it is to run

    def for_another_graph(self) -> PlanSource:
        """The same wishes; a plan that was given becomes its budget."""
        if self.plan is None:
            return self
        return replace(self, plan=None, ram=self.ram or self.plan.budget.ram_bytes)

    def _given(
        self, program: Program, profile: DeviceProfile | None, ram_bytes: int | None
    ) -> tuple[Plan, Judgement]:
        """The user's plan, or keep-everything, judged."""
        graph = program.graph
        if self.plan is None:
            host = load_device(self.machine)
            plan = unconstrained_plan(make_problem(graph, host, ram_bytes=host.ram_bytes))
            return plan, accept(graph, plan)
        problem = None
        if profile is not None:
            problem = make_problem(graph, profile, ram_bytes=ram_bytes or profile.ram_bytes)
        cap = self.flash_write_bytes
        judged = accept(graph, self.plan, problem=problem, ram_bytes=ram_bytes, flash_write_bytes=cap)  # fmt: skip
        return self.plan, judged


def _paging_as(host: DeviceProfile, profile: DeviceProfile) -> DeviceProfile:
    """A profile of this machine with the host's flash."""
    if profile.name == host.name:
        return host
    flash = {name: getattr(host, name) for name in _FLASH_FIGURES}
    sources = {name: host.sources[name] for name in _FLASH_FIGURES if name in host.sources}
    return replace(profile, **flash, sources={**profile.sources, **sources})
