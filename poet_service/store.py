"""The plans of this process: bounded in number and bytes, the least recently used dropped first.

An id is 128 random bits: who has it may read the plan, and nobody can guess one.
"""

from __future__ import annotations

import secrets
import threading
from collections import OrderedDict


def new_id() -> str:
    """32 hexadecimal digits."""
    return secrets.token_hex(16)


class PlanStore:
    """Reply bodies by id."""

    def __init__(self, *, most_plans: int, most_bytes: int) -> None:
        self._most_plans, self._most_bytes = most_plans, most_bytes
        self._bodies: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, plan_id: str, body: bytes) -> None:
        """Remember `body`; older ones give way."""
        with self._lock:
            self._bodies[plan_id] = body
            self._bytes += len(body)
            while self._bodies and (
                len(self._bodies) > self._most_plans or self._bytes > self._most_bytes
            ):
                _, dropped = self._bodies.popitem(last=False)
                self._bytes -= len(dropped)

    def get(self, plan_id: str) -> bytes | None:
        """The body, or None where it is unknown or was dropped."""
        with self._lock:
            body = self._bodies.get(plan_id)
            if body is not None:
                self._bodies.move_to_end(plan_id)
            return body

    def __len__(self) -> int:
        return len(self._bodies)
