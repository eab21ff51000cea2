"""Tokens and the secret: found by their text, unreadable in the file, gone when revoked."""

import pytest

from poet_core.errors import UsageError
from poet_service.database.engine import open_store


class TestTokens:
    def test_a_token_is_found_by_its_text_alone(self, store, clock):
        record, text = store.add_token("ci", "team", ["plans", "devices", "plans"], 4)
        assert text.startswith("poet_")
        assert len(text) == len("poet_") + 43
        assert record.scopes == {"plans", "devices"}
        assert (record.name, record.tenant, record.most_active_jobs) == ("ci", "team", 4)
        assert (record.created_at, record.revoked_at) == (clock.now, None)
        assert store.find_token(text) == record
        for wrong in ("", text[:-1], text + "x", text.upper(), "poet_" + "A" * 43, "\ud800"):
            assert store.find_token(wrong) is None

    def test_ids_begin_above_the_anonymous_one(self, store):
        first, _ = store.add_token("a", "t", [], None)
        second, _ = store.add_token("a", "t", [], None)
        assert 0 < first.id < second.id

    def test_a_revoked_token_is_not_found(self, store, clock):
        record, text = store.add_token("ci", "team", ["plans"], None)
        other, other_text = store.add_token("other", "team", ["plans"], None)
        clock.now += 5
        assert store.revoke_token(record.id)
        assert not store.revoke_token(record.id)
        assert not store.revoke_token(10**9)
        assert store.find_token(text) is None
        assert store.find_token(other_text) == other
        listed = {token.id: token for token in store.list_tokens()}
        assert listed[record.id].revoked_at == clock.now
        assert listed[other.id] == other

    def test_a_service_that_had_tokens_does_not_become_open(self, store):
        assert not store.has_tokens()
        record, _ = store.add_token("ci", "team", [], None)
        assert store.has_tokens()
        store.revoke_token(record.id)
        assert store.has_tokens()

    def test_an_operators_own_text(self, store):
        record, text = store.add_token("mine", "t", ["admin"], None, secret_text="poet_mine")
        assert text == "poet_mine"
        assert store.find_token("poet_mine") == record
        with pytest.raises(UsageError) as caught:
            store.add_token("again", "t", ["admin"], None, secret_text="poet_mine")
        assert caught.value.code == "token_exists"
        assert "poet_mine" not in str(caught.value)


def test_no_text_of_a_token_is_in_the_files(sqlite_file):
    store = open_store(f"sqlite:///{sqlite_file}")
    _, text = store.add_token("ci", "team", ["plans"], None)
    store.close()
    stored = b"".join(path.read_bytes() for path in sqlite_file.parent.iterdir())
    assert b"team" in stored
    assert text.encode() not in stored
    assert text.removeprefix("poet_").encode() not in stored


def test_the_secret_stays(store, database_url):
    secret = store.secret()
    assert len(secret) == 32
    assert store.secret() == secret
    again = open_store(database_url)
    assert again.secret() == secret
    again.close()


def test_two_databases_have_two_secrets(tmp_path):
    stores = [open_store(f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
    first, second = (store.secret() for store in stores)
    for store in stores:
        store.close()
    assert first != second
