"""A report as JUnit XML: a test a row, for the test tabs of CI systems.

does not fit, undecided  <failure>      a model that cannot be traced  <error>
a warning                <skipped>, since JUnit knows no warnings
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from poet_cli.check.baseline import changes
from poet_cli.check.formats import words
from poet_cli.check.formats.escape import no_commands, relative_path, xml
from poet_cli.check.report import Report, Row, Verdict


def render(report: Report, *, baseline: Report | None = None, root: Path | None = None) -> str:
    """The XML text. `root`: the folder that file names are shown from, the current one unless given."""
    changed = {} if baseline is None else changes(report, baseline)
    errors = sum(_element(row) == "error" for row in report.rows)
    failures = sum(_element(row) == "failure" for row in report.rows)
    skipped = sum(_element(row) == "skipped" for row in report.rows)
    counts = {
        "name": "poet check",
        "tests": str(len(report.rows)),
        "failures": str(failures),
        "errors": str(errors),
        "time": f"{report.took_seconds:.3f}",
    }
    suites = ET.Element("testsuites", counts)
    suite = ET.SubElement(suites, "testsuite", {**counts, "skipped": str(skipped)})
    for row in words.ordered(report):
        change = changed.get(row.entry.name)
        said = (
            []
            if change is None
            else [f"since the baseline: {words.change_sentence(change) or '='}"]
        )
        _add_case(suite, row, root or Path.cwd(), said)
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode", short_empty_elements=True)
    return no_commands(f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n')


def _element(row: Row) -> str:
    if row.internal or (row.verdict is Verdict.FAILED and words.is_failure(row)):
        return "error"
    if words.is_failure(row):
        return "failure"
    return "skipped" if words.is_warning(row) else ""


def _add_case(suite: ET.Element, row: Row, root: Path, said: list[str]) -> None:
    case = ET.SubElement(
        suite,
        "testcase",
        {
            "name": xml(row.entry.name, 300),
            "classname": f"poet.check.{xml(row.entry.step, 300)}",
            "time": f"{row.took_seconds:.3f}",
        },
    )
    element = _element(row)
    if element:
        told = [f"{label}: {text}" if label else text for label, text in words.details(row)]
        place = row.entry.place
        where = f"{relative_path(place.file, root)}:{place.line}"
        fix = words.fix_of(row)
        told.append(f"Fix: in {where} write {fix}" if fix else f"Written in {where}")
        attributes = {
            "message": xml(row.reason, 500),
            "type": xml(row.code or row.verdict.value, 100),
        }
        ET.SubElement(case, element, attributes).text = "\n".join(map(xml, told))
    ET.SubElement(case, "system-out").text = "\n".join(map(xml, [*_figures(row), *said]))


def _figures(row: Row) -> list[str]:
    figures = {
        "device": row.entry.device,
        "budget": words.size(row.entry.ram_bytes),
        "RAM floor": words.size(row.floor_bytes),
        "peak": words.size(row.peak_bytes),
        "headroom": words.signed_size(row.headroom_bytes).removeprefix("+"),
        "time": words.overhead(row.seconds, row.base_seconds),
        "energy": words.overhead(row.joules, row.base_joules),
        "gap": words.percent(row.gap),
    }
    return [f"{name}: {value}" for name, value in figures.items() if value]
