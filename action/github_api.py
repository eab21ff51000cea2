"""The few calls of GitHub's REST API that a comment needs.

Invariant: the token goes to the API's own address and nowhere else: no redirect is followed with
it, and no address is taken from a reply but the one that an artifact is downloaded from, which is
asked without it. Every reply is bounded, every wait too.
"""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from action.problems import ActionError
from poet_core.text import printable

LARGEST_REPLY_BYTES = 8 * 2**20  # a page of 100 comments of 65,536 characters
TRIES = 5
LONGEST_WAIT_SECONDS = 60.0
"""Of all waits of one call. A limit that lasts longer is told instead of waited for."""
_TIMEOUT_SECONDS = 30.0  # of one attempt to connect or read
_REDIRECTS = (301, 302, 303, 307, 308)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One answer: `headers` with lower-case names."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any) -> None:
        """A redirect is an answer like another; whether to follow it is the caller's."""


class GitHub:
    """The API at `address`, asked with `token`."""

    def __init__(
        self, *, address: str, token: str, wait: Callable[[float], None] = time.sleep
    ) -> None:
        self._address = _checked_address(address).rstrip("/")
        self._token = token
        self._wait = wait
        self._opener = urllib.request.build_opener(_NoRedirect)

    def get(self, path: str, **query: str | int) -> Any:
        """The JSON document at `path`. Raises ActionError."""
        asked = f"{path}?{urllib.parse.urlencode(query)}" if query else path
        return _document(self._tried("GET", asked), asked)

    def patch(self, path: str, document: Mapping[str, str]) -> bool:
        """Changes what is at `path`; False where it is no more. Raises ActionError."""
        reply = self._tried("PATCH", path, document)
        if reply.status not in (404, 410):
            _document(reply, path)
        return reply.status not in (404, 410)

    def post(self, path: str, document: Mapping[str, str]) -> bool:
        """Makes something at `path`, asked once: whether it was made. False where GitHub did not
        say, so that the caller can look before it asks again. Raises ActionError."""
        reply = self._once("POST", path, document)
        if reply is not None and _seconds_to_wait(reply, tried=0) is None:
            _document(reply, path)
            return True
        self._pause(reply, tried=0, waited=0.0, path=path)
        return False

    def download(self, path: str, most_bytes: int) -> bytes:
        """The file that `path` leads to, at most so large. Raises ActionError."""
        reply = self._tried("GET", path, most_bytes=most_bytes)
        if reply.status in _REDIRECTS:
            reply = self._tried_at(_checked_address(reply.headers.get("location", "")), most_bytes)
        if reply.status != 200:
            raise _refused(reply, path)
        return reply.body

    def _tried(
        self,
        method: str,
        path: str,
        document: Mapping[str, str] | None = None,
        *,
        most_bytes: int = LARGEST_REPLY_BYTES,
    ) -> Reply:
        return self._until(lambda: self._once(method, path, document, most_bytes), path)

    def _tried_at(self, address: str, most_bytes: int) -> Reply:
        request = urllib.request.Request(address)  # noqa: S310  Checked: https, or this machine.
        return self._until(lambda: self._sent(request, most_bytes), "the artifact's storage")

    def _until(self, ask: Callable[[], Reply | None], path: str) -> Reply:
        reply, waited = None, 0.0
        for tried in range(TRIES):
            reply = ask()
            if reply is not None and _seconds_to_wait(reply, tried) is None:
                return reply
            if tried < TRIES - 1:
                waited += self._pause(reply, tried=tried, waited=waited, path=path)
        raise _gave_up(reply, path)

    def _pause(self, reply: Reply | None, *, tried: int, waited: float, path: str) -> float:
        asked = _seconds_to_wait(reply, tried) if reply is not None else None
        seconds = 2.0**tried if asked is None else asked
        if waited + seconds > LONGEST_WAIT_SECONDS:
            raise _gave_up(reply, path)
        self._wait(seconds)
        return seconds

    def _once(
        self,
        method: str,
        path: str,
        document: Mapping[str, str] | None = None,
        most_bytes: int = LARGEST_REPLY_BYTES,
    ) -> Reply | None:
        request = urllib.request.Request(  # noqa: S310  As above.
            self._address + path,
            method=method,
            data=None if document is None else json.dumps(document).encode(),
            headers={
                "Accept": "application/vnd.github+json",
                "Content-Type": "application/json",
                "User-Agent": "poet-check",
                "X-GitHub-Api-Version": "2022-11-28",
            },
        )
        # Not a header that a handler of urllib would copy to another request.
        request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        return self._sent(request, most_bytes)

    def _sent(self, request: urllib.request.Request, most_bytes: int) -> Reply | None:
        """The reply; None where there was none."""
        try:
            try:
                with self._opener.open(request, timeout=_TIMEOUT_SECONDS) as got:
                    return _read(got, most_bytes)
            except urllib.error.HTTPError as refused:
                with refused:
                    return _read(refused, LARGEST_REPLY_BYTES)
        except (OSError, http.client.HTTPException):
            return None


def _read(got: Any, most_bytes: int) -> Reply:
    body = got.read(most_bytes + 1)
    if len(body) > most_bytes:
        raise ActionError(
            f"Expected at most {most_bytes} bytes from GitHub, got more.", code="reply_too_large"
        )
    headers = {name.lower(): value for name, value in got.headers.items()}
    return Reply(status=got.status, headers=headers, body=body)


def _seconds_to_wait(reply: Reply, tried: int) -> float | None:
    """How long to wait before asking again; None where the answer stands.

    GitHub's limits answer 403 or 429 ("Best practices for using the REST API"): `retry-after`, else
    `x-ratelimit-remaining: 0`, else a minute for a secondary limit.
    """
    if reply.status >= 500:
        return 2.0**tried
    if reply.status not in (403, 429):
        return None
    asked = reply.headers.get("retry-after", "")
    if asked.isascii() and asked.isdigit():
        return float(min(int(asked[:9]), 10**6))
    if reply.headers.get("x-ratelimit-remaining") == "0":
        return _until_reset(reply.headers.get("x-ratelimit-reset", ""))
    limited = reply.status == 429 or b"secondary rate limit" in reply.body.lower()
    return LONGEST_WAIT_SECONDS if limited else None


def _until_reset(moment: str) -> float:
    if not (moment.isascii() and moment.isdigit()):
        return LONGEST_WAIT_SECONDS
    return max(1.0, int(moment[:12]) - time.time())


def _document(reply: Reply, path: str) -> Any:
    if not 200 <= reply.status < 300:
        raise _refused(reply, path)
    try:
        return json.loads(reply.body)
    except (ValueError, RecursionError) as error:
        raise ActionError(
            f"Expected JSON from GitHub at {printable(path)}, got something else."
        ) from error


def _refused(reply: Reply, path: str) -> ActionError:
    hints = {
        401: "Give the step a token: GITHUB_TOKEN: ${{ github.token }}.",
        403: "The job needs `permissions: actions: read, pull-requests: write`.",
        404: "The job needs `permissions: actions: read, pull-requests: write`.",
    }
    said = printable(reply.body.decode("utf-8", "replace"), 200)
    return ActionError(
        f"GitHub answered {reply.status} at {printable(path)}: {said}",
        code="github_refused",
        hint=hints.get(reply.status, ""),
    )


def _gave_up(reply: Reply | None, path: str) -> ActionError:
    got = "no answer" if reply is None else f"status {reply.status}"
    return ActionError(
        f"Expected an answer of GitHub at {printable(path)}, got {got} each time.",
        code="github_unreachable",
        hint="Run the job again later.",
    )


def _checked_address(address: str) -> str:
    parts = urllib.parse.urlsplit(address)
    here = parts.scheme == "http" and parts.hostname in _LOOPBACK
    if (parts.scheme != "https" and not here) or not parts.hostname or parts.username:
        raise ActionError(
            f"Expected an https address, got {printable(address)!r}.", code="address_refused"
        )
    return address
