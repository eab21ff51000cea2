"""Part: what every part of the Store has: the database, the clock, and where new ids come from."""

from __future__ import annotations

from collections.abc import Callable

from poet_service.database.transactions import Database


class Part:
    """Base of the parts of the Store (see store.py)."""

    def __init__(
        self, database: Database, *, clock: Callable[[], float], new_id: Callable[[], str]
    ) -> None:
        self._database = database
        self._clock = clock
        self._new_id = new_id
