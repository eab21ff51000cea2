"""What a run of chaos did and what came of it, as both installations of the service tell it."""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, field


@dataclass(kw_only=True, slots=True)
class ChaosReport:
    """Counts. `kills`: by what was killed and where it stood (`worker, before:finish`). `asked`:
    jobs that clients know of; `solves`: theirs that ended once, by state; `errors`: failed ones by
    code; `judged`: plans that the judge accepted afterwards; `losses`: times that a solve lost its
    process. `left_over`: processes and temporary files in the end."""

    kills: Counter[str] = field(default_factory=Counter)
    asked: int = 0
    solves: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    judged: int = 0
    losses: int = 0
    left_over: int = 0
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0

    def killed(self, what: str) -> int:
        """How often that was killed, wherever it stood."""
        return sum(times for name, times in self.kills.items() if name.startswith(f"{what},"))

    @property
    def moments(self) -> Counter[str]:
        """The kills right before or after a write, by the write."""
        found = Counter[str]()
        for name, times in self.kills.items():
            where = name.partition(", ")[2]
            if ":" in where:
                found[where] += times
        return found

    def end(self) -> None:
        """All was looked at."""
        self.seconds = time.monotonic() - self.began
