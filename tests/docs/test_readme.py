"""The README says what the stored results say, and its commands and links exist."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import click
import pytest

from benchmarks import demo, planner_readme
from poet_cli.main import cli

_ROOT = Path(__file__).parents[2]
_README = (_ROOT / "README.md").read_text()
_PAGES = [_ROOT / "README.md", *sorted((_ROOT / "docs").glob("*.md"))]


def test_readmes_table_is_the_stored_results() -> None:
    assert demo.table() == (_ROOT / "benchmarks" / "results" / "demo.md").read_text()
    assert demo.table() in _README


def test_readmes_planner_table_is_the_stored_results() -> None:
    assert planner_readme.table() in _README
    results = json.loads((_ROOT / "benchmarks" / "results" / "planner.json").read_text())
    judged = [one for one in results["points"] if one["verdict"] != "report only"]
    assert all(one["verdict"] == "meets" for one in judged)
    assert all(one["proven"] for one in results["proofs"])
    assert len(results["points"]) == 78
    assert len(results["proofs"]) == 41
    [deep] = results["scale"]
    assert (deep["ops"], deep["first_plan_seconds"] < 1) == (6162, True)
    assert deep["gap_percent"] < 0.07


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_stored_results_hold_what_the_demo_promises(optimizer: str) -> None:
    path = _ROOT / "benchmarks" / "results" / f"demo-{optimizer}.json"
    report = json.loads(path.read_text())
    assert report["runs"]["planned"]["data"] == "mnist"
    assert report["measured_peak_bytes"] <= report["budget_bytes"]
    assert report["budget_bytes"] * 100 <= report["keep_everything_bytes"] * 60
    assert report["identical_to_unconstrained"]
    assert report["identical_to_eager"]


def test_commands_of_the_tour_parse() -> None:
    commands = re.findall(r"^    poet (.+?)(?:\s{2,}#.*)?$", _README, re.MULTILINE)
    assert len(commands) >= 7
    for text in commands:
        words = shlex.split(text)
        command: click.Command = cli
        while isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words.pop(0))
            assert found is not None, text
            command = found
        context = click.Context(command)
        command.make_parser(context).parse_args(list(words))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), target


def test_seconds_of_poet_check_are_the_stored_ones() -> None:
    stored = json.loads((_ROOT / "benchmarks" / "results" / "check.json").read_text())
    median = {one["name"]: one["median"] for one in stored["timed"]}
    cold, warm = median["check, cold"], median["check, warm"]
    assert f"take {cold:.0f} s cold and {warm:.2f} s warm" in _README.replace("\n", " ")
