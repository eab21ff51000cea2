"""docs/client.md is true: its calls, arguments, codes and figures exist."""

import inspect
import re
from pathlib import Path

import pytest

import poet_client
from poet_client import AsyncPlannerClient, Job, PlannerClient, RetryPolicy
from poet_core.plan_request import FLASH_WRITES_OF_PEAK

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "client.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(("name", "kind"), [("job", Job), ("client", PlannerClient)])
def test_every_documented_call_exists_with_its_arguments(name, kind):
    calls = re.findall(rf"\b{name}\.(\w+)\(([^)]*)\)", TEXT)
    assert len(calls) >= 5
    for call, arguments in calls:
        known = inspect.signature(getattr(kind, call)).parameters
        named = re.findall(r"(\w+)(?==)", arguments)
        assert set(named) <= set(known), call
        plain = [item for item in arguments.split(",") if item.strip() and "=" not in item]
        assert len(plain) <= len(known) - 1, call


def test_both_clients_have_the_same_calls():
    def calls(kind):
        return {
            name: str(inspect.signature(found).parameters)
            for name, found in inspect.getmembers(kind, callable)
            if not name.startswith("_") and name != "iterate"
        }

    assert calls(PlannerClient) == calls(AsyncPlannerClient)
    for name in ("Job", "FrontierJob"):
        sync, later = getattr(poet_client, name), getattr(poet_client, f"Async{name}")
        assert calls(sync) == calls(later)


def test_the_codes_and_figures_are_those_of_the_source():
    source = "".join(path.read_text() for path in (ROOT / "poet_client").glob("*.py"))
    codes = re.findall(r"`((?:server|job|token)_[a-z_]+)`", TEXT)
    assert len(set(codes)) >= 6
    assert [code for code in codes if f'"{code}"' not in source] == []
    assert f"up to {RetryPolicy().attempts} times" in TEXT
    assert f"{FLASH_WRITES_OF_PEAK} times keep-everything's peak" in TEXT.replace("\n", " ")
