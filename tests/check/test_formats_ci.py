"""JUnit, SARIF and GitHub: valid by their schemas, and with hostile text as harmless as without."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import jsonschema
import pytest
import xmlschema

from poet_cli.check.entries import Level
from poet_cli.check.formats import github, junit, sarif
from poet_cli.check.report import Report, Verdict
from tests.check.sample_reports import (
    BROKEN,
    FITTING,
    MIB,
    REPORT,
    TOO_SLOW,
    TOO_SMALL,
    hostile_report,
)

_SCHEMAS = Path(__file__).parent / "schemas"
INTERNAL = replace(BROKEN, internal=True, code="internal")
ERROR = replace(BROKEN, entry=replace(BROKEN.entry, level=Level.ERROR))
REPORTS = {
    "usual": REPORT,
    "hostile": hostile_report(),
    "empty": Report(rows=()),
    "all fit": Report(rows=(FITTING,)),
    "internal": Report(rows=(INTERNAL, replace(FITTING, internal=True))),
    "long": Report(rows=(FITTING,), took_seconds=123456.789),
}


@pytest.fixture(scope="module")
def junit_schema() -> xmlschema.XMLSchema:
    return xmlschema.XMLSchema(_SCHEMAS / "junit-10.xsd")


@pytest.fixture(scope="module")
def sarif_schema() -> Any:
    schema = json.loads((_SCHEMAS / "sarif-2.1.0.schema.json").read_text())
    kind = jsonschema.validators.validator_for(schema)
    kind.check_schema(schema)
    return kind(schema, format_checker=kind.FORMAT_CHECKER)


# -- JUnit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("baseline", [None, REPORT], ids=["alone", "with baseline"])
def test_junit_is_valid(
    junit_schema: xmlschema.XMLSchema, name: str, baseline: Report | None
) -> None:
    junit_schema.validate(junit.render(REPORTS[name], baseline=baseline))


def test_schema_of_junit_refuses_what_is_none(junit_schema: xmlschema.XMLSchema) -> None:
    broken = (
        junit.render(REPORT).replace("<testcase", "<testkase").replace("/testcase", "/testkase")
    )
    assert not junit_schema.is_valid(broken)


def test_junit_has_a_case_for_each_row() -> None:
    report = Report(rows=(FITTING, TOO_SMALL, TOO_SLOW, BROKEN, ERROR, INTERNAL), took_seconds=2.0)
    suite = ET.fromstring(junit.render(report))[0]
    assert {name: suite.get(name) for name in ("tests", "failures", "errors", "skipped", "time")} == {
        "tests": "6", "failures": "2", "errors": "2", "skipped": "1", "time": "2.000",
    }  # fmt: skip
    inside = [[part.tag for part in case] for case in suite]
    assert sorted(tags[0] for tags in inside) == [
        "error", "error", "failure", "failure", "skipped", "system-out",
    ]  # fmt: skip
    failure = suite.find("testcase[@name='vgg on nrf52840']/failure")
    assert failure is not None
    assert failure.get("type") == "ram_below_floor"
    assert 'in pyproject.toml:12 write ram = "340MiB"' in (failure.text or "")


# -- SARIF ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REPORTS)
@pytest.mark.parametrize("baseline", [None, REPORT], ids=["alone", "with baseline"])
def test_sarif_is_valid(sarif_schema: Any, name: str, baseline: Report | None) -> None:
    sarif_schema.validate(json.loads(sarif.render(REPORTS[name], baseline=baseline)))


def test_schema_of_sarif_refuses_what_is_none(sarif_schema: Any) -> None:
    log = json.loads(sarif.render(REPORT))
    del log["runs"][0]["results"][0]["message"]
    assert not sarif_schema.is_valid(log)


def run_of(report: Report, **given: Any) -> dict[str, Any]:
    found = json.loads(sarif.render(report, **given))["runs"][0]
    assert isinstance(found, dict)
    return found


def test_sarif_has_a_result_for_each_row_that_does_not_fit() -> None:
    run = run_of(REPORT)
    assert [(result["ruleId"], result["level"]) for result in run["results"]] == [
        ("not_found_in_time", "error"), ("ram_below_floor", "error"), ("step_failed", "warning"),
    ]  # fmt: skip
    rules = run["tool"]["driver"]["rules"]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
    small = run["results"][1]
    assert small["locations"][0]["physicalLocation"] == {
        "artifactLocation": {"uri": "pyproject.toml", "uriBaseId": "%SRCROOT%"},
        "region": {"startLine": 12},
    }
    assert small["properties"]["floorBytes"] == 334 * MIB
    assert 'Fix: write ram = "340MiB"' in small["message"]["text"]
    assert run["invocations"] == [{"executionSuccessful": True, "exitCode": 1}]
    assert not run_of(REPORTS["internal"])["invocations"][0]["executionSuccessful"]


def test_sarif_fingerprint_is_of_the_row_and_not_of_its_figures() -> None:
    def prints(report: Report) -> list[str]:
        results = run_of(report)["results"]
        return [result["partialFingerprints"]["poetCheckRow/v1"] for result in results]

    more = replace(TOO_SMALL, floor_bytes=500 * MIB, reason="more")
    assert prints(Report(rows=(more,))) == prints(Report(rows=(TOO_SMALL,)))
    assert len(set(prints(REPORT))) == 3


def test_sarif_files_are_from_the_root_and_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "repo").mkdir()
    monkeypatch.chdir(tmp_path / "repo")

    def uri(file: Path) -> dict[str, str]:
        place = replace(TOO_SMALL.entry.place, file=file)
        row = replace(TOO_SMALL, entry=replace(TOO_SMALL.entry, place=place))
        result = run_of(Report(rows=(row,)), root=tmp_path / "repo")["results"][0]
        found = result["locations"][0]["physicalLocation"]["artifactLocation"]
        assert isinstance(found, dict)
        return found

    inside = tmp_path / "repo" / "a b" / "50%.toml"
    assert uri(inside) == {"uri": "a%20b/50%25.toml", "uriBaseId": "%SRCROOT%"}
    assert uri(Path("models/../poet-check.toml"))["uri"] == "poet-check.toml"
    assert uri(tmp_path / "else.toml") == {"uri": f"file://{tmp_path}/else.toml"}


@pytest.mark.parametrize("render", [sarif.render, github.render], ids=["sarif", "github"])
def test_files_are_from_the_repository_whatever_the_current_folder(
    render: Callable[[Report], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path / "models")
    shown = render(Report(rows=(TOO_SMALL,)))
    assert "models/pyproject.toml" in shown
    assert str(tmp_path) not in shown


def test_sarif_message_has_no_links_and_no_placeholders() -> None:
    row = replace(TOO_SMALL, reason="see [here](http://x) {0} \\ end")
    text = run_of(Report(rows=(row,)))["results"][0]["message"]["text"]
    assert "see \\[here\\](http://x) {{0}} \\\\ end" in text


# -- GitHub --------------------------------------------------------------------------------------

_COMMAND = re.compile(
    r"::(error|warning) file=[^,:\r\n]*,line=[0-9]+,title=[^,:\r\n]*::[^\r\n]*"
    r"|::notice title=poet check::[^\r\n]*"
)


@pytest.mark.parametrize("name", REPORTS)
def test_each_line_for_github_is_one_command(name: str) -> None:
    report = REPORTS[name]
    shown = github.render(report, baseline=REPORT).splitlines()
    assert all(_COMMAND.fullmatch(line) for line in shown), shown
    bad = [row for row in report.rows if row.verdict is not Verdict.FITS or row.internal]
    assert len(shown) == len(bad) + 1


def test_github_annotation_says_what_to_do_at_its_line() -> None:
    shown = github.render(Report(rows=(TOO_SMALL,)))
    assert shown.startswith(
        "::error file=pyproject.toml,line=12,title=vgg on nrf52840%3A does not fit::No plan needs less"
    )
    assert '%0AFix: write ram = "340MiB"\n' in shown
    assert github.render(Report(rows=(BROKEN,))).startswith("::warning ")


def test_github_escapes_percent_and_line_breaks() -> None:
    entry = replace(TOO_SMALL.entry, name="a,b:c%d\r\n::error::x")
    shown = github.render(Report(rows=(replace(TOO_SMALL, entry=entry, reason="50%\n::error::y"),)))
    first = shown.splitlines()[0]
    assert "title=a%2Cb%3Ac%25d\\u000d\\u000a%3A%3Aerror%3A%3Ax%3A does" in first
    assert "::50%25\\u000a::error::y%0A" in first
