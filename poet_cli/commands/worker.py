"""`poet worker`: solves for every `poet serve` that shares its PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poet_cli.options import json_option
from poet_cli.output import print_json
from poet_core.errors import UsageError

# What `poet worker` needs beside the base, as modules.
_NEEDED = ("alembic", "procrastinate", "psycopg", "psycopg_pool", "pydantic_settings", "sqlalchemy")


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet worker --database postgresql://poet:secret@db.example/poet --solves 4\n"
    "  POET_SERVICE_DATABASE=postgresql://... poet worker   # no password in the process list",
)
@click.option(
    "--database", metavar="URL",
    help="The PostgreSQL database that `poet serve` uses.",
)  # fmt: skip
@click.option("--solves", type=int, metavar="N", help="Solves at once in this process (default 2).")
@click.option(
    "--grace", "worker_grace_seconds", type=float, metavar="SECONDS",
    help="Told to end, solves get so long before they are queued again (default 20).",
)  # fmt: skip
@click.option(
    "--state-dir", type=click.Path(path_type=Path), metavar="DIR",
    help="Where temporary files of solves go.",
)  # fmt: skip
@click.option(
    "--config", type=click.Path(path_type=Path), metavar="FILE", help="Settings in a TOML file."
)
@click.option(
    "--alive-file", type=click.Path(path_type=Path), metavar="FILE",
    help="Touched while the database answers; a health check looks at its age.",
)  # fmt: skip
@json_option
def worker(config: Path | None, alive_file: Path | None, as_json: bool, **given: Any) -> None:
    """Take solves from a queue in PostgreSQL and run them (see docs/operations.md).

    As many workers as wanted, on as many machines. SIGTERM: what runs is finished within the grace
    or queued again. The log goes to stderr, a JSON object a line.
    """
    _require_parts()
    from poet_service.execution.distributed_process import run_worker
    from poet_service.logs import configure_logging
    from poet_service.settings_sources import load_settings

    chosen = {name: value for name, value in given.items() if value is not None}
    settings = load_settings(file=config, given=chosen).settings
    configure_logging(settings.log_level)

    def announce(name: str) -> None:
        if as_json:
            print_json({"worker": name, "solves": settings.solves})
        else:
            click.echo(f"Worker {name} takes {settings.solves} solves at once.")

    run_worker(settings, announce=announce, alive_file=alive_file)


def _require_parts() -> None:
    import importlib.util

    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"A worker needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed.",
            code="service_missing",
            hint="pip install 'poet-planner[service]'",
        )
