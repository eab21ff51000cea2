"""The JSON document: everything of a report, and nothing but a report when it is read."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poet_cli.check.entries import Limit
from poet_cli.check.formats.document import MOST_ROWS, read_report, render, report_from_document
from poet_cli.check.report import Report
from poet_core.errors import DocumentError
from tests.check.sample_reports import (
    BROKEN,
    FITTING,
    HOSTILE,
    MIB,
    REPORT,
    TOO_SLOW,
    TOO_SMALL,
    hostile_report,
)


def document(report: Report = REPORT) -> dict[str, Any]:
    parsed = json.loads(render(report))
    assert isinstance(parsed, dict)
    return parsed


def test_report_survives_its_document() -> None:
    assert read_report(render(REPORT)) == REPORT


@pytest.mark.parametrize("rows", [(), (FITTING,), (TOO_SMALL,), (TOO_SLOW,), (BROKEN,)])
def test_each_kind_of_row_survives(rows: tuple[Any, ...]) -> None:
    report = Report(rows=rows, took_seconds=1.25)
    assert read_report(render(report)) == report
    assert document(report)["exit_code"] == report.exit_code()


def test_sizes_are_exact_and_readable() -> None:
    row = document()["rows"][0]
    assert row["peak"] == {"bytes": 300 * MIB, "text": "300 MiB"}
    assert row["entry"]["ram"] == {"bytes": 320 * MIB, "text": "320 MiB"}
    assert row["headroom_bytes"] == 20 * MIB
    assert row["floor"]["bytes"] == 200 * MIB


def test_document_says_which_tool_and_which_file() -> None:
    made = document()
    assert made["schema"] == "poet.check/1"
    assert made["tool"]["name"] == "poet-planner"
    assert made["config_file"] == "pyproject.toml"
    assert made["exit_code"] == 1


def test_text_that_no_reader_would_take_is_made_readable() -> None:
    made = render(hostile_report())
    assert made.isascii()
    read = read_report(made)
    assert "\\ud800" in read.rows[0].reason
    longer = Report(rows=(replace(FITTING, reason="x" * 5_000),))
    assert len(read_report(render(longer)).rows[0].reason) == 2_000


def test_figures_that_json_does_not_have_are_left_out() -> None:
    made = document(Report(rows=(replace(FITTING, gap=float("inf"), joules=float("nan")),)))
    assert made["rows"][0]["gap"] is None
    assert made["rows"][0]["joules"] is None


def changed(path: str, value: object) -> dict[str, Any]:
    """The document with another value at a path such as rows.0.entry.ram.bytes."""
    made: Any = copy.deepcopy(document())
    *parts, last = (int(part) if part.isdigit() else part for part in path.split("."))
    holder = made
    for part in parts:
        holder = holder[part]
    holder[last] = value
    return made  # type: ignore[no-any-return]


REFUSED: list[tuple[str, object]] = [
    ("schema", "poet.check/2"),
    ("more", 1),
    ("tool", "poet"),
    ("exit_code", 0),
    ("exit_code", True),
    ("took_seconds", -1),
    ("took_seconds", 1e301),
    ("notes", ["x" * 2_001]),
    ("notes", ["x"] * 201),
    ("notes", [1]),
    ("rows", {}),
    ("rows", [None]),
    ("rows.0.more", 1),
    ("rows.0.verdict", "perfect"),
    ("rows.0.internal", 0),
    ("rows.0.peak", 5),
    ("rows.0.peak.bytes", -1),
    ("rows.0.peak.bytes", 1.5),
    ("rows.0.peak.bytes", 2**53),
    ("rows.0.peak.text", None),
    ("rows.0.headroom_bytes", "1"),
    ("rows.0.gap", -0.5),
    ("rows.0.gap", "0"),
    ("rows.0.reason", None),
    ("rows.0.reason", "\ud800"),
    ("rows.0.at_peak", [{"name": "x", "role": "y"}]),
    ("rows.0.at_peak", [{"name": "x", "role": "y", "size": {"bytes": 1, "text": ""}}] * 201),
    ("rows.0.advice", ["x"] * 51),
    ("rows.0.entry.name", 1),
    ("rows.0.entry.level", "fatal"),
    ("rows.0.entry.undecided", ["warn"]),
    ("rows.0.entry.batch_size", 0),
    ("rows.0.entry.line", -1),
    ("rows.0.entry.max_time", {"text": "x", "ratio": None, "absolute": None}),
    ("rows.0.entry.max_time", {"text": "x", "ratio": 1.5, "absolute": 2.0}),
    ("rows.0.entry.planner_seconds", None),
]


@pytest.mark.parametrize(
    ("path", "value"), REFUSED, ids=[f"{n} {REFUSED[n][0]}" for n in range(len(REFUSED))]
)
def test_what_is_no_report_is_refused(path: str, value: object) -> None:
    with pytest.raises(DocumentError):
        report_from_document(changed(path, value))


def test_missing_field_is_refused() -> None:
    for name in document():
        made = document()
        del made[name]
        with pytest.raises(DocumentError, match=name):
            report_from_document(made)


def test_too_many_rows_are_refused() -> None:
    with pytest.raises(DocumentError, match="at most"):
        report_from_document(changed("rows", [document()["rows"][0]] * (MOST_ROWS + 1)))


@pytest.mark.parametrize(
    "text",
    [b"", b"[]", b"null", b"{", b"\xff", b"NaN", b'{"schema":1,"schema":1}', b"[" * 50, b" " * (9 << 20)],
)  # fmt: skip
def test_text_that_is_no_document_is_refused(text: bytes) -> None:
    with pytest.raises(DocumentError):
        read_report(text)


def test_path_of_a_stranger_is_only_text() -> None:
    read = report_from_document(changed("rows.0.entry.file", "/etc/../\u202e" + HOSTILE[:5]))
    assert isinstance(read.rows[0].entry.place.file, Path)


def test_limits_survive() -> None:
    limits = {
        "max_time": Limit(text="3 s", absolute=3.0),
        "max_energy": Limit(text="1.1x", ratio=1.1),
    }
    row = replace(FITTING, entry=replace(FITTING.entry, **limits))
    assert read_report(render(Report(rows=(row,)))).rows == (row,)
