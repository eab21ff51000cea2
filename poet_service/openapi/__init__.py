"""What /openapi.json says. Bodies are read by poet_core's strict readers, not by pydantic, so their
schemas are stated here; every example works as it is (a test posts each of them).

examples     requests that work
documents    schemas of graph, plan and device
schemas      schemas of requests and replies
replies      replies in words
plans, frontiers, devices, operations    the routes
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi

from poet_service.jobs.keys import planner_version
from poet_service.openapi.examples import EXAMPLES, FRONTIER_EXAMPLES
from poet_service.openapi.schemas import components
from poet_service.settings import Settings

__all__ = ["EXAMPLES", "FRONTIER_EXAMPLES", "TITLE", "describe"]

TITLE = "POET planner"
_DESCRIPTION = (
    "Plans a training step inside a device's RAM: keep, page or rematerialize every tensor. Every "
    "plan that leaves has been judged."
)


def describe(app: FastAPI, settings: Settings) -> dict[str, Any]:
    """The description of the whole API, made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=TITLE,
            version=planner_version(),
            description=_DESCRIPTION,
            routes=app.routes,
        )
        document["components"] = {
            "schemas": components(settings),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        }
        # A service without tokens asks for none.
        document["security"] = [{"token": []}, {}]
        _forget_foreign_refusals(document)
        app.openapi_schema = document
    return app.openapi_schema


def _forget_foreign_refusals(document: dict[str, Any]) -> None:
    """FastAPI adds a 422 of its own to a route whose path has a name in it; any text is one."""
    for path in document["paths"].values():
        for operation in path.values():
            content = operation["responses"].get("422", {}).get("content", {})
            if "application/json" in content:
                del operation["responses"]["422"]
