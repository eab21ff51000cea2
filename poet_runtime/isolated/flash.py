"""FlashOptions on their way to a worker.

Invariant: paths are absolute, so that they mean the same file wherever the worker runs; a disk of
one's own (`open_disk`) is code and stays where it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from poet_core.errors import ReplayError
from poet_runtime.flash.checksums import Checksums
from poet_runtime.flash.flash_file import OpenDisk, SystemDisk
from poet_runtime.flash.paging_file import FlashOptions


def flash_to_document(options: FlashOptions) -> dict[str, Any]:
    """The options as JSON. Raises ReplayError (`step_not_portable`)."""
    if options.open_disk is not SystemDisk:
        raise ReplayError(
            "The flash options cannot travel to a worker: open_disk is code of this process.",
            code="step_not_portable",
            hint="Leave open_disk out, or train in this process.",
        )
    names = {field.name for field in fields(options)} - {"open_disk"}
    document = {name: getattr(options, name) for name in names}
    document["file"] = absolute(options.file)
    if options.checksums is not None:
        document["checksums"] = options.checksums.name
    return document


def flash_from_document(document: Mapping[str, Any], open_disk: OpenDisk) -> FlashOptions:
    """The options, with the system calls of the reader."""
    name = document["checksums"]
    checksums = None if name is None else Checksums[name]
    return FlashOptions(**{**document, "checksums": checksums, "open_disk": open_disk})


def absolute(path: str | os.PathLike[str] | None) -> str | None:
    """A path that means the same in another working directory."""
    return None if path is None else str(Path(path).absolute())
