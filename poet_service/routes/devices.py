"""/v1/devices: the shipped profiles, and whether a profile of one's own can be read."""

from __future__ import annotations

import re
from functools import cache

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from poet_core.device_document import device_from_document, device_to_document
from poet_core.devices import device_names, load_device
from poet_core.documents import parse_json
from poet_core.errors import DeviceError
from poet_service.body import check_nodes
from poet_service.openapi import devices as described
from poet_service.problems import json_bytes, problem_response
from poet_service.routes.parts import Parts
from poet_service.routes.requests import json_response, json_text
from poet_service.settings import Settings

_NAME = re.compile(r"[a-z0-9-]{1,64}")


def add_device_routes(router: APIRouter, parts: Parts) -> None:
    """The routes of devices."""

    @router.get("/v1/devices", **described.LIST)
    async def list_devices() -> Response:
        return json_text(await parts.threads.work(_all_devices))

    @router.get("/v1/devices/{name}", **described.GET)
    async def get_device(request: Request, name: str) -> Response:
        try:
            # A name is looked up among those that there are, and never becomes a path.
            profile = await parts.threads.work(load_device, name if _NAME.fullmatch(name) else "")
        except DeviceError as error:
            request.scope["poet_error_code"] = error.code
            return problem_response(error, status=404)
        return json_response(device_to_document(profile))

    @router.post("/v1/devices:validate", **described.VALIDATE)
    async def validate_device(request: Request) -> Response:
        async with parts.bodies.read(request) as body:
            return json_response(await parts.threads.work(_read_back, body, parts.settings))


@cache
def _all_devices() -> bytes:
    profiles = [load_device(name) for name in device_names()]
    return json_bytes({"devices": [device_to_document(profile) for profile in profiles]})


def _read_back(body: bytes, settings: Settings) -> dict[str, object]:
    """The profile in a body as the service understands it, every field written out."""
    check_nodes(body, settings)
    document = parse_json(body, settings.limits)
    return device_to_document(device_from_document(document, settings.limits))
