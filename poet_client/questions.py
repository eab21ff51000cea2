"""Questions that need no job: devices, sizes and floors of a request, the judge there.

The answers are the server's word; nothing here rests on them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from poet_client.job_flows import PLANS, Terms, ask_json
from poet_client.refusals import error_of
from poet_client.views import invalid
from poet_client.wire import Deadline, Flow, Request
from poet_core.device import DeviceProfile
from poet_core.device_document import device_from_document
from poet_core.documents import Limits, Node, canonical_json
from poet_core.errors import DeviceError, DocumentError, PoetError
from poet_core.plan import Plan
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import PlanRequest, request_to_document
from poet_core.text import printable

_MOST_DEVICES = 1000
_DEVICES = Limits(document_bytes=2**22, depth=6, values=100_000)
_ANSWER = Limits(document_bytes=2**18, depth=6, values=10_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What a server says of a request without solving it. `fits` False is proven, and `refused` says
    how; True says only that nothing speaks against it. The bounds hold for every schedule."""

    fits: bool
    ops: int
    storages: int
    references: int
    keep_everything_bytes: int
    floor_bytes: int
    floor_set_by: str
    least_seconds: float
    least_joules: float
    refused: PoetError | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the judge at a server says of a plan. `error`: why it refuses it."""

    accepted: bool
    error: PoetError | None


def devices(terms: Terms, ends: Deadline) -> Flow[tuple[DeviceProfile, ...]]:
    """The profiles that the server knows."""
    most = _DEVICES.document_bytes
    request = Request(method="GET", path="/v1/devices", most_bytes=most)
    document = yield from ask_json(request, terms, ends, _DEVICES)
    try:
        items = Node(document.get("devices"), "$.devices", _DEVICES).items(_MOST_DEVICES)
        return tuple(device_from_document(item.value, _DEVICES, item.path) for item in items)
    except DocumentError as error:
        raise invalid(error) from error
    except DeviceError as error:
        raise invalid(DocumentError(error.message, code=error.code)) from error


def validate(request: PlanRequest, terms: Terms, ends: Deadline) -> Flow[Validation]:
    """Sizes, floor and bounds of a request. Raises what the server refuses."""
    answer = yield from _post("validate", request_to_document(request), terms, ends)
    try:

        def size(name: str) -> int:
            return Node(answer.get(name), f"$.{name}").integer()

        bound, refused = answer.get("lower_bound"), answer.get("refused")
        bound = bound if isinstance(bound, dict) else {}
        return Validation(
            fits=Node(answer.get("fits"), "$.fits").boolean(),
            ops=size("ops"),
            storages=size("storages"),
            references=size("references"),
            keep_everything_bytes=size("keep_everything_bytes"),
            floor_bytes=size("floor_bytes"),
            floor_set_by=printable(str(answer.get("floor_set_by", ""))),
            least_seconds=Node(bound.get("step_seconds"), "$.lower_bound.step_seconds").number(),
            least_joules=Node(bound.get("energy_joules"), "$.lower_bound.energy_joules").number(),
            refused=None if refused is None else error_of(refused),
        )
    except DocumentError as error:
        raise invalid(error) from error


def verify(request: PlanRequest, plan: Plan, terms: Terms, ends: Deadline) -> Flow[Verdict]:
    """The judge's word, at the server, on a plan for a request."""
    document = request_to_document(request) | {"plan": plan_to_document(plan)}
    answer = yield from _post("verify", document, terms, ends)
    try:
        accepted = Node(answer.get("accepted"), "$.accepted").boolean()
    except DocumentError as error:
        raise invalid(error) from error
    return Verdict(accepted=accepted, error=None if accepted else error_of(answer.get("error")))


def _post(what: str, document: Any, terms: Terms, ends: Deadline) -> Flow[dict[str, Any]]:
    """These posts change nothing, so they may be asked again."""
    request = Request(
        method="POST", path=f"{PLANS}:{what}", body=canonical_json(document),
        most_bytes=_ANSWER.document_bytes,
    )  # fmt: skip
    return (yield from ask_json(request, terms, ends, _ANSWER))
