"""The options of commands that work on a service's own database, and what they need installed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poet_core.errors import UsageError

if TYPE_CHECKING:
    from poet_service.settings_sources import LoadedSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--database", metavar="URL",
        help="postgresql://... or sqlite:///FILE. A password is better in POET_SERVICE_DATABASE.",
    ),
    click.option(
        "--state-dir", type=click.Path(path_type=Path), metavar="DIR",
        help="The folder of the SQLite database, where no other is named.",
    ),
    click.option(
        "--config", type=click.Path(path_type=Path), metavar="FILE",
        help="Settings in a TOML file (or POET_SERVICE_CONFIG).",
    ),
)  # fmt: skip

SERVICE_MODULES = (
    "alembic", "fastapi", "prometheus_client", "pydantic_settings", "sqlalchemy", "uvicorn",
)  # fmt: skip
QUEUE_MODULES = ("procrastinate", "psycopg", "psycopg_pool")


def service_options(command: _Command) -> _Command:
    """--database, --state-dir and --config."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def loaded_settings(config: Path | None, **given: Any) -> LoadedSettings:
    """The settings of the command line (None is not given), environment and file. Raises
    UsageError."""
    require_service()
    from poet_service.settings_sources import load_settings

    return load_settings(
        file=config, given={key: value for key, value in given.items() if value is not None}
    )


def require_service() -> None:
    """Raise UsageError (`service_missing`) where the service's extra is not installed."""
    import importlib.util

    missing = [name for name in SERVICE_MODULES if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(
            f"The service needs {', '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} "
            "not installed.",
            code="service_missing",
            hint="pip install 'poet-planner[service]'",
        )
