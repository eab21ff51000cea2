"""The options that say what is asked of a planner, for commands that look at more than one RAM budget.

They mean what they mean for `poet plan`; the RAM budget is the command's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poet_cli.options import Limit, chosen_device, device_options, joules_limit, seconds_limit
from poet_core.units import parse_bytes

if TYPE_CHECKING:
    from poet_core.graph import TrainingGraph
    from poet_core.plan_request import BackendChoice, PlanRequest

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    device_options,
    click.option(
        "--time", "time_limit", type=seconds_limit, metavar="1.2x|3.5s", help="Longest step."
    ),
    click.option(
        "--energy",
        "energy_limit",
        type=joules_limit,
        metavar="1.2x|3.5J",
        help="Most energy a step.",
    ),
    click.option(
        "--flash", "flash_bytes", type=parse_bytes, metavar="SIZE", help="Flash that may be used."
    ),
    click.option(
        "--flash-writes",
        "flash_write_bytes",
        type=parse_bytes,
        metavar="SIZE",
        help="Most bytes written to flash a step.",
    ),
    click.option(
        "--objective",
        type=click.Choice(["energy", "time"]),
        default="energy",
        show_default=True,
        help="What is minimised.",
    ),
    click.option("--no-page", is_flag=True, help="Never use flash."),
    click.option("--no-rematerialize", is_flag=True, help="Run every op once."),
    click.option("--no-reorder", is_flag=True, help="Keep the order of the graph."),
    click.option(
        "--backend",
        type=click.Choice(["auto", "cbc", "highs", "gurobi"]),
        default="auto",
        show_default=True,
        help="The MILP solver; gurobi needs gurobipy and a licence.",
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The values of these options."""

    device: str | None
    device_file: Path | None
    time_limit: Limit | None
    energy_limit: Limit | None
    flash_bytes: int | None
    flash_write_bytes: int | None
    objective: str
    no_page: bool
    no_rematerialize: bool
    no_reorder: bool
    backend: BackendChoice

    def request(self, graph: TrainingGraph) -> PlanRequest:
        """A request for all of the device's RAM. Raises UsageError, DeviceError."""
        from poet_core.plan import Allowed, Objective
        from poet_core.plan_request import PlanRequest

        chosen = chosen_device(self.device, self.device_file)
        time_limit, energy_limit = self.time_limit or Limit(), self.energy_limit or Limit()
        whole = PlanRequest(graph=graph, device=chosen, ram_bytes=0)
        return PlanRequest(
            graph=graph,
            device=chosen,
            ram_bytes=whole.profile.ram_bytes,
            time_ratio=time_limit.ratio,
            step_seconds=time_limit.amount,
            energy_ratio=energy_limit.ratio,
            energy_joules=energy_limit.amount,
            flash_bytes=self.flash_bytes,
            flash_write_bytes=self.flash_write_bytes,
            objective=Objective(self.objective),
            allowed=Allowed(
                page=not self.no_page,
                rematerialize=not self.no_rematerialize,
                reorder=not self.no_reorder,
            ),
            backend=self.backend,
        )


def problem_options(command: _Command) -> _Command:
    """--device, --time, --energy, --flash, --objective, --no-page and the like."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
