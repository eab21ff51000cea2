"""PlanRequest: what a planner is asked for, as a user says it and as `POST /v1/plans` carries it.

    {"graph": {poet.graph/1}, "device": "jetson-tx2" or {poet.device/1},
     "budget": {"ram_bytes": n, "time_ratio": 1.2, ...},
     "objective": "energy", "allowed": {"page": true, ...},
     "planner": {"backend": "auto", "wall_seconds": 60}}

The command line and the client build one, the service reads one; all three get the same Problem
from `problem()`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from poet_core.bounds import check_above_floor
from poet_core.device import DeviceProfile
from poet_core.device_document import device_from_document, device_to_document
from poet_core.devices import load_device
from poet_core.documents import DEFAULT_LIMITS, Limits, Node, refuse
from poet_core.errors import GraphError, UsageError
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan import Allowed, Objective, Problem
from poet_core.problem import make_problem
from poet_core.units import LARGEST_INTEGER, format_bytes

BackendChoice = Literal["auto", "cbc", "highs", "gurobi"]
# A request document may not ask for Gurobi: its licence is the owner's of the machine.
_DOCUMENT_BACKENDS = frozenset({"auto", "cbc", "highs"})
PlannerChoice = Literal["portfolio", "poet-milp"]
"""The solvers that a stranger may ask for."""

DEFAULT_WALL_SECONDS = 60.0
# Neither a better plan nor a better bound for so long: little is to be expected any more.
DEFAULT_PATIENCE_SECONDS = 10.0

FLASH_WRITES_OF_PEAK = 4
"""A plan may write this many times keep-everything's peak to flash a step, unless told otherwise:
a hostile plan could wear a flash out."""

_REQUIRED = frozenset({"graph", "device", "budget"})
_OPTIONAL = frozenset({"objective", "allowed", "planner"})
_RATIOS = ("time_ratio", "energy_ratio")
_AMOUNTS = ("step_seconds", "energy_joules")
_SIZES = ("flash_bytes", "flash_write_bytes")
_ALLOWED = frozenset({"page", "rematerialize", "reorder"})


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """Graph, device, budget, objective, what is allowed, and how to plan.

    `device` is the name of a shipped profile or a profile. `planner`, `backend` and `wall_seconds`
    say how to look and are no part of the problem: `portfolio` is every method, `poet-milp` the MILP.
    `patience_seconds` ends it where neither plan nor bound got better for so long. See `make_problem` for the limits.
    """

    graph: TrainingGraph
    device: str | DeviceProfile
    ram_bytes: int
    time_ratio: float | None = None
    step_seconds: float | None = None
    energy_ratio: float | None = None
    energy_joules: float | None = None
    flash_bytes: int | None = None
    flash_write_bytes: int | None = None
    objective: Objective = Objective.ENERGY
    allowed: Allowed = field(default_factory=Allowed)
    backend: BackendChoice = "auto"
    planner: PlannerChoice = "portfolio"
    wall_seconds: float = DEFAULT_WALL_SECONDS
    patience_seconds: float = DEFAULT_PATIENCE_SECONDS

    @property
    def profile(self) -> DeviceProfile:
        """The device's profile. Raises DeviceError (`unknown_device`)."""
        return load_device(self.device) if isinstance(self.device, str) else self.device

    def problem(self) -> Problem:
        """The problem that is asked. Raises UsageError, DeviceError, and BudgetError
        (`ram_below_floor`) where no plan can exist."""
        profile = self.profile
        if self.ram_bytes > profile.ram_bytes:
            raise UsageError(
                f"The RAM budget of {self.ram_bytes} bytes ({format_bytes(self.ram_bytes)}) is "
                f"more than the device has: {profile.ram_bytes} bytes "
                f"({format_bytes(profile.ram_bytes)}).",
                code="ram_above_device",
                hint=f"Give at most {profile.ram_bytes} bytes, or another device.",
                details={"ram_bytes": self.ram_bytes, "device_ram_bytes": profile.ram_bytes},
            )
        problem = self.stated_problem()
        check_above_floor(self.graph, problem.budget, paging=self.allowed.page)
        return problem

    def stated_problem(self) -> Problem:
        """The problem as it is stated, within what the device has or not, possible or not. Raises
        UsageError, DeviceError and GraphError where the statement itself makes no sense."""
        profile = self.profile
        _check_total(self.graph, profile)
        return make_problem(
            self.graph,
            profile,
            ram_bytes=self.ram_bytes,
            time_ratio=self.time_ratio,
            step_seconds=self.step_seconds,
            energy_ratio=self.energy_ratio,
            energy_joules=self.energy_joules,
            flash_bytes=self.flash_bytes,
            flash_write_bytes=self.flash_write_bytes,
            objective=self.objective,
            allowed=self.allowed,
        )


def _check_total(graph: TrainingGraph, device: DeviceProfile) -> None:
    """Keep every sum of sizes, as the device rounds them, an integer that JSON readers hold
    exactly."""
    sizes = [storage.size_bytes for storage in graph.storages]
    sizes += [op.workspace_bytes for op in graph.ops]
    granule = device.alignment_bytes
    total = device.reserved_bytes + sum(-(-size // granule) * granule for size in sizes)
    if total > LARGEST_INTEGER:
        raise GraphError(
            f"The storages and workspaces, rounded up to {granule} bytes, and the device's "
            f"{device.reserved_bytes} reserved bytes are {total} bytes together; expected at most "
            "2^53 - 1.",
            code="graph_too_large",
            hint="Check the sizes: they are in bytes.",
        )


def request_to_document(request: PlanRequest) -> dict[str, Any]:
    """The request as a JSON value; limits that are not set are left out."""
    device, names = request.device, (*_RATIOS, *_AMOUNTS, *_SIZES)
    limits = {name: getattr(request, name) for name in names}
    return {
        "graph": graph_to_document(request.graph),
        "device": device if isinstance(device, str) else device_to_document(device),
        "budget": {"ram_bytes": request.ram_bytes}
        | {name: value for name, value in limits.items() if value is not None},
        "objective": str(request.objective),
        "allowed": {name: getattr(request.allowed, name) for name in sorted(_ALLOWED)},
        "planner": {
            "name": request.planner,
            "backend": request.backend,
            "wall_seconds": request.wall_seconds,
            "patience_seconds": request.patience_seconds,
        },
    }


def request_from_document(
    document: Any,
    limits: Limits = DEFAULT_LIMITS,
    *,
    most_wall_seconds: float = 3600.0,
    default_wall_seconds: float = DEFAULT_WALL_SECONDS,
) -> PlanRequest:
    """The request of a JSON value. Raises DocumentError, GraphError or DeviceError.

    The small parts are read first, so that a request that is wrong anyway costs no graph.
    """
    fields = Node(document, "$", limits).fields(_REQUIRED, _OPTIONAL)
    budget = _read_budget(fields["budget"])
    planner = _read_planner(fields.get("planner"), most_wall_seconds, default_wall_seconds)
    objective = fields.get("objective")
    device = fields["device"]
    return PlanRequest(
        **budget,
        **planner,
        objective=Objective(objective.choice(frozenset(Objective)))
        if objective
        else Objective.ENERGY,
        allowed=_read_allowed(fields.get("allowed")),
        device=device.string()
        if isinstance(device.value, str)
        else device_from_document(device.value, limits, device.path),
        graph=graph_from_document(fields["graph"].value, limits, fields["graph"].path),
    )


def _read_budget(node: Node) -> dict[str, Any]:
    fields = node.fields(frozenset({"ram_bytes"}), frozenset({*_RATIOS, *_AMOUNTS, *_SIZES}))

    def present(names: tuple[str, ...]) -> list[tuple[str, Node]]:
        return [(name, item) for name in names if (item := fields.get(name)) is not None]

    values: dict[str, Any] = {"ram_bytes": fields["ram_bytes"].integer(least=1)}
    values |= {name: item.number(least=1.0) for name, item in present(_RATIOS)}
    values |= {name: item.number() for name, item in present(_AMOUNTS)}
    values |= {name: item.integer() for name, item in present(_SIZES)}
    for ratio, amount in zip(_RATIOS, _AMOUNTS, strict=True):
        if ratio in values and amount in values:
            refuse(node.path, f"one of {ratio} and {amount}", "both", code="limit_twice")
    return values


def _read_allowed(node: Node | None) -> Allowed:
    if node is None:
        return Allowed()
    fields = node.fields(frozenset(), _ALLOWED)
    named = {name: item for name in sorted(_ALLOWED) if (item := fields.get(name)) is not None}
    return Allowed(**{name: item.boolean() for name, item in named.items()})


def _read_planner(node: Node | None, most: float, default: float) -> dict[str, Any]:
    if node is None:
        return {"wall_seconds": default}
    known = ("name", "backend", "wall_seconds", "patience_seconds")
    name, backend, seconds, patience = map(node.fields(frozenset(), frozenset(known)).get, known)
    return {
        "planner": name.choice(frozenset(get_args(PlannerChoice))) if name else "portfolio",
        "backend": backend.choice(_DOCUMENT_BACKENDS) if backend else "auto",
        "wall_seconds": seconds.number(least=0.1, most=most) if seconds else default,
        "patience_seconds": patience.number(least=0.1, most=most)
        if patience
        else DEFAULT_PATIENCE_SECONDS,
    }
