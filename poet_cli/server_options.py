"""The options that say at which service to plan, and what to do without it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poet_cli.output import say
from poet_core.errors import PoetError, UsageError

if TYPE_CHECKING:
    from poet_client import PlannerClient

_Command = TypeVar("_Command", bound=Callable[..., Any])

_TOKEN_OPTIONS = (
    click.option(
        "--token", metavar="TOKEN",
        help="For the server; better in the file that POET_TOKEN_FILE names, or in POET_TOKEN.",
    ),
    click.option(
        "--insecure-token", is_flag=True,
        help="Send the token to another machine over plain http.",
    ),
)  # fmt: skip
_OPTIONS = (
    click.option("--server", metavar="URL", help="Plan there; the answer is judged here."),
    *_TOKEN_OPTIONS,
    click.option(
        "--fallback", type=click.Choice(["local"]),
        help="Plan here where the server cannot be reached, is out of order or stays busy.",
    ),
)  # fmt: skip
_NAMES = ("server", "token", "insecure_token", "fallback")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerChoice:
    """A service to plan at. `fallback`: whether to plan here instead, where it is out of reach."""

    url: str
    token: str | None
    allow_insecure: bool
    fallback: bool

    def client(self) -> PlannerClient:
        """Raises UsageError (`server_invalid`, `token_insecure`, ...)."""
        from poet_client import PlannerClient

        return PlannerClient(self.url, token=self.token, allow_insecure=self.allow_insecure)

    def falls_back(self, error: PoetError) -> bool:
        """Whether to plan here instead; says so."""
        from poet_client import is_unavailable

        if not self.fallback or not is_unavailable(error):
            return False
        say(f"{error.message} Planning here instead (--fallback local).")
        return True


def server_options(command: _Command) -> _Command:
    """--server, --token, --insecure-token, --fallback."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def token_options(command: _Command) -> _Command:
    """--token and --insecure-token alone."""
    for option in reversed(_TOKEN_OPTIONS):
        command = option(command)
    return command


def taken_server(options: dict[str, Any]) -> ServerChoice | None:
    """The service that the options name, which are taken out of `options`. Raises UsageError
    (`server_missing`) where one of them is for a server that is not named."""
    url, token, insecure, fallback = (options.pop(name) for name in _NAMES)
    if url is not None:
        return ServerChoice(
            url=url, token=token, allow_insecure=insecure, fallback=fallback is not None
        )
    for given, option in ((token, "--token"), (insecure, "--insecure-token"), (fallback, "--fallback")):  # fmt: skip
        if given:
            raise UsageError(
                f"{option} is for planning at a server, and none is named.",
                code="server_missing",
                hint="Add --server URL.",
            )
    return None
