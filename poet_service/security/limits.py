"""Places and rates that run out with a 429: nobody waits in line inside the service.

All of it lives in the event loop's thread and in this process; what several processes share
(queued solves, active jobs) is counted by the database.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from poet_core.errors import ServiceError
from poet_service.security.tokens import Caller

_REMEMBERED_CALLERS = 4096


class RequestRate:
    """A bucket of requests for each caller, refilled at `per_second` up to `burst`."""

    def __init__(
        self, *, per_second: float, burst: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._per_second, self._burst, self._clock = per_second, burst, clock
        self._buckets: dict[int, tuple[float, float]] = {}

    def take(self, caller: Caller) -> None:
        """Count a request. Raises ServiceError (`too_many_requests`)."""
        now = self._clock()
        left, at = self._buckets.get(caller.token_id, (float(self._burst), now))
        left = min(self._burst, left + max(0.0, now - at) * self._per_second)
        if left < 1:
            self._buckets[caller.token_id] = (left, now)
            raise _refusal(
                "This API token sends more requests than the service takes from one.",
                code="too_many_requests",
                retry_after_seconds=math.ceil((1 - left) / self._per_second),
            )
        if len(self._buckets) >= _REMEMBERED_CALLERS:
            self._forget_full(now)
        self._buckets[caller.token_id] = (left - 1, now)

    def _forget_full(self, now: float) -> None:
        """Drop the buckets that have filled up again: a new one is the same."""
        self._buckets = {
            token_id: (left, at)
            for token_id, (left, at) in self._buckets.items()
            if left + (now - at) * self._per_second < self._burst
        }


class StreamPlaces:
    """Event streams open at once, of each caller and of all."""

    def __init__(self, *, per_caller: int, most: int, retry_after_seconds: int) -> None:
        self._per_caller, self._most = per_caller, most
        self._retry_after_seconds = retry_after_seconds
        self._held: Counter[int] = Counter()

    @property
    def held(self) -> int:
        """Streams open now."""
        return self._held.total()

    @contextmanager
    def hold(self, caller: Caller) -> Iterator[None]:
        """A place for a stream. Raises ServiceError (`too_many_streams`)."""
        mine = self._held[caller.token_id]
        if mine >= self._per_caller or self.held >= self._most:
            raise _refusal(
                f"This API token has {mine} event streams open."
                if mine >= self._per_caller
                else f"The service has {self.held} event streams open, which is its limit.",
                code="too_many_streams",
                retry_after_seconds=self._retry_after_seconds,
                instead=", or ask GET /v1/plans/{id}?wait=20 instead",
            )
        self._held[caller.token_id] += 1
        try:
            yield
        finally:
            self._held[caller.token_id] -= 1
            self._held += Counter()  # forgets who holds none


class ByteBudget:
    """Bytes of request bodies in memory at once, all callers together."""

    def __init__(self, *, most_bytes: int, retry_after_seconds: int) -> None:
        self._most_bytes, self._retry_after_seconds = most_bytes, retry_after_seconds
        self.held_bytes = 0

    def take(self, size_bytes: int) -> None:
        """Take bytes, to be given back. Raises ServiceError (`busy`)."""
        if self.held_bytes + size_bytes > self._most_bytes:
            raise _refusal(
                "The service is busy with other requests' bodies.",
                code="busy",
                retry_after_seconds=self._retry_after_seconds,
            )
        self.held_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        """Give bytes back."""
        self.held_bytes -= size_bytes


def _refusal(
    message: str, *, code: str, retry_after_seconds: int, instead: str = ""
) -> ServiceError:
    return ServiceError(
        message,
        code=code,
        hint=f"Try again in {retry_after_seconds} seconds{instead}.",
        details={"retry_after_seconds": retry_after_seconds},
    )
