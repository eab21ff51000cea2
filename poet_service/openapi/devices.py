"""What the description says of /v1/devices."""

from __future__ import annotations

from typing import Any

from poet_service.openapi.examples import EXAMPLES
from poet_service.openapi.replies import ALWAYS, OF_BODIES, body, json_reply, problem

_ONE: dict[str, Any] = {"tags": ["devices"]}
_PROFILE = {
    "own_profile": {"summary": "A board", "value": EXAMPLES["own_profile"]["value"]["device"]}
}

LIST: dict[str, Any] = _ONE | {
    "operation_id": "listDevices",
    "summary": "The shipped devices, every number with its source",
    "responses": {200: json_reply("Profiles", "Devices"), **ALWAYS},
}
GET: dict[str, Any] = _ONE | {
    "operation_id": "getDevice",
    "summary": "One shipped device",
    "responses": {
        200: json_reply("poet.device/1", "Device"), 404: problem("No such device"), **ALWAYS,
    },
}  # fmt: skip
VALIDATE: dict[str, Any] = _ONE | {
    "operation_id": "validateDevice",
    "summary": "Your own profile as the service reads it",
    "openapi_extra": body("Device", _PROFILE),
    "responses": {
        200: json_reply("The profile, every field written out", "Device"),
        **OF_BODIES,
        422: problem("No profile, or one that contradicts itself"),
        **ALWAYS,
    },
}
