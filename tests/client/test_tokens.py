"""A token goes to the one origin that it was given for, and is shown nowhere."""

import pytest

from poet_client import PlannerClient
from poet_client.address import parse_address
from poet_client.tokens import find_token
from poet_core.errors import ServiceError, UsageError
from tests.client.conftest import hasty, hostile_server, request_for, running_service
from tests.client.fake_service import fake_service, reply
from tests.service.conftest import QuickExecutor

TOKEN = "poet_" + "k" * 43


def test_where_a_token_comes_from(tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    both = {"POET_TOKEN": "poet_of_the_variable", "POET_TOKEN_FILE": str(file)}
    assert find_token("poet_given", both) == "poet_given"
    assert find_token(None, both) == "poet_of_the_variable"
    assert find_token(None, {"POET_TOKEN": "", "POET_TOKEN_FILE": str(file)}) == TOKEN
    assert find_token(None, {}) is None


@pytest.mark.parametrize("content", [None, b"x" * 5000, "tökén".encode()])
def test_a_token_file_that_is_none(content, tmp_path):
    file = tmp_path / "token"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        find_token(None, {"POET_TOKEN_FILE": str(file)})
    assert caught.value.code == "token_file_unreadable"
    assert "xxx" not in str(caught.value)


@pytest.mark.parametrize(
    "token", ["", "short", "two words here", "line\nbreak: it", "nul\0nulnul", "ä" * 20, "x" * 513]
)
def test_a_token_that_is_none(token):
    with pytest.raises(UsageError) as caught:
        PlannerClient("http://127.0.0.1:1", token=token)
    assert caught.value.code == "token_invalid"
    assert len(token) < 8 or token not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "goes"),
    [
        ("http://127.0.0.1:8080", True), ("http://127.9.9.9", True), ("http://localhost", True),
        ("http://[::1]:8080", True), ("https://plans.example", True),
        ("http://plans.example", False), ("http://10.0.0.1:8080", False),
        ("http://localhost.evil.example", False), ("http://127.0.0.1.evil.example", False),
        ("http://[2001:db8::1]", False),
    ],
)  # fmt: skip
def test_a_token_goes_encrypted_or_stays_on_this_machine(url, goes):
    assert parse_address(url).headers() == {}
    if goes:
        assert parse_address(url, token=TOKEN).headers() == {"Authorization": f"Bearer {TOKEN}"}
        return
    with pytest.raises(UsageError) as caught:
        parse_address(url, token=TOKEN)
    assert caught.value.code == "token_insecure"
    assert TOKEN not in str(caught.value)
    assert parse_address(url, token=TOKEN, allow_insecure=True).token == TOKEN


def test_every_request_carries_it(client_of, graph):
    with fake_service() as (service, url):
        client_of(url, token=TOKEN).plan(graph, device="mkr1000", ram_bytes=32768)
        client_of(url).plan(graph, device="mkr1000", ram_bytes=32767)
    carried = [headers.get("Authorization") for _, _, headers, _ in service.seen]
    assert carried == [f"Bearer {TOKEN}", None]


def test_the_environment_gives_it(graph, monkeypatch):
    monkeypatch.setenv("POET_TOKEN", TOKEN)
    with fake_service() as (service, url):
        hasty(url).plan(graph, device="mkr1000", ram_bytes=32768)
    assert service.seen[0][2]["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_gets_neither_token_nor_request(status, client_of, graph):
    seen = []

    def listens(handler, body):
        seen.append(dict(handler.headers))
        reply(handler, 200, {})

    with hostile_server(listens) as elsewhere:
        headers = [("Location", elsewhere + "/v1/plans")]
        with hostile_server(lambda h, _: reply(h, status, b"", headers)) as url:
            client = client_of(url, token=TOKEN)
            calls = (client.jobs, lambda: client.plan(graph, device="mkr1000", ram_bytes=32768))
            for call in calls:
                with pytest.raises(ServiceError) as caught:
                    call()
                assert caught.value.code == "server_redirects"
    assert seen == []


def test_the_real_service_knows_its_tokens(client_of, graph):
    with running_service(QuickExecutor) as (url, executor):
        _, token = executor.store.add_token("laptop", "team", frozenset({"plans", "devices"}), None)
        with pytest.raises(ServiceError) as caught:
            client_of(url).jobs()
        assert caught.value.details["status"] == 401
        client = client_of(url, token=token)
        job_id = client.submit(request_for(graph)).job_id
        assert client.job(job_id).view().state == "finished"
        _, other = executor.store.add_token("phone", "team", frozenset({"plans"}), None)
        with pytest.raises(ServiceError) as caught:
            client_of(url, token=other).job(job_id).view()
        assert caught.value.details["status"] == 404
