"""Who asks the same within one tenant shares a solve; nobody else does."""

from poet_core.documents import parse_json
from poet_core.plan_request import request_from_document
from poet_service.jobs.keys import canonical_request, planner_version, solve_key
from poet_service.jobs.remembered import Remembered

SECRET = b"s" * 32


def test_every_part_counts(monkeypatch):
    key = solve_key(SECRET, "tenant", b"request")
    assert len(key) == 32
    assert key == solve_key(SECRET, "tenant", b"request", None)
    others = [
        solve_key(b"t" * 32, "tenant", b"request"),
        solve_key(SECRET, "tenants", b"request"),
        solve_key(SECRET, "tenant", b"requests"),
        solve_key(SECRET, "tenant", b"request", b"start"),
        solve_key(SECRET, "tenant", b"request", b""),
    ]
    monkeypatch.setattr("poet_service.jobs.keys.planner_version", lambda: "other")
    others.append(solve_key(SECRET, "tenant", b"request"))
    assert len({key, *others}) == 7
    assert planner_version()


def test_a_request_has_one_text(request_body):
    short = request_from_document(request_body)
    text = canonical_request(short)
    assert request_from_document(parse_json(text)) == short
    assert canonical_request(request_from_document(parse_json(text))) == text


def test_the_least_recently_used_is_forgotten():
    remembered = Remembered(most=10)
    for name in "abc":
        remembered.put(name, name.upper(), weight=4)
    assert [remembered.get(name) for name in "abc"] == [None, "B", "C"]
    remembered.get("b")
    remembered.put("d", "D", weight=2)
    remembered.put("e", "E", weight=4)
    assert [remembered.get(name) for name in "bcde"] == ["B", None, "D", "E"]
    remembered.put("b", "again", weight=1)
    assert (remembered.get("b"), len(remembered)) == ("again", 3)
    remembered.put("x", "too much", weight=11)
    assert (remembered.get("x"), len(remembered)) == (None, 0)
    remembered.forget("nothing")
