"""`poet serve`: the planning service, on this machine's loopback address unless told otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from poet_cli.options import json_option
from poet_cli.output import print_json, print_table, say
from poet_cli.service_options import loaded_settings, service_options

if TYPE_CHECKING:
    from poet_service.database.store import Store
    from poet_service.execution.executor import Executor
    from poet_service.settings import Settings
    from poet_service.settings_sources import LoadedSettings


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet serve                    # http://127.0.0.1:8080, SQLite in your state folder\n"
    "  poet serve --port 0           # a free port; its address is printed\n"
    "  poet serve --show-settings    # every setting, and where its value comes from\n"
    "  poet tokens create laptop && poet serve --host 0.0.0.0\n"
    "  POET_SERVICE_DATABASE=postgresql://... poet serve   # solves run in `poet worker`",
)
@click.option("--host", metavar="ADDRESS", help="Address to listen on (default 127.0.0.1).")
@click.option(
    "--port", type=click.IntRange(0, 65535), metavar="N",
    help="Port to listen on; 0 takes a free one (default 8080).",
)  # fmt: skip
@service_options
@click.option(
    "--allow-host", "allow_hosts", multiple=True, metavar="NAME",
    help="Answer requests for this host name too; may be repeated.",
)  # fmt: skip
@click.option("--solves", type=click.IntRange(1, 256), metavar="N",
              help="Solves at once in this process (default 2).")  # fmt: skip
@click.option(
    "--insecure-allow-remote", is_flag=True,
    help="Listen where other machines can reach it although there is no API token.",
)  # fmt: skip
@click.option(
    "--show-settings", is_flag=True, help="Print the settings and where each comes from, and end."
)
@json_option
def serve(
    config: Path | None,
    allow_hosts: tuple[str, ...],
    insecure_allow_remote: bool,
    show_settings: bool,
    as_json: bool,
    **given: Any,
) -> None:
    """Answer planning requests over HTTP (see docs/service.md).

    The address is printed once the service listens; the log goes to stderr, a JSON object a line.
    SIGTERM and SIGINT end it: what runs is queued again for the next start.
    """
    loaded = loaded_settings(
        config,
        **given,
        allowed_hosts=list(allow_hosts) or None,
        insecure_allow_remote=insecure_allow_remote or None,
    )
    if show_settings:
        _show(loaded, as_json)
    else:
        _serve(loaded.settings, as_json)


def _serve(settings: Settings, as_json: bool) -> None:
    from poet_service import server
    from poet_service.app import create_app
    from poet_service.logs import configure_logging
    from poet_service.security.remote import add_initial_token, check_remote, forget_secrets
    from poet_service.state_folder import open_service_store

    forget_secrets()
    store = open_service_store(settings)
    try:
        add_initial_token(settings, store)
        if not server.is_loopback(settings.host):
            check_remote(settings.host, settings, store)
            if not store.has_tokens():
                say("warning: everybody who reaches this address may use it, without a token")
        with server.listen(settings.host, settings.port) as listener:
            address = server.address_of(listener)

            def announce() -> None:
                if as_json:
                    print_json({"address": address})
                else:
                    click.echo(f"Listening on {address}")

            configure_logging(settings.log_level)
            app = create_app(settings, store=store, executor=_executor(settings, store))
            server.run(app, settings, listener, announce=announce)
    finally:
        store.close()


def _executor(settings: Settings, store: Store) -> Executor:
    """Where solves run: in workers of the PostgreSQL, or in processes under this one."""
    if settings.distributed:
        from poet_service.execution.distributed import ProcrastinateExecutor

        return ProcrastinateExecutor(store, settings)
    from poet_service.execution.embedded import EmbeddedExecutor
    from poet_service.execution.limits import ExecutionLimits
    from poet_service.state_folder import make_state_folder

    return EmbeddedExecutor(
        store,
        folder=make_state_folder(settings),
        solves_at_once=settings.solves,
        limits=ExecutionLimits.of(settings),
        reconcile_seconds=settings.reconcile_seconds,
    )


def _show(loaded: LoadedSettings, as_json: bool) -> None:
    rows = loaded.table()
    if as_json:
        print_json({"file": str(loaded.file) if loaded.file else None, "settings": rows})
        return
    print_table(
        ("setting", "value", "from", "why"),
        [(row["key"], _text(row["value"]), row["origin"], row["description"]) for row in rows],
    )


def _text(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return "" if value is None else str(value)
