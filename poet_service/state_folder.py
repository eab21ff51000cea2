"""The folder where a service without PostgreSQL keeps what it must not forget."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from poet_core.errors import ServiceError
from poet_core.text import printable
from poet_service.settings import Settings

if TYPE_CHECKING:
    from poet_service.database.store import Store


def make_state_folder(settings: Settings) -> Path:
    """The settings' state folder, made for this user alone where it is not there yet. Raises
    ServiceError (`state_dir_unusable`)."""
    folder = settings.state_dir.absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ServiceError(
            f"The folder {printable(str(folder), 200)} cannot be made: {error.strerror}.",
            code="state_dir_unusable",
            hint="--state-dir (POET_SERVICE_STATE_DIR) names a folder that this user may write to.",
        ) from error
    return folder


def open_service_store(settings: Settings) -> Store:
    """The database of the settings, in the state folder where none is named. Raises ServiceError
    and UsageError."""
    from poet_service.database.engine import open_store

    if not settings.distributed:
        make_state_folder(settings)
    return open_store(settings.database_url, connections=settings.database_threads)
