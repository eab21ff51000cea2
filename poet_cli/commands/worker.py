"""`poet worker`: solves for every `poet serve` that shares its PostgreSQL database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from poet_cli.options import json_option
from poet_cli.output import print_json
from poet_cli.service_options import QUEUE_MODULES, loaded_settings, service_options
from poet_core.errors import UsageError


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet worker --database postgresql://poet@db.example/poet --solves 4\n"
    "  POET_SERVICE_DATABASE=postgresql://... poet worker   # no password in the process list",
)
@service_options
@click.option(
    "--solves", type=click.IntRange(1, 256), metavar="N",
    help="Solves at once in this process (default 2).",
)  # fmt: skip
@click.option(
    "--grace", "worker_grace_seconds", type=float, metavar="SECONDS",
    help="Told to end, solves get so long before they are queued again (default 20).",
)  # fmt: skip
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
    settings = loaded_settings(config, **given).settings
    _require_queue()
    from poet_service.execution.distributed_process import run_worker
    from poet_service.logs import configure_logging
    from poet_service.security.remote import forget_secrets

    forget_secrets()
    configure_logging(settings.log_level)

    def announce(name: str) -> None:
        if as_json:
            print_json({"worker": name, "solves": settings.solves})
        else:
            click.echo(f"Worker {name} takes {settings.solves} solves at once.")

    run_worker(settings, announce=announce, alive_file=alive_file)


def _require_queue() -> None:
    import importlib.util

    missing = [name for name in QUEUE_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"A worker needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed.",
            code="service_missing",
            hint="pip install 'poet-planner[service]'",
        )
