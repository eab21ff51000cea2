"""What is seen while a step trains: a line that renews itself, or a line a step.

On a terminal the newest figures stand in one line, with the memory group's peak as it is now, also
amid a step; elsewhere a line is printed for a step, at most about one a second. Invariant: it all
goes to the error output, nothing of it interprets markup, and with NO_COLOR it has no colour.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from poet_cli.output import safe, say
from poet_core.units import format_bytes

if TYPE_CHECKING:
    from rich.text import Text

_LINE_SECONDS = 1.0  # between two lines where no terminal is


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One finished step. `rate`: tokens or samples a second, `unit`: which. Bytes are None where
    nothing counts them."""

    step: int
    steps: int
    loss: float
    seconds: float
    rate: float
    unit: str
    planned_bytes: int
    arena_bytes: int | None
    cap_bytes: int | None

    def line(self, group_bytes: int | None) -> str:
        """For people. `group_bytes`: the group's peak as it is now."""
        parts = [
            f"step {self.step}/{self.steps}",
            f"loss {self.loss:.4f}",
            f"{self.seconds:.2f} s",
            f"{self.rate:,.0f} {self.unit}/s",
            _of("arena", self.arena_bytes, self.planned_bytes, "planned"),
            _of("process", group_bytes, self.cap_bytes, "cap"),
        ]
        return "  ".join(part for part in parts if part)


class Screen(Protocol):
    """Where figures go."""

    def show(self, figures: Figures) -> None:
        """The newest step."""


class _Nowhere:
    def show(self, figures: Figures) -> None:
        """Nothing is shown."""


class _Lines:
    def __init__(self, group_bytes: Callable[[], int | None]) -> None:
        self._group_bytes, self._last = group_bytes, 0.0

    def show(self, figures: Figures) -> None:
        """A line, unless there was one a moment ago."""
        now = time.monotonic()
        if now - self._last >= _LINE_SECONDS or figures.step == figures.steps:
            self._last = now
            say(safe(figures.line(self._group_bytes()), 300))


class _Terminal:
    """What rich renders, a few times a second."""

    def __init__(self, waiting: str, group_bytes: Callable[[], int | None]) -> None:
        self._waiting, self._group_bytes = waiting, group_bytes
        self._figures: Figures | None = None
        self._since = time.monotonic()

    def show(self, figures: Figures) -> None:
        """The newest step."""
        self._figures, self._since = figures, time.monotonic()

    def __rich__(self) -> Text:
        from rich.text import Text

        waited = f"  ({time.monotonic() - self._since:.0f} s)"
        if self._figures is None:
            peak = self._group_bytes()
            now = f"  process {format_bytes(peak)}" if peak else ""
            return Text(self._waiting + now + waited, style="bold")
        return Text(safe(self._figures.line(self._group_bytes()), 300) + waited)


@contextmanager
def screen(waiting: str, group_bytes: Callable[[], int | None], *, quiet: bool) -> Iterator[Screen]:
    """Shows what is given to it until the block ends. `waiting`: what is said before the first."""
    if quiet:
        yield _Nowhere()
        return
    if not sys.stderr.isatty():
        say(waiting)
        yield _Lines(group_bytes)
        return
    from rich.console import Console
    from rich.live import Live

    shown = _Terminal(waiting, group_bytes)
    console = Console(stderr=True, highlight=False, markup=False, emoji=False)
    with Live(shown, console=console, refresh_per_second=4, transient=False):
        yield shown


def _of(name: str, found: int | None, limit: int | None, what: str) -> str:
    if found is None:
        return ""
    most = "" if limit is None else f" of {format_bytes(limit)} {what}"
    return f"{name} {format_bytes(found)}{most}"
