"""Our side of `benchmarks.replay`: the same step in an IsolatedStep, under the kernel's cap."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from benchmarks.replay_models import SEED, Subject
from benchmarks.replay_worker import first_moments, gradient_error
from poet_core.device import DeviceProfile
from poet_core.plan import Objective
from poet_runtime.fingerprint import fingerprint
from poet_runtime.flash.calibrate import calibrated_host
from poet_runtime.isolated.budget import plan_budget_bytes
from poet_runtime.isolated.step import IsolatedStep
from poet_runtime.plan_source import PlanSource
from poet_runtime.program import Program
from poet_runtime.splitting_choice import AUTO, traced_and_planned
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace

_PLANNING_SECONDS, _SMALL_PLANNING_SECONDS = 30.0, 4.0


class Planner:
    """Traces a subject, once for each way to split it, and plans it for a cap."""

    def __init__(self, subject: Subject, *, small: bool) -> None:
        self._subject, self._small = subject, small
        self._device: DeviceProfile = calibrated_host()
        self._trace = functools.cache(self._traced)

    def start(self, cap_bytes: int, library: Path) -> Ours:
        """A worker under the cap. Raises what tracer, planner and worker raise."""
        # Split ops are a few more, which the budget's allowance covers.
        ops = len(self._trace(None).graph.ops)
        source = PlanSource(
            device=self._device,
            ram=plan_budget_bytes(cap_bytes, ops=ops),
            plan=None,
            planner=None,
            time_ratio=None,
            objective=Objective.TIME,
            allowed=None,
            flash_write_bytes=None,
            wall_seconds=_SMALL_PLANNING_SECONDS if self._small else _PLANNING_SECONDS,
        )
        program, plan, _ = traced_and_planned(self._trace, source, AUTO)
        model, _, optimizer, batch = self._subject.build(small=self._small)
        torch.manual_seed(SEED)
        step = IsolatedStep(
            model, optimizer, program, plan, batch, cap_bytes=cap_bytes, arena=library
        )
        return Ours(step, model, optimizer, batch, cap_bytes, plan.claims.peak_bytes)

    def _traced(self, split_above_bytes: int | None) -> Program:
        step = self._subject.build(small=self._small)
        options = StepOptions(split_above_bytes=split_above_bytes)
        return trace(*step, measure_seconds=True, options=options)


class Ours:
    """A worker under a cap, a step at a time."""

    def __init__(
        self,
        step: IsolatedStep,
        model: torch.nn.Module,
        optimizer: torch.optim.Optimizer,
        batch: tuple[torch.Tensor, ...],
        cap_bytes: int,
        planned_bytes: int,
    ) -> None:
        self._step, self._model, self._optimizer, self._batch = step, model, optimizer, batch
        self.cap_bytes, self.planned_bytes = cap_bytes, planned_bytes
        self.losses: list[str] = []
        self.gradient_error = float("nan")
        self._fingerprints: dict[int, str] = {}

    def run(self) -> float:
        """One step; its seconds."""
        self.losses.append(float(self._step(*self._batch)).hex())
        return self._step.newest_step_seconds

    def compare(self, reference: Path) -> None:
        """The error of the first step's gradients against eager's."""
        self._step.collect()
        expected = torch.load(reference, mmap=True)
        self.gradient_error = gradient_error(first_moments(self._model, self._optimizer), expected)

    def fingerprint_after(self, steps: int) -> str | None:
        """Of the whole state once so many steps were made; None before that."""
        if len(self.losses) == steps and steps not in self._fingerprints:
            self._step.collect()
            self._fingerprints[steps] = fingerprint(self._model, self._optimizer)
        return self._fingerprints.get(steps)

    def peak_bytes(self) -> int | None:
        """The most that the kernel charged to the worker."""
        return self._step.memory().group_bytes

    def close(self) -> None:
        """Ends the worker; what it trained is not wanted."""
        self._step.__exit__(RuntimeError, RuntimeError("not wanted"), None)
