"""What was found of one thing: its state, what that costs, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class State(StrEnum):
    """How it stands with one thing."""

    OK = "ok"
    """There, and it works."""
    MISSING = "missing"
    """Not there; something that `costs` names cannot be done."""
    WARNING = "warning"
    """There, and not as it should be."""
    BROKEN = "broken"
    """Nothing can be planned before this is mended."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line. `found` is what there is, `costs` what its lack costs, `fix` what to do (a command
    where one will do); `figures` are exact numbers for JSON, named with their units."""

    name: str
    state: State
    found: str
    costs: str = ""
    fix: str = ""
    figures: Mapping[str, int | float] = field(default_factory=dict)

    def to_document(self) -> dict[str, str | int | float]:
        """As a JSON value."""
        return {
            "name": self.name,
            "state": str(self.state),
            "found": self.found,
            "costs": self.costs,
            "fix": self.fix,
            **self.figures,
        }


Check = Callable[[], Iterable[Finding]]


def looked_at(name: str, check: Check) -> list[Finding]:
    """What a check finds; one that fails is itself a finding, and the others go on."""
    try:
        return list(check())
    except Exception as error:  # noqa: BLE001  Whatever a strange machine does, the rest is told.
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return [
            Finding(
                name=name,
                state=State.WARNING,
                found=f"could not be looked at ({what})",
                fix="Report it, with POET_DEBUG=1 poet doctor --json.",
            )
        ]
