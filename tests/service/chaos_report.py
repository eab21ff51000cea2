"""What a run of chaos did and what came of it, as both installations of the service tell it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class ChaosReport:
    """Counts. `kills`: by what was killed and where it stood (`worker, before:finish`). `solves`:
    ended solves by state; `errors`: failed ones by code; `judged`: plans that the judge accepted
    afterwards; `losses`: times that a solve lost its process and was queued again or failed."""

    kills: Counter[str] = field(default_factory=Counter)
    solves: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    losses: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def end(self) -> None:
        """All was looked at."""
        self.seconds = time.monotonic() - self.began
