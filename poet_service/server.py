"""The process of `poet serve`: a listening socket, uvicorn on it, and an end that is clean.

SIGTERM and SIGINT end it the same way: no new requests, those under way get `shutdown_seconds`,
the application closes what it opened, and the process ends by itself with status 0. An application
that cannot start says why as an error of the tree, once.
"""

from __future__ import annotations

import contextlib
import gc
import ipaddress
import resource
import signal
import socket
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import uvicorn
from starlette.types import Message, Receive, Scope, Send

from poet_core.errors import PoetError, ServiceError, UsageError
from poet_core.text import printable
from poet_service import logs
from poet_service.security.connections import guarded_protocol
from poet_service.settings import Settings

if TYPE_CHECKING:
    from poet_service.app import Application

# Connections that the kernel holds until they are accepted: a burst of a thousand is no attack.
_BACKLOG = 1024
_MOST_HEADER_BYTES = 32 * 1024
# Files of a process besides its connections: database, log, children's pipes.
_OTHER_FILES = 256


def listen(host: str, port: int) -> socket.socket:
    """A listening socket. Raises UsageError."""
    family, kind, protocol, where = _resolve(host, port)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(where)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UsageError(
            f"Cannot listen on {printable(host, 60)} port {port}: {error.strerror}.",
            code="port_unavailable",
            hint="Is it taken? --port 0 takes a free one.",
        ) from error
    return listener


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches the address. Raises UsageError."""
    where = _resolve(host, 0)[3]
    return ipaddress.ip_address(str(where[0]).partition("%")[0]).is_loopback


def address_of(listener: socket.socket) -> str:
    """The URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run(
    app: Application, settings: Settings, listener: socket.socket, *, announce: Callable[[], None]
) -> None:
    """Serve until SIGTERM or SIGINT; `announce` is called once the application has started. The
    listener stays the caller's to close. Raises what the application could not start for."""
    _allow_files(settings.connections)
    lifespan = _QuietLifespan(app)
    config = uvicorn.Config(
        lifespan,
        http=guarded_protocol(settings),
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # what a proxy says about its client decides nothing here
        lifespan="on",
        ws="none",
        limit_concurrency=settings.connections,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_seconds,
        h11_max_incomplete_event_size=_MOST_HEADER_BYTES,
    )
    try:
        _Server(config, announce, app.leave).run(sockets=[listener])
    except SystemExit:  # uvicorn's way to say that the application did not start
        if isinstance(lifespan.failure, PoetError):
            raise lifespan.failure from None
        raise ServiceError(
            "The service could not start; the log says where.", code="not_ready"
        ) from lifespan.failure


class _Server(uvicorn.Server):
    def __init__(
        self, config: uvicorn.Config, announce: Callable[[], None], leave: Callable[[], None]
    ) -> None:
        super().__init__(config)
        self._announce, self._leave = announce, leave

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which returns once the application has started."""
        await super().startup(sockets)
        if self.started:
            # What was imported stays: no full collection, which stops every answer meanwhile, need
            # look through it again.
            gc.collect()
            gc.freeze()
            self._announce()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """As uvicorn's, which waits for open answers: streams and long polls are told to end."""
        self._leave()
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, without raising the signal again afterwards: the end was asked for."""
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGTERM, signal.SIGINT)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _QuietLifespan:
    """The application, of whose failed start the error is kept and no traceback logged."""

    def __init__(self, app: Application) -> None:
        self._app = app
        self.failure: BaseException | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            await self._app(scope, receive, send)
            return

        async def send_quietly(message: Message) -> None:
            await send({"type": message["type"]} if "message" in message else message)

        try:
            await self._app(scope, receive, send_quietly)
        except Exception as error:
            self.failure = error
            if not isinstance(error, PoetError):
                logs.failure(error)
            raise


def _resolve(host: str, port: int) -> tuple[int, int, int, tuple[object, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise UsageError(
            f"Expected an address to listen on, got {printable(host, 60)!r}.",
            code="host_invalid",
            hint="E.g. 127.0.0.1.",
        ) from error
    family, kind, protocol, _, where = found[0]
    return family, kind, protocol, where


def _allow_files(connections: int) -> None:
    """Raise this process's soft limit of open files to what its connections need, if it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + connections // 4 + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if soft < wanted > hard != resource.RLIM_INFINITY:
        logs.event("few_files", wanted=wanted, limit=hard)
