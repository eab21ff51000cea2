"""Where a service is, and who is told the token.

Invariant: a token is sent to the one origin that it was given for, encrypted or within this machine,
unless `allow_insecure` says otherwise. No message of ours quotes a token.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from poet_core.errors import UsageError
from poet_core.text import printable

_TOKEN = re.compile(r"[!-~]{8,512}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """The base address of a service, with the token for it."""

    url: str
    loopback: bool
    token: str | None = field(default=None, repr=False)

    @property
    def shown(self) -> str:
        """The address as it is shown to people."""
        return printable(self.url, 100)

    def headers(self) -> dict[str, str]:
        """What identifies the caller."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


def parse_address(url: str, *, token: str | None = None, allow_insecure: bool = False) -> Address:
    """The address in a text. Raises UsageError (`server_invalid`, `token_invalid`,
    `token_insecure`)."""
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
    address = Address(url=url.rstrip("/"), loopback=_is_loopback(parts.hostname or ""), token=token)
    _check_token(address, parts.scheme, allow_insecure)
    return address


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_token(address: Address, scheme: str, allow_insecure: bool) -> None:
    token = address.token
    if token is None:
        return
    if not _TOKEN.fullmatch(token):
        raise UsageError(
            "Expected a token of 8 to 512 printable ASCII characters without spaces.",
            code="token_invalid",
            hint="`poet tokens create` prints one; copy the whole line.",
        )
    if scheme == "http" and not address.loopback and not allow_insecure:
        raise UsageError(
            f"The token would go to {address.shown} unencrypted, where others can read it.",
            code="token_insecure",
            hint="Use an https address, or a tunnel to this machine's loopback; "
            "allow_insecure (--insecure-token) sends it all the same.",
        )
