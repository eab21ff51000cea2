"""How a request is said in HTTP, by both transports: headers, time limits, bounded answers."""

from __future__ import annotations

import ssl
import time
from typing import Any

import httpx

from poet_client import faults
from poet_client.address import Address
from poet_client.wire import Reply, Request

CONNECT_SECONDS = 10.0
FAULTS = (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError)
"""What httpx raises where the network or the server is at fault."""


def client_options(address: Address) -> dict[str, Any]:
    """How httpx is set up."""
    options: dict[str, Any] = {
        "follow_redirects": False,
        # A proxy for the outside world has no business with this machine's own service.
        "trust_env": not address.loopback,
    }
    if address.loopback and address.url.startswith("http:"):
        # Nothing is encrypted here, and the world's certificates take long to load. This context
        # trusts nobody.
        options["verify"] = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    return options


def arguments(
    address: Address,
    request: Request,
    timeout_seconds: float,
    quiet_seconds: float | None = None,
) -> dict[str, Any]:
    """What httpx's `build_request` takes. Each of httpx's limits bounds one wait; the whole is
    bounded by who reads."""
    headers = {
        "Accept": "application/json, application/problem+json",
        "Accept-Encoding": "identity",
        **request.headers,
        **address.headers(),
    }
    if request.body is not None:
        headers["Content-Type"] = "application/json"
    read = timeout_seconds if quiet_seconds is None else quiet_seconds
    connect = min(CONNECT_SECONDS, timeout_seconds)
    return {
        "method": request.method,
        "url": address.url + request.path,
        "content": request.body,
        "headers": headers,
        "timeout": httpx.Timeout(timeout_seconds, connect=connect, read=read),
    }


def media_type(response: httpx.Response) -> str:
    """The content type without its parameters."""
    text: str = response.headers.get("content-type", "")
    return text.partition(";")[0].strip().lower()


class Body:
    """An answer as it comes: its head is checked at once, its bytes and time at every chunk.
    Raises ServiceError."""

    def __init__(
        self, address: Address, response: httpx.Response, most_bytes: int, ends: float
    ) -> None:
        faults.check_head(address, response, most_bytes)
        self._address, self._response = address, response
        self._most_bytes, self._ends = most_bytes, ends
        self._data = bytearray()

    def add(self, chunk: bytes) -> None:
        """The next bytes."""
        self._data += chunk
        if len(self._data) > self._most_bytes:
            raise faults.too_large(self._address, self._most_bytes)
        if time.monotonic() > self._ends:
            raise faults.too_slow(self._address)

    def reply(self) -> Reply:
        """The whole answer."""
        return Reply(
            status=self._response.status_code,
            body=bytes(self._data),
            content_type=media_type(self._response),
            retry_after=self._response.headers.get("retry-after", "")[:64],
        )
