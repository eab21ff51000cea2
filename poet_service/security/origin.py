"""Which names and which web pages are answered.

Without tokens, whoever reaches the socket may ask, and a browser on this machine reaches it for
any page that it shows. Two checks keep pages out: the Host header must be a name that is known to
mean this service (a page cannot choose it, even through DNS rebinding), and a request that a
browser made for a page of another origin is refused (it says so in Origin or Sec-Fetch-Site).
With tokens no page has anything to send, so only names that the operator gave are checked.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from starlette.datastructures import Headers

from poet_core.errors import ServiceError
from poet_core.text import printable
from poet_service.settings import LOOPBACK_HOSTS, Settings

_DEFAULT_PORTS = {"http": 80, "https": 443}


def check_host(headers: Headers, settings: Settings, *, tokens: bool) -> None:
    """Raise ServiceError (`host_not_allowed`) for a name that does not mean this service."""
    if not settings.allowed_hosts and (tokens or settings.insecure_allow_remote):
        return
    host = headers.get("host", "")
    allowed = LOOPBACK_HOSTS | settings.allowed_hosts
    if _name(host) not in allowed:
        raise ServiceError(
            f"Expected a Host header of {sorted(allowed)}, got {printable(host, 60)!r}.",
            code="host_not_allowed",
            hint="Use the address that the service printed, or start it with --allow-host NAME.",
        )


def check_origin(headers: Headers, settings: Settings) -> None:
    """Raise ServiceError (`origin_not_allowed`) for a request of another origin's web page. Only
    for services without tokens."""
    origin = headers.get("origin")
    if origin is None:
        # Images and links send no Origin; every present browser says where they come from.
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return
        origin = "another site"
    elif origin.lower() in settings.allowed_origins or _is_own(origin, headers.get("host", "")):
        return
    raise ServiceError(
        f"This service does not answer web pages of {printable(origin, 60)!r}.",
        code="origin_not_allowed",
        hint="Set allowed_origins to let that page in, or use API tokens.",
    )


def _name(host: str) -> str:
    return (host if host.endswith("]") else host.rsplit(":", 1)[0]).lower()


def _is_own(origin: str, host: str) -> bool:
    """Whether an origin is this service as the request addressed it."""
    try:
        sent, asked = urlsplit(origin), urlsplit(f"{urlsplit(origin).scheme}://{host}")
        sent_port, asked_port = sent.port, asked.port
    except ValueError:  # no port number, no address
        return False
    default = _DEFAULT_PORTS.get(sent.scheme)
    return (
        default is not None
        and sent.hostname is not None
        and sent.hostname == asked.hostname
        and (sent_port or default) == (asked_port or default)
    )
