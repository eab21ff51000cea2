"""Every write of a solve is told, reads are not."""

from poet_service.database.engine import open_store
from poet_service.execution.telling import _WRITES, telling


class Recorded:
    """Answers with what it was asked."""

    def __getattr__(self, name):
        return lambda *given, **named: (name, given, named)


def test_writes_are_told_after_they_happened():
    told = []
    store = telling(Recorded(), told.append)
    for name in sorted(_WRITES):
        assert getattr(store, name)("solve", 1, cost=2) == (name, ("solve", 1), {"cost": 2})
    assert told == ["solve"] * len(_WRITES)
    assert store.solve("solve") == ("solve", ("solve",), {})
    assert len(told) == len(_WRITES)


def test_the_store_has_each_of_them(tmp_path):
    store = open_store(f"sqlite:///{tmp_path / 'poet.db'}")
    told = []
    assert telling(store, told.append).claim("nothing", "me") is None
    assert told == ["nothing"]
    assert all(callable(getattr(store, name)) for name in _WRITES)
    store.close()
