"""`poet devices list`, `poet devices show NAME` and `poet devices measure`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from poet_cli import completion
from poet_cli.command_group import CommandGroup
from poet_cli.files import write_file
from poet_cli.options import json_option
from poet_cli.output import print_json, print_table, safe
from poet_core.device import DeviceProfile


@click.group(
    cls=CommandGroup,
    epilog="Examples: poet devices list; poet devices show jetson-tx2; poet devices measure",
)
def devices() -> None:
    """The devices that plans can be made for."""


@devices.command("list", epilog="Example: poet devices list --json")
@json_option
def list_devices(as_json: bool) -> None:
    """Name, RAM, flash, compute and energy of every shipped device."""
    from poet_core.device_document import device_to_document
    from poet_core.devices import device_names, load_device
    from poet_core.units import format_bytes

    profiles = [load_device(name) for name in device_names()]
    if as_json:
        print_json({"devices": [device_to_document(profile) for profile in profiles]})
        return
    print_table(
        ("name", "RAM", "flash", "in", "out", "compute", "energy", "title"),
        [
            (
                profile.name,
                "as given" if profile.measured else format_bytes(profile.ram_bytes),
                "any" if profile.flash_bytes is None else format_bytes(profile.flash_bytes),
                f"{format_bytes(profile.page_in_bytes_per_second)}/s",
                f"{format_bytes(profile.page_out_bytes_per_second)}/s",
                f"{profile.flops_per_second:.3g} FLOP/s",
                f"{profile.flops_per_joule:.3g} FLOP/J",
                profile.title,
            )
            for profile in profiles
        ],
        right=("RAM", "flash", "in", "out", "compute", "energy"),
    )


@devices.command("show", epilog="Example: poet devices show jetson-tx2")
@click.argument("name", shell_complete=completion.devices)
@json_option
def show_device(name: str, as_json: bool) -> None:
    """Every number of a device with its source; estimates are marked."""
    from poet_core.device_document import device_to_document
    from poet_core.devices import load_device

    profile = load_device(name)
    if as_json:
        print_json(device_to_document(profile))
        return
    _print_profile(profile)


@devices.command("measure", epilog="Example: poet devices measure -o here.toml")
@click.option(
    "--paging-directory",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Where training will page to.  [default: a temporary directory on a disk]",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the profile as TOML, for --device-file.",
)
@json_option
def measure_device(paging_directory: Path | None, output: Path | None, as_json: bool) -> None:
    """The profile of this machine with its flash measured: latency and rate of paging.

    Takes a second or two, and writes up to 288 MiB to the directory.
    """
    from poet_core.device_document import device_to_document
    from poet_runtime.flash.calibrate import calibrated_host

    profile = calibrated_host(paging_directory)
    if output is not None:
        write_file(output, profile_as_toml(profile).encode())
    if as_json:
        print_json(device_to_document(profile))
    elif str(output) != "-":
        _print_profile(profile)


def profile_as_toml(profile: DeviceProfile) -> str:
    """The profile as `poet.device/1` in TOML."""
    from poet_core.device_document import device_to_document

    lines = []
    for name, value in device_to_document(profile).items():
        if isinstance(value, dict):
            parts = (
                f"{key} = {_toml(item)}" for key, item in value.items() if key != "estimate" or item
            )
            lines.append(f"{name} = {{ {', '.join(parts)} }}")
        else:
            lines.append(f"{name} = {_toml(value)}")
    return "\n".join(lines) + "\n"


def _toml(value: str | float | bool) -> str:
    """A scalar: JSON's text is TOML's, but for DEL and for pairs of surrogates."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _print_profile(profile: DeviceProfile) -> None:
    from poet_core.device_document import VALUE_FIELDS

    click.echo(f"{safe(profile.name)}: {safe(profile.title)}\n")
    rows = []
    for field in VALUE_FIELDS:
        value, source = getattr(profile, field), profile.sources.get(field)
        if value is not None and source is not None:
            rows.append((field, _shown(value), "estimate" if source.estimate else "", source.text))
    print_table(("field", "value", "", "source"), rows, right=("value",))


def _shown(value: float | bool) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:,}" if isinstance(value, int) else f"{value:.6g}"
