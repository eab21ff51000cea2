"""PlannerClient: `plan()` posts a problem, and returns a plan that was judged here.

The server is not trusted. The device's profile and every limit are resolved here and sent as
figures; the answer must be a plan for exactly this problem, within bounds on bytes and
instructions, and pass the judge against this very graph. Otherwise nothing is returned.
"""

from __future__ import annotations

from poet_client.transport import Reply, Transport
from poet_core.baseline import judge_keep_everything
from poet_core.device import DeviceProfile
from poet_core.documents import DEFAULT_LIMITS, Limits, canonical_json, parse_json
from poet_core.errors import (
    BudgetError,
    DeviceError,
    DocumentError,
    GraphError,
    PlanError,
    PlanningError,
    PoetError,
    ServiceError,
    UsageError,
)
from poet_core.graph import TrainingGraph
from poet_core.plan import Allowed, Objective, Plan, Problem
from poet_core.plan_document import plan_from_document
from poet_core.plan_request import (
    DEFAULT_PATIENCE_SECONDS,
    DEFAULT_WALL_SECONDS,
    FLASH_WRITES_OF_PEAK,
    BackendChoice,
    PlannerChoice,
    PlanRequest,
    request_to_document,
)
from poet_core.text import printable
from poet_core.verify import verify

# What a server answers beside the solving itself: reading, judging, sending.
_OVERHEAD_SECONDS = 30.0
# An instruction takes at most about 45 bytes, an op's or storage's costs about 150.
_BYTES_PER_INSTRUCTION = 64
_BYTES_PER_ITEM = 512

_ERRORS: dict[str, type[PoetError]] = {
    "document": DocumentError,
    "graph": GraphError,
    "device": DeviceError,
    "budget": BudgetError,
    "usage": UsageError,
    "planning": PlanningError,
}


class PlannerClient:
    """A planning service at `url` (http or https). `timeout` bounds a whole request in seconds;
    None: the planning time asked for, and some."""

    def __init__(self, url: str, *, timeout: float | None = None) -> None:
        self._transport = Transport(url)
        self._timeout = timeout

    def plan(
        self,
        graph: TrainingGraph,
        *,
        device: str | DeviceProfile,
        ram_bytes: int,
        time_ratio: float | None = None,
        step_seconds: float | None = None,
        energy_ratio: float | None = None,
        energy_joules: float | None = None,
        flash_bytes: int | None = None,
        flash_write_bytes: int | None = None,
        objective: Objective = Objective.ENERGY,
        allowed: Allowed | None = None,
        backend: BackendChoice = "auto",
        planner: PlannerChoice = "portfolio",
        wall_seconds: float = DEFAULT_WALL_SECONDS,
        patience_seconds: float = DEFAULT_PATIENCE_SECONDS,
    ) -> Plan:
        """A plan for `graph` that the judge accepts here. See PlanRequest for the arguments.

        `flash_write_bytes` None means at most 4 x keep-everything's peak. Raises ServiceError
        (unreachable, or an answer that is none), PlanError (the judge refuses the server's plan),
        and what the server refuses, as the same error that planning here would raise.
        """
        request = PlanRequest(
            graph=graph,
            device=device,
            ram_bytes=ram_bytes,
            time_ratio=time_ratio,
            step_seconds=step_seconds,
            energy_ratio=energy_ratio,
            energy_joules=energy_joules,
            flash_bytes=flash_bytes,
            flash_write_bytes=flash_write_bytes,
            objective=objective,
            allowed=allowed or Allowed(),
            backend=backend,
            planner=planner,
            wall_seconds=wall_seconds,
            patience_seconds=patience_seconds,
        )
        return self.answer(request)

    def answer(self, request: PlanRequest) -> Plan:
        """The same for a whole request."""
        request = _with_figures(request)
        problem = request.problem()
        reply = self._transport.post(
            "/v1/plans",
            canonical_json(request_to_document(request)),
            most_bytes=_most_reply_bytes(request.graph),
            timeout_seconds=self._timeout or request.wall_seconds + _OVERHEAD_SECONDS,
        )
        if reply.status != 200:
            raise _refusal(reply)
        plan = _read_plan(reply, request.graph)
        _check_same_problem(plan, problem)
        verify(request.graph, plan)
        return plan


def _with_figures(request: PlanRequest) -> PlanRequest:
    """The request with the profile and absolute limits in place of names and ratios, so that what
    the server must answer is decided here."""
    budget = request.problem().budget
    writes = budget.flash_write_bytes
    if writes is None:
        writes = FLASH_WRITES_OF_PEAK * _keep_everything_bytes(request)
    return PlanRequest(
        graph=request.graph,
        device=request.profile,
        ram_bytes=request.ram_bytes,
        step_seconds=budget.step_seconds,
        energy_joules=budget.energy_joules,
        flash_bytes=budget.flash_bytes,
        flash_write_bytes=writes,
        objective=request.objective,
        allowed=request.allowed,
        backend=request.backend,
        planner=request.planner,
        wall_seconds=request.wall_seconds,
        patience_seconds=request.patience_seconds,
    )


def _keep_everything_bytes(request: PlanRequest) -> int:
    problem = request.problem()
    return judge_keep_everything(
        request.graph,
        problem.costs,
        reserved_bytes=problem.budget.reserved_bytes,
        alignment_bytes=problem.budget.alignment_bytes,
    ).peak_bytes


def _most_reply_bytes(graph: TrainingGraph) -> int:
    items = len(graph.ops) + len(graph.storages)
    most = 64 * len(graph.ops) * _BYTES_PER_INSTRUCTION + items * _BYTES_PER_ITEM
    return min(DEFAULT_LIMITS.document_bytes, most + 2**20)


def _read_plan(reply: Reply, graph: TrainingGraph) -> Plan:
    limits = Limits(
        document_bytes=DEFAULT_LIMITS.document_bytes,
        ops=len(graph.ops),  # instructions are bounded by 64 an op
        storages=len(graph.storages),
    )
    try:
        document = parse_json(reply.body, limits)
        if not isinstance(document, dict) or "plan" not in document:
            raise ServiceError(
                "The server's answer holds no plan.",
                code="server_answer_invalid",
                hint="Is this address a planning service?",
            )
        return plan_from_document(document["plan"], limits, "$.plan")
    except DocumentError as error:
        raise ServiceError(
            f"The server's answer is no plan: {error.message}",
            code="server_answer_invalid",
            hint="Is this address a planning service of the same version?",
            details={"document_code": error.code},
        ) from error


def _check_same_problem(plan: Plan, problem: Problem) -> None:
    pairs = {
        "budget": (plan.budget, problem.budget),
        "costs": (plan.costs, problem.costs),
        "device": (plan.device_name, problem.device_name),
        "objective": (plan.objective, problem.objective),
        "allowed": (plan.allowed, problem.allowed),
    }
    for part, (answered, asked) in pairs.items():
        if answered != asked:
            raise PlanError(
                f"The server's plan has another {part} than was asked for.",
                code="plan_for_other_problem",
                hint="Plan locally, or use another server.",
                details={"part": part},
            )


def _refusal(reply: Reply) -> PoetError:
    """The server's refusal as the error that planning here would raise; its words made safe."""
    try:
        document = parse_json(reply.body, Limits(document_bytes=2**20, depth=4))
    except DocumentError:
        document = None
    if not isinstance(document, dict) or not isinstance(document.get("code"), str):
        return ServiceError(
            f"The server answered with status {reply.status} and no reason.",
            code="server_answer_invalid",
            hint="Is this address a planning service?",
            details={"status": reply.status},
        )
    known = {"code", "detail", "hint", "kind", "title", "type"}
    details = {
        printable(key, 40): printable(value, 200) if isinstance(value, str) else value
        for key, value in list(document.items())[:32]
        if key not in known and (value is None or isinstance(value, str | int | float | bool))
    }
    error_type = _ERRORS.get(str(document.get("kind")), ServiceError)
    return error_type(
        printable(str(document.get("detail", "")), 600),
        code=printable(document["code"], 60),
        hint=printable(str(document.get("hint", "")), 300),
        details=details,
    )
