"""poet tokens: made once, listed without their texts, revoked for good."""

import os

import pytest

from poet_service.security.tokens import TOKEN_PATTERN


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith("POET_SERVICE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("POET_SERVICE_STATE_DIR", str(tmp_path / "state"))


def test_a_token_from_its_making_to_its_end(poet):
    made = poet("tokens", "create", "laptop")
    assert made.code == 0
    assert TOKEN_PATTERN.fullmatch(made.out.strip())  # stdout is the token and nothing else
    other = poet("tokens", "create", "ci", "--tenant", "team-a", "--scope", "metrics", "--scope",
                 "plans", "--most-active-jobs", "3", "--json").json  # fmt: skip
    assert (other["id"], other["tenant"], other["scopes"]) == (2, "team-a", ["metrics", "plans"])
    listed = poet("tokens", "list", "--json")
    first, second = listed.json["tokens"]
    assert (first["name"], first["tenant"], first["scopes"]) == (
        "laptop", "local", ["devices", "plans"],
    )  # fmt: skip
    assert (second["most_active_jobs"], second["revoked_at"]) == (3, None)
    assert other["token"] not in listed.out
    assert poet("tokens", "revoke", "2").code == 0
    assert poet("tokens", "list", "--json").json["tokens"][1]["revoked_at"]
    again = poet("tokens", "revoke", "2", "--json")
    assert (again.code, again.json["error"]["code"]) == (2, "token_id_unknown")
    shown = poet("tokens", "list")
    assert made.out.strip() not in shown.out
    assert "laptop" in shown.out


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("create", "a b"), "name_invalid"),
        (("create", "\x1b[31m"), "name_invalid"),
        (("create", "a" * 65), "name_invalid"),
        (("create", "a", "--tenant", ""), "name_invalid"),
        (("create", "a", "--scope", "everything"), "scope_unknown"),
        (("create", "a", "--most-active-jobs", "0"), "usage"),
        (("create",), "argument_missing"),
        (("revoke", "none"), "usage"),
        (("revoke", "99999999999999999999"), "usage"),
        (("list", "--database", "mysql://a"), "database_url_invalid"),
        (("list", "--config", "nothing.toml"), "config_unreadable"),
    ],
)
def test_what_is_refused(poet, arguments, code):
    result = poet("tokens", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)
    assert "\x1b" not in result.out


def test_a_database_that_is_no_database(poet, tmp_path):
    (tmp_path / "junk").write_bytes(b"junk" * 1000)
    result = poet("tokens", "list", "--database", f"sqlite:///{tmp_path}/junk", "--json")
    assert (result.code, result.json["error"]["code"]) == (3, "database_corrupted")
