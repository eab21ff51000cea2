"""Sizes and ratios with their units, in and out.

A size without a unit is refused: 512 could be bytes or mebibytes, and guessing wrong costs a day.
"""

from __future__ import annotations

import math
import re

from poet_core.errors import UsageError
from poet_core.text import printable

LARGEST_INTEGER = 2**53 - 1
"""Largest integer that every JSON reader keeps exactly (RFC 8259, section 6)."""

_FACTORS = {
    "b": 1,
    "kb": 10**3,
    "mb": 10**6,
    "gb": 10**9,
    "tb": 10**12,
    "kib": 2**10,
    "mib": 2**20,
    "gib": 2**30,
    "tib": 2**40,
}
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*([a-zA-Z]{1,3})")


def parse_bytes(text: str) -> int:
    """Bytes of a size such as ``512MiB``, ``1.5GB`` or ``32768B``.

    Raises UsageError (`size_invalid`) where the number, the unit or the range is wrong.
    """
    match = _SIZE.fullmatch(text.strip())
    factor = _FACTORS.get(match.group(2).lower()) if match else None
    if match is None or factor is None:
        bare = text.strip()
        fix = f"write {bare}MiB or {bare}B" if bare.isdigit() and len(bare) < 16 else "e.g. 512MiB"
        raise UsageError(
            f"Expected a size with a unit (B, kB, MB, GB, KiB, MiB, GiB), got {printable(text)!r}.",
            code="size_invalid",
            hint=f"{fix[0].upper()}{fix[1:]}.",
        )
    size = math.floor(float(match.group(1)) * factor)
    if "." not in match.group(1):
        size = int(match.group(1)) * factor
    if size > LARGEST_INTEGER:
        raise UsageError(
            f"Expected a size below 2^53 bytes, got {printable(text)!r}.",
            code="size_invalid",
            hint="Check the unit.",
        )
    return size


def format_bytes(size_bytes: float) -> str:
    """A size for people: three significant digits and a binary unit, e.g. ``33.4 MiB``."""
    size = float(size_bytes)
    if abs(size) < 1024:
        return f"{size:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        size /= 1024
        if abs(size) < 1024:
            return f"{size:.{_decimals(size)}f} {unit}"
    return f"{size / 1024:.{_decimals(size / 1024)}f} TiB"


def format_seconds(seconds: float) -> str:
    """A duration for people, e.g. ``12.3 ms``."""
    return _scaled(seconds, "s")


def format_joules(joules: float) -> str:
    """An energy for people, e.g. ``1.25 mJ``."""
    return _scaled(joules, "J")


def parse_ratio(text: str) -> float:
    """The factor in ``1.2x``: at least 1, finite. Raises UsageError (`ratio_invalid`)."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,12})?)x", text.strip())
    if match is None or float(match.group(1)) < 1:
        raise UsageError(
            f"Expected a ratio of at least 1x such as 1.2x, got {printable(text)!r}.",
            code="ratio_invalid",
            hint="1.2x means 1.2 times the compute time of keep-everything.",
        )
    return float(match.group(1))


def _decimals(value: float) -> int:
    return 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2


def _scaled(value: float, unit: str) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g} {unit}"
    value = float(f"{value:.3g}")  # before the unit is chosen: 0.9999 s is 1 s, not 1e+03 ms
    for factor, prefix in ((1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ"), (1e-9, "n")):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"
