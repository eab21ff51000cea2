"""`poet train MODULE:FUNCTION --isolated`: the user's step, its plan, and the worker that trains it.

A plan comes from a file, is made for a device and a budget, or, with a cap alone, for what the cap
leaves. Invariant: a plan that cannot fit the cap is refused before a worker is started.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from poet_cli.caps import can_enforce, check_plan_fits, plan_for_cap
from poet_cli.commands.trace import set_threads
from poet_cli.isolated_training import Job, WorkerChoices, train_isolated, units_of
from poet_cli.loading import advised, load_step
from poet_cli.output import working
from poet_cli.planning import InterruptiblePlanner, interrupted, planned_for_time

if TYPE_CHECKING:
    from poet_core.plan import Plan
    from poet_runtime.program import Program


def train_step_isolated(
    step: str,
    how: dict[str, Any] | None,
    chosen: dict[str, Any],
    choices: WorkerChoices,
    *,
    quiet: bool,
) -> dict[str, Any]:
    """Traces, plans and trains. `how`: TrainStep's plan, device, ram and planner; None to plan for
    the cap alone. Returns what is to be said, as JSON values."""
    choices.check_place()
    with advised(step):
        model, loss_fn, optimizer, batch = load_step(step)
    set_threads(chosen["threads"])
    cap_bytes = chosen["cap_bytes"]
    with working("Preparing the step", quiet=quiet) as renew, advised(step):
        if how is None:
            program, plan = _for_cap((model, loss_fn, optimizer, batch), step, chosen, renew)
        else:
            program, plan = _as_asked(
                (model, loss_fn, optimizer, batch), step, how, chosen["wall_seconds"]
            )
            if cap_bytes is not None:
                check_plan_fits(program, plan, cap_bytes)
    unit, count = units_of(batch)
    job = Job(
        model=model, optimizer=optimizer, program=program, plan=plan, batch_of=lambda _: batch,
        unit=unit, count=count, steps=chosen["steps"], cap_bytes=cap_bytes,
    )  # fmt: skip
    return train_isolated(job, choices, quiet=quiet, counted=not can_enforce())


def _as_asked(
    made: Any, name: str, how: dict[str, Any], wall_seconds: float
) -> tuple[Program, Plan]:
    from poet_cli.commands.train import is_measured
    from poet_core.plan import Objective
    from poet_runtime.plan_source import PlanSource
    from poet_runtime.tracing.trace import trace

    program = trace(*made, measure_seconds=is_measured(how), name=name)

    planner = how.get("planner")

    def planned(cancel: threading.Event) -> Plan:
        source = PlanSource(
            device=how.get("device"), ram=how["ram"], plan=how.get("plan"),
            planner=(planner or InterruptiblePlanner()).until(cancel),
            time_ratio=None,
            objective=Objective.ENERGY, allowed=None, flash_write_bytes=None,
            wall_seconds=wall_seconds,
        )  # fmt: skip
        return source.plan_for(program)[0]

    return program, interrupted(planned)


def _for_cap(made: Any, name: str, chosen: dict[str, Any], renew: Any) -> tuple[Program, Plan]:
    from poet_runtime.step_options import StepOptions
    from poet_runtime.tracing.trace import trace

    def traced(*, measured: bool, split_above_bytes: int | None) -> Program:
        return trace(
            *made, name=name, measure_workspace=measured, measure_seconds=measured,
            options=StepOptions(split_above_bytes=split_above_bytes),
        )  # fmt: skip

    found = plan_for_cap(
        traced,
        lambda program, budget: planned_for_time(
            program, budget, chosen["wall_seconds"], chosen.get("paging_directory")
        ),
        chosen["cap_bytes"],
        say=renew,
    )
    return found.program, found.plan
