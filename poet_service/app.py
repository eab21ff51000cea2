"""create_app: the routes of the planning service.

    POST /v1/plans            graph + device + budget -> 200 {id, plan, summary} or a problem
    GET  /v1/plans/{id}       the same reply again, while the process remembers it
    GET  /v1/devices          the shipped devices
    GET  /v1/devices/{name}   one profile, every number with its source
    GET  /healthz             {"status": "ok"}
    GET  /openapi.json        this API, with examples

A request is parsed strictly before anything is built, refused at once where no plan can exist, and
answered only with a plan that the judge accepts.
"""

from __future__ import annotations

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from poet_core.device_document import device_to_document
from poet_core.devices import device_names, load_device
from poet_core.documents import parse_json
from poet_core.errors import DeviceError, PlanError, PoetError, ServiceError
from poet_core.plan import Plan, Problem
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest, request_from_document
from poet_core.simulate import Judgement
from poet_core.summary import summarize
from poet_service import openapi
from poet_service.body import check_nodes, check_product, read_body
from poet_service.problems import json_bytes, problem_response
from poet_service.settings import ServiceSettings
from poet_service.shields import Shields, internal_failure
from poet_service.solving import (
    Gate,
    Planner,
    cancelled_with,
    default_planner,
    in_thread,
    solve,
)
from poet_service.store import PlanStore, new_id


def create_app(
    *, planner: Planner = default_planner, settings: ServiceSettings | None = None
) -> ASGIApp:
    """The application. `planner` finds plans; the default is poet_solvers."""
    settings = settings or ServiceSettings()
    # No /docs: its page would load scripts from elsewhere.
    app = FastAPI(docs_url=None, redoc_url=None, redirect_slashes=False, **openapi.DESCRIPTION)
    _add_error_replies(app)
    _add_lookups(app)
    _add_plans(app, planner, settings)
    return Shields(app, allowed_hosts=settings.allowed_hosts)


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(PoetError)
    async def refused(request: Request, error: PoetError) -> Response:
        request.scope["poet_error_code"] = error.code
        if isinstance(error, PlanError):  # the planner's fault, never the client's
            raise error
        retry = error.details.get("retry_after_seconds")
        return problem_response(error, headers={"Retry-After": str(retry)} if retry else None)

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        # Shields logs it; the message may quote a payload and stays here.
        return internal_failure(request.scope["poet_request_id"])

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "http_error")
        request.scope["poet_error_code"] = code
        return problem_response(
            ServiceError(
                "There is nothing at this address."
                if error.status_code == 404
                else "This address does not know that method.",
                code=code,
                hint="See /openapi.json.",
            ),
            status=error.status_code,
            headers=error.headers,
        )


def _add_lookups(app: FastAPI) -> None:
    @app.get("/healthz", **openapi.HEALTH)
    async def health() -> Response:
        return _json({"status": "ok"})

    @app.get("/v1/devices", **openapi.DEVICES)
    async def devices() -> Response:
        profiles = [load_device(name) for name in device_names()]
        return _json({"devices": [device_to_document(profile) for profile in profiles]})

    @app.get("/v1/devices/{name}", **openapi.DEVICE)
    async def device(name: str) -> Response:
        try:
            return _json(device_to_document(load_device(name)))
        except DeviceError as error:
            return problem_response(error, status=404)


def _add_plans(app: FastAPI, planner: Planner, settings: ServiceSettings) -> None:
    store = PlanStore(most_plans=settings.stored_plans, most_bytes=settings.stored_bytes)
    bodies = Gate(settings.bodies, "requests", settings.retry_after_seconds)
    solves = Gate(settings.solves, "solves", settings.retry_after_seconds)

    def read(body: bytes) -> tuple[PlanRequest, Problem]:
        check_nodes(body, settings)
        request = request_from_document(
            parse_json(body, settings.limits),
            settings.limits,
            most_wall_seconds=settings.most_wall_seconds,
            default_wall_seconds=settings.default_wall_seconds,
        )
        check_product(request.graph, settings)
        return request, request.problem()

    @app.post("/v1/plans", **openapi.MAKE_PLAN)
    async def make_plan(request: Request) -> Response:
        with bodies.hold():
            body = await read_body(request, settings)
            asked, problem = await in_thread(lambda: read(body))
        reply_id = new_id()
        with solves.hold():
            async with cancelled_with(request) as cancel:
                reply = await in_thread(
                    lambda: _reply(reply_id, problem, *solve(planner, asked, problem, cancel)),
                    cancel,
                )
        store.put(reply_id, reply)
        return Response(
            reply,
            media_type="application/json",
            headers={"Location": f"/v1/plans/{reply_id}"},
        )

    @app.get("/v1/plans/{plan_id}", **openapi.GET_PLAN)
    async def get_plan(plan_id: str) -> Response:
        body = store.get(plan_id)
        if body is None:
            raise ServiceError(
                "This service has no plan of that id.",
                code="plan_unknown",
                hint="Plans are kept in memory for a while: post the request again.",
            )
        return Response(body, media_type="application/json")


def _reply(reply_id: str, problem: Problem, plan: Plan, judgement: Judgement) -> bytes:
    summary = summarize(problem.graph, plan, judgement)
    return json_bytes(
        {
            "id": reply_id,
            "plan": plan_to_document(plan),
            "summary": summary.to_document() | {"line": summary.line()},
        }
    )


def _json(document: object) -> Response:
    return Response(json_bytes(document), media_type="application/json")
