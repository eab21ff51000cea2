"""Which names and which web pages are answered."""

import pytest
from starlette.datastructures import Headers

from poet_core.errors import ServiceError
from poet_service.security.origin import check_host, check_origin
from poet_service.settings import Settings


def refuses(check, *arguments, **options):
    """The code of the refusal, if there is one."""
    try:
        check(*arguments, **options)
    except ServiceError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("settings", "tokens", "host", "answered"),
    [
        ({}, False, "localhost:8080", True),
        ({}, False, "LOCALHOST", True),
        ({}, False, "[::1]:80", True),
        ({}, False, "evil.example", False),
        ({}, False, "localhost.evil.example:8080", False),
        ({}, False, "127.0.0.1@evil.example", False),
        ({}, False, "", False),
        ({}, False, "\x1b[31m", False),
        ({"allowed_hosts": {"Planner.local"}}, False, "planner.LOCAL:1", True),
        ({"allowed_hosts": {"planner.local"}}, False, "evil.example", False),
        ({"insecure_allow_remote": True}, False, "evil.example", True),
        ({"insecure_allow_remote": True, "allowed_hosts": {"a"}}, False, "evil.example", False),
        ({}, True, "whatever.example", True),
        ({"allowed_hosts": {"planner.local"}}, True, "whatever.example", False),
        ({"allowed_hosts": {"planner.local"}}, True, "planner.local", True),
    ],
)
def test_hosts(settings, tokens, host, answered):
    code = refuses(check_host, Headers({"host": host}), Settings(**settings), tokens=tokens)
    assert code == (None if answered else "host_not_allowed")


@pytest.mark.parametrize(
    ("headers", "answered"),
    [
        ({}, True),  # no browser
        ({"sec-fetch-site": "none"}, True),  # typed by hand
        ({"sec-fetch-site": "same-origin"}, True),
        ({"sec-fetch-site": "cross-site"}, False),  # an image of another page
        ({"sec-fetch-site": "same-site"}, False),  # another port of this machine
        ({"origin": "http://localhost:8080"}, True),
        ({"origin": "http://LOCALHOST:8080"}, True),
        ({"origin": "http://localhost:9090"}, False),
        ({"origin": "http://localhost"}, False),
        ({"origin": "http://127.0.0.1:8080"}, False),
        ({"origin": "http://evil.example", "sec-fetch-site": "same-origin"}, False),
        ({"origin": "null"}, False),
        ({"origin": ""}, False),
        ({"origin": "file://"}, False),
        ({"origin": "http://[::1"}, False),
        ({"origin": "http://localhost:99999"}, False),
        ({"origin": "http://localhost:8080.evil.example"}, False),
        ({"origin": "\x1b[31m"}, False),
        ({"origin": "https://pages.example"}, True),
        ({"origin": "https://pages.example.evil.example"}, False),
        ({"origin": "http://pages.example"}, False),
    ],
)
def test_origins(headers, answered):
    settings = Settings(allowed_origins={"https://Pages.example/"})
    code = refuses(check_origin, Headers({"host": "localhost:8080"} | headers), settings)
    assert code == (None if answered else "origin_not_allowed")


def test_a_default_port_is_that_of_its_scheme():
    for host, origin in (("a", "http://a:80"), ("a:80", "http://a"), ("a:443", "https://a")):
        check_origin(Headers({"host": host, "origin": origin}), Settings())
    assert refuses(check_origin, Headers({"host": "a:443", "origin": "http://a"}), Settings())


def test_a_refusal_is_safe_to_print():
    with pytest.raises(ServiceError) as host:
        check_host(Headers({"host": "\x1b[31m"}), Settings(), tokens=False)
    with pytest.raises(ServiceError) as origin:
        check_origin(Headers({"host": "a", "origin": "\x1b[31m"}), Settings())
    assert "\x1b" not in str(host.value) + str(origin.value)
