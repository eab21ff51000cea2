"""`poet check --init`: a first configuration, from what is measured now plus a quarter.

    RAM            the peak of the plan found within all of the device's RAM, x 1.25
    time, energy   what that plan takes, over keep-everything, x 1.25

Invariant: every entry that is written was judged to fit just now; what does not fit is a comment that
says so.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from poet_cli.check import settings_values as values
from poet_cli.check.advice import pasteable
from poet_cli.check.entries import Entry, Place
from poet_cli.check.profiles import device_label, load_profile
from poet_cli.check.report import Report, Row, Verdict
from poet_cli.check.settings_file import OWN_NAME, PROJECT_NAME, SettingsFile, shown
from poet_cli.check.settings_values import Spot
from poet_core.errors import BudgetError, UsageError
from poet_core.text import printable
from poet_core.units import parse_bytes

# As size-limit does: tight enough to be told of a regression, wide enough for small changes.
_ROOM = 1.25


def init_entries(
    steps: Sequence[str], devices: Sequence[str], folder: Path, planner_seconds: float
) -> list[Entry]:
    """Every step on every device, within all of its RAM. Raises UsageError and DeviceError."""
    if not steps or not devices:
        raise UsageError(
            "Expected steps and devices for a first configuration, got "
            + ("no step." if not steps else "no device."),
            code="check_init_what",
            hint="poet check --init examples.mlp:step --device jetson-tx2 (see poet devices list)",
        )
    path = folder / OWN_NAME
    if path.exists():
        raise UsageError(
            f"{shown(path)} is there already.",
            code="check_init_exists",
            hint="Add entries to it, or move it away first.",
        )
    for device in devices:
        if load_profile(device, folder).measured:
            raise UsageError(
                f"{printable(device, 40)} is this machine: only you know what RAM it may use.",
                code="check_init_host",
                hint=f'Write the entry yourself: device = "{printable(device, 40)}", ram = "1GiB"',
            )
    on_line = SettingsFile(path=Path("--init"), values={}, prefix=(), blocks=())
    checked = [values.step(step, Spot(file=on_line, line=1, key="step")) for step in steps]
    return [
        Entry(
            name=f"{step} on {device}",
            step=step,
            device=device,
            ram_bytes=load_profile(device, folder).ram_bytes,
            place=Place(file=path, line=1),
            planner_seconds=planner_seconds,
        )
        for step in dict.fromkeys(checked)
        for device in dict.fromkeys(devices)
    ]


def init_text(report: Report) -> str:
    """The configuration. Raises BudgetError (`check_init_nothing_fits`) where it would be empty."""
    if not any(row.verdict is Verdict.FITS for row in report.rows):
        row = report.rows[0]
        raise BudgetError(
            f"Nothing to write down: {printable(row.entry.name)}: {row.reason}",
            code="check_init_nothing_fits" if row.code != "internal" else "internal",
            hint=row.hint or " ".join(row.advice) or "Use a smaller batch or a larger device.",
        )
    head = (
        "# What `poet check` holds to; docs/check.md explains the keys.\n"
        "# RAM, time and energy are what was measured when this was written, and a quarter more.\n"
    )
    return head + "".join(map(_entry, report.rows))


def keeps_clear_of_project(folder: Path) -> None:
    """Raises UsageError (`check_configured_twice`) where pyproject.toml has a configuration."""
    from poet_cli.check.settings_file import find_settings

    try:
        found = find_settings(folder)
    except UsageError as error:
        if error.code == "check_not_configured":
            return
        raise
    if found.path.name == PROJECT_NAME and found.folder.resolve() == folder.resolve():
        raise UsageError(
            f"{shown(found.path)} has a [tool.poet.check] already.",
            code="check_configured_twice",
            hint="Add entries to it: [[tool.poet.check.entry]]",
        )


def _entry(row: Row) -> str:
    entry = row.entry
    if row.verdict is not Verdict.FITS:
        what = printable(f"{entry.step} on {device_label(entry.device)}: {row.reason}", 300)
        return f"\n# {what}\n"
    assert row.peak_bytes is not None
    ram_bytes = min(math.ceil(row.peak_bytes * _ROOM), entry.ram_bytes)
    ram = pasteable(ram_bytes)
    if parse_bytes(ram) > entry.ram_bytes:  # rounded up beyond what the device has
        ram = f"{ram_bytes}B"
    lines = [
        "",
        "[[entry]]",
        f"step = {_quoted(entry.step)}",
        f"device = {_quoted(entry.device)}",
        f"ram = {_quoted(ram)}",
    ]
    for key, found, base in (
        ("max_time", row.seconds, row.base_seconds),
        ("max_energy", row.joules, row.base_joules),
    ):
        if found is not None and base:
            lines.append(f'{key} = "{math.ceil(max(1.0, found / base) * _ROOM * 100) / 100:g}x"')
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    # A TOML basic string: JSON's escapes are a part of TOML's.
    return json.dumps(text, ensure_ascii=True)
