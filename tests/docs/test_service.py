"""docs/service.md says the limits that are set and the scopes that there are."""

import re

import pytest

from poet_service.security.scopes import OPEN_PATHS, Scope, scope_of
from poet_service.settings import Settings
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "docs" / "service.md").read_text(encoding="utf-8")
LIMITS = re.findall(r"^\| [^|]+ \| ([^|]+) \| `([a-z_]+)` \|$", TEXT, re.MULTILINE)
SCOPES = dict(
    re.findall(r"^\| `([a-z]+)` \| (.*(?:/v1|/metrics|all of).*) \|$", TEXT, re.MULTILINE)
)


def said(name):
    """The ways in which a person writes a setting's default."""
    value = Settings.model_fields[name].default
    if name.endswith("_bytes"):
        gib, mib = value / 2**30, value / 2**20
        return {f"{gib:.0f} GiB"} if gib >= 1 and gib == int(gib) else {f"{mib:.0f} MiB"}
    days = value / 86400
    return {f"{days:.0f} days"} if name == "retain_seconds" else {f"{value:,.0f}"}


def test_there_is_a_table_of_limits():
    assert len(LIMITS) > 20


@pytest.mark.parametrize(("value", "name"), LIMITS)
def test_a_limit_is_the_settings_default(value, name):
    assert any(re.search(rf"(?<![\d,]){re.escape(form)}(?![\d,]\d)", value) for form in said(name))


def test_the_scopes_are_those_that_there_are():
    assert set(SCOPES) == set(Scope)
    for scope, opens in SCOPES.items():
        for path in re.findall(r"`(/[a-z0-9/]+)`", opens):
            assert scope_of(path) == scope


def test_the_open_addresses_are_named():
    assert all(f"`{path}`" in TEXT for path in OPEN_PATHS)
