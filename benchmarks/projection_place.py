"""Where and how large a run of the projection benchmark is, and what it tells while it works."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path

STEPS = 5500
"""Of the joint training on images: 20 epochs of 275 batches. The paper has about 400,000."""

TEXT_EPOCHS = 15

_SMALL_STEPS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """`folder`: for bits, checkpoints and trained networks. `small`: tiny data, a few steps.

    `states`: where the trainings of the part that runs are kept until its rows are stored, so that a
    run that is killed repeats none of them.
    """

    folder: Path
    data_root: Path | None
    steps: int = STEPS
    small: bool = False
    quiet: bool = False
    states: Path | None = None

    def share(self, part: float) -> int:
        """So many of the joint training's steps."""
        return max(2, int(self.steps * part))

    @property
    def trainer_hidden(self) -> tuple[int, ...]:
        """Hidden layers of the feed-forward trainer (Ravi 2017, section 4.1)."""
        return (16, 16) if self.small else (1000, 1000, 1000)

    @property
    def text_epochs(self) -> int:
        """Epochs over a set of texts, in the proportion of --steps."""
        return 1 if self.small else max(1, round(TEXT_EPOCHS * self.steps / STEPS))

    def tell(self, line: str, *, done: bool = True) -> None:
        """A line for the person who waits; one that is overwritten where it is not the last."""
        if not self.quiet:
            end = "\n" if done or not sys.stderr.isatty() else "\r"
            print(line, end=end, file=sys.stderr, flush=True)


def small_place(folder: Path, *, quiet: bool = False) -> Place:
    """What --small runs on: scikit-learn's digits and made-up texts."""
    return Place(folder=folder, data_root=None, steps=_SMALL_STEPS, small=True, quiet=quiet)


class Pace:
    """Tells every so often how far a training is and when it ends."""

    def __init__(
        self, place: Place, label: str, steps: int, *, every_seconds: float = 10.0
    ) -> None:
        self._place, self._label, self._steps = place, label, steps
        self._every_seconds = every_seconds
        self._began = self._told = time.monotonic()
        self._first: int | None = None

    def step(self, number: int, loss: float | None) -> None:
        """`number` steps are done, the last with this loss."""
        self._first = number - 1 if self._first is None else self._first
        now = time.monotonic()
        if now - self._told < self._every_seconds:
            return
        self._told = now
        each = (now - self._began) / (number - self._first)
        left = each * (self._steps - number)
        shown = "" if loss is None else f"  loss {loss:.4f}"
        self._place.tell(
            f"{self._label}: step {number}/{self._steps}{shown}  {1000 * each:.0f} ms  "
            f"{left / 60:.1f} min left",
            done=False,
        )

    def due(self) -> bool:
        """Whether the next call tells, so that a loss is worth reading."""
        return time.monotonic() - self._told >= self._every_seconds
