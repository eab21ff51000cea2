"""A real store: opened once a module, without tokens at the beginning of each test."""

import pytest
from sqlalchemy import delete

from poet_service.database.engine import open_store
from poet_service.database.tables import TOKENS


@pytest.fixture(scope="module")
def opened_store(tmp_path_factory):
    store = open_store(f"sqlite:///{tmp_path_factory.mktemp('tokens')}/poet.sqlite3")
    yield store
    store.close()


@pytest.fixture
def store(opened_store):
    yield opened_store
    opened_store._database.write(lambda connection: connection.execute(delete(TOKENS)))
