"""One POST to a server that may be absent, slow or hostile.

The reply is bounded in bytes and in time, never decompressed, and a redirect is not followed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from urllib.parse import urlsplit

import httpx

from poet_core.errors import ServiceError, UsageError
from poet_core.text import printable

_CONNECT_SECONDS = 10.0
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """Status and body."""

    status: int
    body: bytes


class Transport:
    """The base address of a service. Raises UsageError (`server_invalid`) where it is none."""

    def __init__(self, url: str) -> None:
        self._url = _checked(url)
        self._loopback = urlsplit(self._url).hostname in _LOOPBACK

    def post(self, path: str, body: bytes, *, most_bytes: int, timeout_seconds: float) -> Reply:
        """Post JSON. Raises ServiceError; a status that is no success is the caller's to read."""
        deadline = time.monotonic() + timeout_seconds
        headers = {
            "Content-Type": "application/json",
            "Accept": "application/json, application/problem+json",
            "Accept-Encoding": "identity",
        }
        timeout = httpx.Timeout(timeout_seconds, connect=min(_CONNECT_SECONDS, timeout_seconds))
        try:
            with (
                # A proxy for the outside world has no business with this machine's own service.
                httpx.Client(
                    timeout=timeout, follow_redirects=False, trust_env=not self._loopback
                ) as client,
                client.stream("POST", self._url + path, content=body, headers=headers) as response,
            ):
                return self._read(response, most_bytes, deadline)
        except httpx.TimeoutException as error:
            raise self._too_slow(timeout_seconds) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ServiceError(
                f"The planning service at {self._shown} cannot be reached "
                f"({type(error).__name__}).",
                code="server_unreachable",
                hint="Start one with `poet serve`, check the address, or plan locally.",
            ) from error

    def _read(self, response: httpx.Response, most_bytes: int, deadline: float) -> Reply:
        if 300 <= response.status_code < 400:
            raise ServiceError(
                f"The server at {self._shown} redirects elsewhere, which is not followed.",
                code="server_redirects",
                hint="Give the address of the service itself.",
            )
        if response.headers.get("content-encoding", "identity").lower() != "identity":
            raise ServiceError(
                f"The server at {self._shown} sent a compressed answer that nobody asked for.",
                code="server_answer_invalid",
                hint="Is this address a planning service?",
            )
        body = bytearray()
        for chunk in response.iter_raw():
            body += chunk
            if len(body) > most_bytes:
                raise ServiceError(
                    f"The server's answer is longer than {most_bytes} bytes, more than any plan "
                    "for this graph.",
                    code="server_answer_too_large",
                    hint="Plan locally, or use another server.",
                )
            if time.monotonic() > deadline:
                raise self._too_slow(0.0)
        return Reply(status=response.status_code, body=bytes(body))

    def _too_slow(self, seconds: float) -> ServiceError:
        within = f" within {seconds:g} seconds" if seconds else " in time"
        return ServiceError(
            f"The planning service at {self._shown} did not answer{within}.",
            code="server_timeout",
            hint="Give the solver less time, or the client a longer timeout.",
        )

    @property
    def _shown(self) -> str:
        return printable(self._url, 100)


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid, parts = False, urlsplit("")
    if not valid or parts.username or parts.password or parts.query or parts.fragment:
        got = "one with a user name" if "@" in url else repr(printable(url, 80))  # no secrets back
        raise UsageError(
            "Expected a server address such as http://127.0.0.1:8080, without user name or query, "
            f"got {got}.",
            code="server_invalid",
            hint="`poet serve` prints its address.",
        )
    return url.rstrip("/")
