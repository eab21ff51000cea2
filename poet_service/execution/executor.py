"""Executor: what the API needs of whoever carries solves out.

The Store is the record of what is to be done; an executor is told of news and may miss it. Whatever
it is told is found again by looking into the Store, so `submit` and `stop` are hints that save time.
"""

from __future__ import annotations

from typing import Protocol


class Executor(Protocol):
    """Carries out the queued solves of a Store. Called from one event loop."""

    async def start(self) -> None:
        """Begin. Raises UsageError and ServiceError where it cannot."""

    async def submit(self, solve_id: str) -> None:
        """There is a new queued solve. Telling it twice, or never, changes nothing."""

    async def stop(self, solve_id: str) -> None:
        """Nobody wants this solve any more; the Store says so too (`stop_requested`)."""

    async def close(self) -> None:
        """End. Solves that run here are queued again, uncounted."""

    def ready(self) -> str | None:
        """None where queued solves are carried out, else why not."""
