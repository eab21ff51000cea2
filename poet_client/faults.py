"""What the network and a server do wrong, each as one ServiceError, for both transports.

server_unreachable      no connection, or one that broke
server_timeout          an answer that did not come in time
server_redirects        a redirect, which is never followed
server_answer_invalid   an answer that is none
server_answer_too_large more bytes than the answer can have
"""

from __future__ import annotations

import httpx

from poet_client.address import Address
from poet_core.errors import ServiceError

_PATHLESS = "Is this address a planning service?"


def unreachable(address: Address, error: Exception) -> ServiceError:
    """Nobody answered, or the connection broke."""
    return ServiceError(
        f"The planning service at {address.shown} cannot be reached ({type(error).__name__}).",
        code="server_unreachable",
        hint="Start one with `poet serve`, check the address, or plan locally (--fallback local).",
    )


def too_slow(address: Address, seconds: float | None = None) -> ServiceError:
    """The answer did not come in time."""
    within = f" within {seconds:.3g} seconds" if seconds else " in time"
    return ServiceError(
        f"The planning service at {address.shown} did not answer{within}.",
        code="server_timeout",
        hint="Give the solver less time, or the client a longer timeout.",
    )


def too_large(address: Address, most_bytes: int) -> ServiceError:
    """The answer is longer than any that was asked for."""
    return ServiceError(
        f"The answer of the server at {address.shown} is longer than {most_bytes} bytes, more than "
        "any answer to this.",
        code="server_answer_too_large",
        hint="Plan locally, or use another server.",
    )


def of_exchange(address: Address, error: Exception, seconds: float) -> ServiceError:
    """What httpx raised, in our words."""
    if isinstance(error, httpx.TimeoutException) and not isinstance(error, httpx.ConnectTimeout):
        return too_slow(address, seconds)
    return unreachable(address, error)


def check_head(address: Address, response: httpx.Response, most_bytes: int) -> None:
    """Refuse what is not read any further. Raises ServiceError."""
    if 300 <= response.status_code < 400:
        raise ServiceError(
            f"The server at {address.shown} redirects elsewhere, which is not followed.",
            code="server_redirects",
            hint="Give the address of the service itself.",
        )
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise ServiceError(
            f"The server at {address.shown} sent a compressed answer that nobody asked for.",
            code="server_answer_invalid",
            hint=_PATHLESS,
        )
    length = response.headers.get("content-length", "")
    if length.isdecimal() and (len(length) > 15 or int(length) > most_bytes):
        raise too_large(address, most_bytes)
