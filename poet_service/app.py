"""create_app: the planning service as an ASGI application over a store and an executor.

    POST   /v1/plans                     200 the stored answer, or 202 a job
    GET    /v1/plans                     this token's jobs
    GET    /v1/plans/{id}                the job, its best plan so far; ?wait= for its end
    GET    /v1/plans/{id}/events         server-sent events; /plan the plan alone; /log?offset=
    DELETE /v1/plans/{id}                stop and keep; ?discard=true erases
    POST   /v1/plans:validate, :verify   without a job
    ...    /v1/frontiers                 several RAM budgets as one job
    GET    /v1/devices, /v1/devices/{name};  POST /v1/devices:validate
    GET    /healthz, /readyz, /metrics, /openapi.json

A request is parsed strictly before anything is built, refused at once where no plan can exist, and
answered only with a plan that the judge accepts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Receive, Scope, Send

from poet_core.errors import PlanError, PoetError, ServiceError, UsageError
from poet_core.text import printable
from poet_service import logs
from poet_service.database.store import Store
from poet_service.execution.executor import Executor
from poet_service.openapi import TITLE, describe
from poet_service.problems import problem_response
from poet_service.routes.devices import add_device_routes
from poet_service.routes.frontiers import add_frontier_routes
from poet_service.routes.operations import add_operation_routes
from poet_service.routes.parts import Parts, assemble
from poet_service.routes.plans import add_plan_routes
from poet_service.security.tokens import TokenBook
from poet_service.settings import Settings
from poet_service.shields import Shields, internal_failure


class Application:
    """The service as uvicorn calls it."""

    def __init__(self, shields: Shields, parts: Parts) -> None:
        self._shields, self._parts = shields, parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._shields(scope, receive, send)

    def leave(self) -> None:
        """The service is about to end: whoever waits is answered now, and streams end."""
        self._parts.poller.end()


def create_app(settings: Settings, *, store: Store, executor: Executor) -> Application:
    """The application. The executor is started and closed with it; the store stays the caller's."""
    parts = assemble(settings, store=store, executor=executor)
    # No /docs: its page would load scripts from elsewhere.
    app = FastAPI(
        title=TITLE,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lambda _: _running(parts),
    )
    app.openapi = lambda: describe(app, settings)  # type: ignore[method-assign]
    _add_error_replies(app)
    for add in (add_plan_routes, add_frontier_routes, add_device_routes, add_operation_routes):
        add(app.router, parts)
    tokens = TokenBook(store, memory_seconds=settings.token_memory_seconds)
    return Application(Shields(app, settings=settings, tokens=tokens, metrics=parts.metrics), parts)


@contextlib.asynccontextmanager
async def _running(parts: Parts) -> AsyncIterator[None]:
    # The embedded executor tells of changes; those of workers are found by asking the database.
    if hasattr(parts.executor, "notify"):
        parts.executor.notify = parts.poller.notify
    await parts.executor.start()
    sweeper = asyncio.create_task(_sweep(parts), name="poet-sweeper")
    try:
        yield
    finally:
        sweeper.cancel()
        await asyncio.wait([sweeper])
        await parts.poller.close()
        await parts.executor.close()
        await asyncio.to_thread(parts.threads.close)


async def _sweep(parts: Parts) -> None:
    """Erase what is too old or too much, now and then."""
    settings = parts.settings
    while True:
        await asyncio.sleep(settings.sweep_seconds)
        try:
            swept = await parts.threads.database(
                parts.store.sweep,
                older_than_seconds=settings.retain_seconds,
                most_bytes=settings.stored_bytes,
            )
        except ServiceError as error:
            logs.event("sweep_failed", error=error.code)
            continue
        if swept.jobs or swept.solves:
            logs.event("swept", jobs=swept.jobs, solves=swept.solves)


def _add_error_replies(app: FastAPI) -> None:
    @app.exception_handler(PoetError)
    async def refused(request: Request, error: PoetError) -> Response:
        request.scope["poet_error_code"] = error.code
        if isinstance(error, PlanError):  # the planner's fault, never the client's
            raise error
        return problem_response(error)

    @app.exception_handler(Exception)
    async def failed(request: Request, _: Exception) -> Response:
        # Shields logs it; the message may quote a payload and stays here.
        return internal_failure(request.scope["poet_request_id"])

    @app.exception_handler(RequestValidationError)
    async def misused(request: Request, error: RequestValidationError) -> Response:
        request.scope["poet_error_code"] = "parameter_invalid"
        return problem_response(_parameter_invalid(error))

    @app.exception_handler(HTTPException)
    async def not_routed(request: Request, error: HTTPException) -> Response:
        if error.status_code != 405:
            return _not_routed(request, error, "not_found", "There is nothing at this address.")
        # One route raised this, for its own method; an address has several.
        error.headers = {"Allow": ", ".join(sorted(_methods(app, request)))}
        told = "This address does not know that method."
        return _not_routed(request, error, "method_not_allowed", told)


def _not_routed(request: Request, error: HTTPException, code: str, told: str) -> Response:
    request.scope["poet_error_code"] = code
    return problem_response(
        ServiceError(told, code=code, hint="See /openapi.json."),
        status=error.status_code,
        headers=error.headers,
    )


def _methods(app: FastAPI, request: Request) -> set[str]:
    """The methods of the routes at a request's address."""
    here = [
        route
        for route in app.router.routes
        if isinstance(route, Route | APIRoute)
        and route.matches(dict(request.scope))[0] is not Match.NONE
    ]
    return set().union(*(route.methods or () for route in here))


def _parameter_invalid(error: RequestValidationError) -> UsageError:
    first = error.errors()[0]
    name = printable(str(first["loc"][-1]), 40)
    return UsageError(
        f"The parameter {name} makes no sense: {printable(str(first['msg']), 200)}.",
        code="parameter_invalid",
        hint="See /openapi.json.",
        details={"parameter": name},
    )
