"""Tokens: who is let in, for what, and how soon a revocation is obeyed. On a real database."""

import asyncio

import pytest

from poet_core.errors import ServiceError, UsageError
from poet_service.security.remote import add_initial_token, check_remote
from poet_service.security.scopes import ALL_SCOPES, OPEN_PATHS, Scope, read_scopes
from poet_service.security.tokens import ANONYMOUS, STRANGER, TOKEN_PATTERN, TokenBook
from poet_service.settings import Settings

UNHEARD_OF = "poet_" + "A" * 43


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Door:
    """A TokenBook and its clock."""

    def __init__(self, store):
        self.clock = Clock()
        self.book = TokenBook(store, memory_seconds=2, clock=self.clock)

    def ask(self, path="/v1/plans", authorization=(), **scope):
        headers = [(b"authorization", value.encode("latin-1")) for value in authorization]
        return asyncio.run(self.book.identify({"path": path, "headers": headers} | scope))

    def refusal(self, code, *how, **scope):
        with pytest.raises(ServiceError) as caught:
            self.ask(*how, **scope)
        assert caught.value.code == code
        return caught.value


@pytest.fixture
def door(store):
    return Door(store)


def token(store, *scopes, **more):
    return store.add_token("laptop", "team-a", scopes or ("plans",), None, **more)


def test_without_tokens_everybody_is_the_same_anonymous_caller(door):
    assert door.ask() is ANONYMOUS
    assert door.ask("/metrics") is ANONYMOUS
    assert door.ask(authorization=[f"Bearer {UNHEARD_OF}"]) is ANONYMOUS


def test_a_token_is_its_caller(store, door):
    record, text = token(store)
    assert TOKEN_PATTERN.fullmatch(text)
    caller = door.ask(authorization=[f"Bearer {text}"])
    assert (caller.token_id, caller.tenant, caller.scopes) == (record.id, "team-a", {Scope.PLANS})
    assert door.ask(authorization=[f"bearer   {text}"]) == caller


def test_a_token_may_have_a_number_of_jobs_of_its_own(store, door):
    _, text = store.add_token("ci", "team-a", ["plans"], 7)
    assert door.ask(authorization=[f"Bearer {text}"]).most_active_jobs == 7


def test_from_the_first_token_on_nobody_is_anonymous(store, door):
    assert door.ask() is ANONYMOUS
    token(store)
    door.clock.now = 2.0
    assert "poet tokens create" in door.refusal("token_missing").hint


@pytest.mark.parametrize(
    "sent",
    [
        ["Bearer " + UNHEARD_OF],
        ["Bearer"],
        [""],
        ["Basic cG9ldDpwb2V0"],
        ["Bearer poet_short"],
        ["Bearer poet_" + "\xe9" * 43],
        ["Bearer poet_" + "A" * 42 + "\n"],
        ["Bearer " + "A" * 100_000],
    ],
)
def test_what_is_no_token(store, door, sent):
    token(store)
    error = door.refusal("token_unknown", authorization=sent)
    assert "AAA" not in str(error)


def test_two_authorizations_are_none(store, door):
    _, text = token(store)
    door.refusal("token_unknown", authorization=[f"Bearer {text}"] * 2)


def test_a_revocation_is_obeyed_soon_and_opens_nothing(store, door):
    record, text = token(store)
    assert door.ask(authorization=[f"Bearer {text}"]).token_id == record.id
    assert store.revoke_token(record.id)
    door.clock.now = 1.9
    assert door.ask(authorization=[f"Bearer {text}"]).token_id == record.id
    door.clock.now = 2.0
    door.refusal("token_unknown", authorization=[f"Bearer {text}"])
    door.refusal("token_missing")
    again = Door(store)
    again.refusal("token_missing")


def test_a_token_in_the_address_is_none(store, door):
    _, text = token(store)
    door.refusal("token_missing", query_string=f"token={text}&access_token={text}".encode())


@pytest.mark.parametrize(
    ("scope", "may", "may_not"),
    [
        ("plans", ["/v1/plans", "/v1/plans/1", "/v1/plans:verify", "/v1/frontiers/1/events"],
         ["/v1/devices", "/v1/devices/host", "/metrics"]),
        ("devices", ["/v1/devices", "/v1/devices:validate"], ["/v1/plans", "/metrics"]),
        ("metrics", ["/metrics"], ["/v1/plans", "/v1/devices"]),
        ("admin", ["/v1/plans", "/v1/frontiers", "/v1/devices", "/metrics"], []),
    ],
)  # fmt: skip
def test_a_scope_opens_its_addresses_and_no_other(store, door, scope, may, may_not):
    _, text = token(store, scope)
    for path in [*may, *OPEN_PATHS, "/a/new/route"]:
        door.ask(path, [f"Bearer {text}"])
    for path in may_not:
        error = door.refusal("scope_missing", path, [f"Bearer {text}"])
        assert error.details["scope"] in error.hint


def test_probes_need_no_token_and_everything_unlisted_does(store, door):
    token(store)
    for path in OPEN_PATHS:
        assert door.ask(path) is STRANGER
    for path in ("/", "/docs", "/healthz/", "//healthz", "/v2/plans", "/Metrics"):
        door.refusal("token_missing", path)


def test_scopes_by_name():
    assert read_scopes(ALL_SCOPES) == ALL_SCOPES
    for names in ([], ["plans", "everything\x1b"]):
        with pytest.raises(UsageError) as caught:
            read_scopes(names)
        assert caught.value.code == "scope_unknown"
        assert "\x1b" not in str(caught.value)


def test_a_public_address_needs_a_token(store):
    with pytest.raises(UsageError) as caught:
        check_remote("0.0.0.0", Settings(), store)
    assert caught.value.code == "remote_not_allowed"
    check_remote("0.0.0.0", Settings(insecure_allow_remote=True), store)
    token(store)
    check_remote("0.0.0.0", Settings(), store)


def test_the_initial_token_is_stored_once_and_stays_revoked(store):
    settings = Settings(initial_token=UNHEARD_OF)
    assert add_initial_token(settings, store)
    assert not add_initial_token(settings, store)
    (record,) = store.list_tokens()
    assert record.scopes == {"plans", "devices", "metrics"}
    store.revoke_token(record.id)
    assert not add_initial_token(settings, store)
    assert store.find_token(UNHEARD_OF) is None
    assert not add_initial_token(Settings(), store)


@pytest.mark.parametrize("text", ["secret", "poet_", UNHEARD_OF + "A", " " + UNHEARD_OF])
def test_an_initial_token_must_not_be_guessable(store, text):
    with pytest.raises(UsageError) as caught:
        add_initial_token(Settings(initial_token=text), store)
    assert caught.value.code == "initial_token_invalid"
    assert "A" * 43 not in str(caught.value)
    assert not store.has_tokens()


def test_the_book_does_not_grow_with_tokens(store, door, monkeypatch):
    monkeypatch.setattr("poet_service.security.tokens._REMEMBERED_TOKENS", 2)
    for _ in range(4):
        door.ask(authorization=[f"Bearer {token(store)[1]}"])
    assert len(door.book._known) == 2
