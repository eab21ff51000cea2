"""`poet serve`: the planning service, on this machine's loopback address unless told otherwise."""

from __future__ import annotations

import ipaddress
import socket

import click

from poet_cli.options import json_option
from poet_cli.output import print_json
from poet_core.errors import UsageError
from poet_core.text import printable


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet serve                    # http://127.0.0.1:8080\n"
    "  poet serve --port 0           # a free port; its address is printed\n"
    "  poet serve --host 0.0.0.0 --allow-remote",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8080, show_default=True,
    help="Port to listen on; 0 takes a free one.",
)  # fmt: skip
@click.option(
    "--allow-remote", is_flag=True,
    help="Listen where other machines can reach it. There is no authentication.",
)  # fmt: skip
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME",
    help="Answer requests for this host name too; may be repeated.",
)  # fmt: skip
@click.option(
    "--solves", type=click.IntRange(1, 64), default=2, show_default=True, help="Solves at once."
)
@json_option
def serve(
    host: str,
    port: int,
    allow_remote: bool,
    allow_hosts: tuple[str, ...],
    solves: int,
    as_json: bool,
) -> None:
    """Answer planning requests over HTTP (see docs/service.md).

    The address is printed once the service listens; the log goes to stderr, a JSON object a line.
    """
    _require_service()
    import uvicorn

    from poet_service.app import create_app
    from poet_service.logs import configure_logging
    from poet_service.settings import LOOPBACK_HOSTS, ServiceSettings

    listener = _listen(host, port, allow_remote)
    named = frozenset(name.lower() for name in allow_hosts)
    settings = ServiceSettings(
        # Whoever listens to the world is reached by names that only they know.
        allowed_hosts=None if allow_remote and not named else LOOPBACK_HOSTS | named,
        solves=solves,
    )
    configure_logging()
    config = uvicorn.Config(
        create_app(settings=settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        lifespan="off",
        ws="none",
        limit_concurrency=256,
        timeout_keep_alive=10,
        timeout_graceful_shutdown=5,
    )
    address = _address(listener)
    if as_json:
        print_json({"address": address})
    else:
        click.echo(f"Listening on {address}")
    uvicorn.Server(config).run(sockets=[listener])


def _require_service() -> None:
    import importlib.util

    if any(importlib.util.find_spec(name) is None for name in ("fastapi", "uvicorn")):
        raise UsageError(
            "The service needs FastAPI and uvicorn, which are not installed.",
            code="service_missing",
            hint="pip install 'poet-planner[service]'",
        )


def _listen(host: str, port: int, allow_remote: bool) -> socket.socket:
    """A listening socket. Raises UsageError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, where = found[0]
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"Expected an address to listen on, got {printable(host, 60)!r}.",
            code="host_invalid",
            hint="E.g. 127.0.0.1.",
        ) from error
    if not allow_remote and not ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback:
        raise UsageError(
            f"The address {printable(host, 60)} can be reached from other machines, and the "
            "service has no authentication.",
            code="remote_not_allowed",
            hint="Give --allow-remote if that is what you want.",
        )
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Cannot listen on {printable(host, 60)} port {port}: {error.strerror}.",
            code="port_unavailable",
            hint="Is it taken? --port 0 takes a free one.",
        ) from error
    return listener


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
