"""Options that several commands share, and limits as they read them."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from poet_cli import completion
from poet_cli.files import load_device_file
from poet_core.device import DeviceProfile
from poet_core.errors import UsageError
from poet_core.text import printable
from poet_core.units import parse_ratio

_Command = TypeVar("_Command", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A ratio of keep-everything, or an absolute amount: exactly one is set."""

    ratio: float | None = None
    amount: float | None = None


def seconds_limit(text: str) -> Limit:
    """`1.2x` or seconds. Raises UsageError (`limit_invalid`, `ratio_invalid`)."""
    return _limit(text, "s")


def joules_limit(text: str) -> Limit:
    """`1.2x` or joules. Raises as `seconds_limit`."""
    return _limit(text, "J")


def _limit(text: str, unit: str) -> Limit:
    text = text.strip()
    if text.endswith("x"):
        return Limit(ratio=parse_ratio(text))
    number = text.removesuffix(unit).strip()
    shape = r"[0-9]{1,15}(\.[0-9]{1,15})?(e-?[0-9]{1,3})?"
    if not re.fullmatch(shape, number) or math.isinf(float(number)):
        raise UsageError(
            f"Expected a ratio such as 1.2x or an amount such as 3.5{unit}, "
            f"got {printable(text, 40)!r}.",
            code="limit_invalid",
            hint=f"1.2x is 1.2 times keep-everything; 3.5{unit} is an absolute limit.",
        )
    return Limit(amount=float(number))


def json_option(command: _Command) -> _Command:
    """--json, on every command."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print the result, or the error, as JSON."
    )(command)


def device_options(command: _Command) -> _Command:
    """--device NAME or --device-file FILE."""
    command = click.option(
        "--device-file",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Your own device profile (poet.device/1), TOML or JSON.",
    )(command)
    return click.option(
        "--device",
        metavar="NAME",
        shell_complete=completion.devices,
        help="A device of `poet devices list`.",
    )(command)


def step_argument(command: _Command) -> _Command:
    """MODULE:FUNCTION."""
    return click.argument("step", metavar="MODULE:FUNCTION", shell_complete=completion.steps)(
        command
    )


def chosen_device(device: str | None, device_file: Path | None) -> str | DeviceProfile:
    """The device that the two options name. Raises UsageError where they name none or two."""
    if (device is None) == (device_file is None):
        raise UsageError(
            "Expected one of --device and --device-file, got "
            + ("both." if device is not None else "neither."),
            code="device_missing" if device is None else "device_twice",
            hint="E.g. --device raspberry-pi-4b; `poet devices list` shows them all.",
        )
    if device is not None:
        return device
    assert device_file is not None
    return load_device_file(device_file)


def chosen_ram(ram_bytes: int | None, profile: DeviceProfile) -> int:
    """--ram, or all of the device's RAM where the device has a RAM of its own."""
    if ram_bytes is not None:
        return ram_bytes
    if profile.measured:
        raise UsageError(
            f"Expected --ram: device {printable(profile.name, 40)} is this machine, and only you "
            "know what it may use.",
            code="ram_missing",
            hint="E.g. --ram 1GiB.",
        )
    return profile.ram_bytes
