"""Room beside a judged schedule: whether a storage that is away could be held over some stretch.

Invariant: `memory` is the judge's, and what has been taken since on top of it.
"""

from __future__ import annotations

import numpy as np

from poet_core.simulate import Judgement

# Bytes up to here add up exactly in numpy's integers; larger ones are Python's.
_MOST_INT64 = 2**60

Stretches = tuple[tuple[int, int], ...]
"""From one instruction to before another; -1 begins before the first."""


class Room:
    """RAM in use by instruction, with what is before the first in front."""

    def __init__(self, judgement: Judgement, ram_bytes: int) -> None:
        memory = (judgement.initial_bytes, *judgement.memory_bytes)
        exact = ram_bytes < _MOST_INT64
        self._memory = np.array(memory, np.int64 if exact else object)
        self._ram_bytes = ram_bytes

    def fits(self, size_bytes: int, stretches: Stretches) -> bool:
        """Whether so many bytes more are within the budget all along."""
        return all(
            int(self._memory[begin + 1 : end + 1].max()) + size_bytes <= self._ram_bytes
            for begin, end in stretches
            if begin < end
        )

    def take(self, size_bytes: int, stretches: Stretches) -> None:
        """Hold so many bytes more."""
        for begin, end in stretches:
            self._memory[begin + 1 : end + 1] += size_bytes
