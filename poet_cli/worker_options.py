"""The options of `poet train` for a worker: flash and checkpoints."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from poet_cli.isolated_training import WorkerChoices
from poet_core.units import parse_bytes

_Command = TypeVar("_Command", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--isolated", is_flag=True,
        help="Train in a process of its own that imports torch and the replay only.",
    ),
    click.option(
        "--cap", "cap_bytes", type=parse_bytes, metavar="SIZE",
        help="The kernel's limit on that process, all of it. Without --ram and --plan, a plan is "
        "made for what it leaves.",
    ),
    click.option(
        "--paging-directory", type=click.Path(path_type=Path), metavar="DIR",
        help="Where the paging file goes.",
    ),
    click.option(
        "--paging-file", type=click.Path(path_type=Path), metavar="FILE",
        help="A named paging file or a raw device instead. Needs --isolated.",
    ),
    click.option(
        "--checksums", type=click.Choice(("sums", "crc", "sampled")),
        help="Of what is paged out (default: sums, every byte). Needs --isolated.",
    ),
    click.option(
        "--endurance", "endurance_bytes", type=parse_bytes, metavar="SIZE",
        help="What the flash bears in its life, for the report of wear. Needs --isolated.",
    ),
    click.option(
        "--checkpoint", type=click.Path(path_type=Path), metavar="PATH",
        help="Checkpoints go to PATH.0 and PATH.1, one at the end. Needs --isolated.",
    ),
    click.option(
        "--checkpoint-every", type=click.IntRange(1, 10**9), metavar="N",
        help="And one every N steps.",
    ),
    click.option(
        "--resume", is_flag=True,
        help="Go on from the newest checkpoint; --steps counts those before it.",
    ),
)  # fmt: skip

_NAMES = (
    "paging_directory",
    "paging_file",
    "checksums",
    "endurance_bytes",
    "checkpoint",
    "checkpoint_every",
    "resume",
)
_ONLY_ISOLATED = [name for name in _NAMES if name != "paging_directory"]


def worker_options(command: _Command) -> _Command:
    """--isolated, --cap, and what they go with."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def worker_choices(chosen: dict[str, Any]) -> WorkerChoices:
    """The choices among a command's values. Raises UsageError."""
    choices = WorkerChoices(**{name: chosen[name] for name in _NAMES})
    choices.check()
    return choices


def only_isolated(chosen: dict[str, Any]) -> str:
    """The first option that was given and means something to a worker only; "" for none."""
    given = [name for name in _ONLY_ISOLATED if chosen[name]]
    return f"--{given[0].removesuffix('_bytes').replace('_', '-')}" if given else ""
