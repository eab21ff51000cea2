"""The values of a configuration, one function a kind: what was expected, what was got, what to write.

Invariant: a size, a time or an energy without its unit is refused, never guessed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any, NoReturn

from poet_cli.check.entries import Level, Limit
from poet_cli.check.settings_file import SettingsFile
from poet_core.errors import PoetError
from poet_core.text import printable
from poet_core.units import parse_bytes

_STEP = re.compile(r"\w+(\.\w+)*:\w+")
_AMOUNT = re.compile(r"([0-9]{1,15}(?:\.[0-9]{1,15})?)\s*([a-zA-Zµ]{1,3})")
_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "min": 60.0}
_JOULES = {"J": 1.0, "kJ": 1e3, "mJ": 1e-3, "uJ": 1e-6, "µJ": 1e-6}
_MOST_TEXT = 200
_MOST_SECONDS = 3600.0
LARGEST_BATCH = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A key of the configuration, for errors: `key = value` on its line."""

    file: SettingsFile
    line: int
    key: str

    def refuse(
        self, expected: str, got: object, hint: str, code: str = "check_settings"
    ) -> NoReturn:
        """Raises UsageError with file, line and key."""
        self.file.refuse(
            self.line, f"{self.key}: expected {expected}, got {_shown(got)}.", code=code, hint=hint
        )


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{printable(value, 60)}"'
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else f"a list of {len(value)}"
    return printable(str(value), 60)


def text(value: Any, spot: Spot) -> str:
    """A short text that is not empty."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MOST_TEXT:
        spot.refuse(f"a text of 1 to {_MOST_TEXT} characters", value, f'{spot.key} = "..."')
    return value.strip()


def step(value: Any, spot: Spot) -> str:
    """MODULE:FUNCTION."""
    name = text(value, spot)
    if not _STEP.fullmatch(name):
        path, _, function = name.partition(":")
        module = re.sub(r"\W+", ".", path.removesuffix(".py")).strip(".") or "models.keyword"
        meant = f"{module}:{function if function.isidentifier() else 'step'}"
        expected = "MODULE:FUNCTION, as Python imports it"
        spot.refuse(expected, value, f'{spot.key} = "{meant}"', "step_name_invalid")
    return name


def size(value: Any, spot: Spot) -> int:
    """A size with its unit, at least a byte."""
    hint = f'{spot.key} = "512MiB"'
    if not isinstance(value, str):
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            hint = f'{spot.key} = "{value}MiB" or "{value}B": a unit is required.'
        spot.refuse('a size with a unit such as "512MiB"', value, hint, "size_invalid")
    try:
        found = parse_bytes(value)
    except PoetError as error:
        bare = value.strip()
        if bare.isdigit() and len(bare) < 16:
            hint = f'{spot.key} = "{bare}MiB" or "{bare}B": a unit is required.'
        spot.refuse('a size with a unit such as "512MiB"', value, hint, error.code)
    if found < 1:
        spot.refuse("a size of at least 1 B", value, hint, "size_invalid")
    return found


def time_limit(value: Any, spot: Spot) -> Limit:
    """`1.05x`, or a time with its unit."""
    return _limit(value, spot, _SECONDS, "3 s")


def energy_limit(value: Any, spot: Spot) -> Limit:
    """`1.05x`, or an energy with its unit."""
    return _limit(value, spot, _JOULES, "2 J")


def _limit(value: Any, spot: Spot, units: dict[str, float], example: str) -> Limit:
    expected = f'a ratio such as "1.05x" or an amount such as "{example}"'
    hint = f'{spot.key} = "1.05x" (of keep-everything), or "{example}"'
    match = _AMOUNT.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
            unit = next(iter(units))
            hint = f'{spot.key} = "{value:g}x" or "{value:g} {unit}": a unit is required.'
        spot.refuse(expected, value, hint, "limit_invalid")
    number, unit = float(match.group(1)), match.group(2)
    if unit == "x":
        if number < 1:
            spot.refuse("a ratio of at least 1x", value, hint, "limit_invalid")
        return Limit(text=value.strip(), ratio=number)
    if unit not in units:
        spot.refuse(f"{expected} (units: {', '.join(units)})", value, hint, "limit_invalid")
    return Limit(text=value.strip(), absolute=number * units[unit])


def seconds(value: Any, spot: Spot) -> float:
    """Wall seconds, as a number."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0.1 <= value <= _MOST_SECONDS:  # NaN is refused too
        spot.refuse(f"seconds between 0.1 and {_MOST_SECONDS:g}", value, f"{spot.key} = 10")
    return float(value)


def batch_size(value: Any, spot: Spot) -> int:
    """A whole number of at least 1."""
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= LARGEST_BATCH:
        spot.refuse("a whole number of at least 1", value, f"{spot.key} = 8")
    return value


def boolean(value: Any, spot: Spot) -> bool:
    """true or false."""
    if not isinstance(value, bool):
        spot.refuse("true or false", value, f"{spot.key} = true")
    return value


def level(value: Any, spot: Spot) -> Level:
    """error or warn."""
    if value not in list(Level):
        spot.refuse('"error" or "warn"', value, f'{spot.key} = "{Level.WARN}"')
    return Level(value)


def several(read: Callable[[Any, Spot], Any], value: Any, spot: Spot) -> list[Any]:
    """A list that is not empty, each part read."""
    if not isinstance(value, list) or not value:
        one = spot.key.removesuffix("s")
        spot.refuse("a list that is not empty", value, f"Write {one} = ... for one, without the s.")
    return [read(part, spot) for part in value]


def nearest(word: str, known: list[str]) -> str:
    """The known word that `word` may be meant to be; empty where none is near."""
    close = get_close_matches(word[:64], known, n=1, cutoff=0.5)
    return close[0] if close else ""
