"""The report for people: what it says, how wide it is, and that nobody's text does anything."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.check.formats.human import render
from poet_cli.check.formats.words import fix_of, percent, summary_line
from poet_cli.check.rendering import FORMATS, rendered
from poet_cli.check.report import Report, Verdict
from tests.check.sample_reports import (
    BROKEN,
    FITTING,
    MIB,
    REPORT,
    TOO_SLOW,
    TOO_SMALL,
    entry,
    hostile_report,
)

BASELINE = Report(
    rows=(
        replace(FITTING, peak_bytes=290 * MIB, seconds=1.0, joules=2.0),
        replace(TOO_SMALL, verdict=Verdict.FITS, floor_bytes=300 * MIB),
        replace(FITTING, entry=entry("no longer here")),
    )
)


def test_failures_come_first_then_warnings_then_what_fits() -> None:
    shown = render(REPORT, width=200).splitlines()
    verdicts = [line.rstrip().split("  ")[-1].strip() for line in shown[1:5]]
    assert [verdict.split("% ")[-1] for verdict in verdicts] == [
        "undecided", "does not fit", "failed (warning)", "fits",
    ]  # fmt: skip


def test_all_figures_are_in_the_table_where_there_is_room() -> None:
    shown = render(REPORT, width=200).splitlines()
    for name in ("model", "device", "floor", "peak", "budget", "headroom", "time", "energy", "gap"):
        assert name in shown[0]
    row = next(line for line in shown if "lenet" not in line and "batch 8" in line)
    for figure in (
        "jetson-tx2",
        "200 MiB",
        "300 MiB",
        "320 MiB",
        "20.0 MiB",
        "+5%",
        "+10%",
        "1.2%",
    ):
        assert figure in row


def test_failure_says_limit_actual_and_the_line_to_write() -> None:
    shown = render(Report(rows=(TOO_SMALL,)), width=100)
    for said in (
        "FAIL vgg on nrf52840  pyproject.toml:12",
        "Limit: 320 MiB of RAM",
        "Actual: 334 MiB",
        "Over by: 14.0 MiB",
        "Floor set by: conv2.backward",
        "activation 0 9.00 MiB (activation)",
        "and 3 more",
        "Least known: 340 MiB",
        "It fits on jetson-tx2",
        'Fix: in pyproject.toml:12 write\n    ram = "340MiB"\n',
    ):
        assert said in shown, said


def test_broken_limit_on_time_says_by_how_much() -> None:
    shown = render(Report(rows=(TOO_SLOW,)), width=120)
    for said in (
        "Limit: time of 1.2 s (1.2x)",
        "Actual: 1.5 s (1.50x)",
        "Over by: 300 ms",
        "seconds = 30",
    ):
        assert said in shown, said


def test_what_fits_has_no_paragraph_and_an_internal_error_has_one() -> None:
    assert "FAIL" not in render(Report(rows=(FITTING,)))
    shown = render(Report(rows=(replace(FITTING, internal=True),)))
    assert "FAIL" in shown
    assert "report it" in shown


def test_baseline_shows_what_changed() -> None:
    shown = render(REPORT, baseline=BASELINE, width=160)
    assert "lenet on jetson-tx2: peak +10.0 MiB, time +5%, energy +10%" in shown
    assert "vgg on nrf52840: was: fits, RAM floor +34.0 MiB" in shown
    assert "bert on raspberry-pi-4b: new" in shown
    assert "No longer checked: no longer here" in shown
    assert "Nothing changed since the baseline" in render(REPORT, baseline=REPORT)


@pytest.mark.parametrize("width", [80, 100, 119, 120, 160, 200])
@pytest.mark.parametrize("report", [REPORT, hostile_report()], ids=["usual", "hostile"])
def test_nothing_is_wider_than_the_terminal(width: int, report: Report) -> None:
    shown = render(report, baseline=BASELINE, width=width)
    assert max(map(len, shown.splitlines())) <= width


def test_width_beyond_what_is_readable_is_not_used() -> None:
    assert render(REPORT, width=10_000) == render(REPORT, width=200)
    assert render(REPORT, width=1) == render(REPORT, width=60)


def test_colour_only_where_asked_for() -> None:
    assert "\x1b" not in render(REPORT)
    coloured = render(REPORT, colour=True)
    assert "\x1b[" in coloured
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == render(REPORT)


@pytest.mark.parametrize("shape", FORMATS)
def test_text_of_others_does_nothing_in_any_format(shape: str) -> None:
    shown = rendered(hostile_report(), shape, BASELINE)
    hidden = {c for c in shown if unicodedata.category(c) in {"Cc", "Cf", "Cs"} and c != "\n"}
    assert hidden - {"\ufe0f"} == set()
    for line in shown.splitlines():
        if shape != "github":  # which is made of commands; its own test counts them
            assert not line.lstrip().startswith("::"), line
            assert "##[" not in line or shape in {"json", "sarif"}  # no log shows these
    assert shown.endswith("\n")


@pytest.mark.parametrize("shape", FORMATS)
def test_report_without_rows_has_every_format(shape: str) -> None:
    assert rendered(Report(rows=()), shape, None)


def test_fix_is_taken_from_our_own_sentences_only() -> None:
    assert fix_of(TOO_SMALL) == 'ram = "340MiB"'
    assert (
        fix_of(replace(TOO_SMALL, advice=("Set page = true: with it a plan is known.",)))
        == "page = true"
    )
    assert fix_of(replace(TOO_SMALL, advice=('Set ram = "1"\nrm -rf /": x', "Set x", ""))) == ""


@pytest.mark.parametrize(
    ("share", "shown"),
    [(0.0, "0%"), (-1e-9, "0%"), (0.052, "+5.2%"), (0.05, "+5%"), (1.0, "+100%"), (-0.5, "-50%"),
     (12.3456, "+1235%"), (None, "")],
)  # fmt: skip
def test_percent(share: float | None, shown: str) -> None:
    assert percent(share, signed=True) == shown


def test_summary_counts() -> None:
    assert summary_line(REPORT) == "1 of 4 fit, 2 failures, 1 warning, in 12.5 s."
    known = Report(rows=(replace(FITTING, from_cache=True), BROKEN), took_seconds=0.5)
    assert summary_line(known) == "1 of 2 fit, 1 warning, in 500 ms (1 known from before)."


def test_file_is_shown_from_the_root(tmp_path: Path) -> None:
    place = replace(TOO_SMALL.entry.place, file=tmp_path / "sub" / "pyproject.toml")
    row = replace(TOO_SMALL, entry=replace(TOO_SMALL.entry, place=place))
    assert "  sub/pyproject.toml:12" in render(Report(rows=(row,)), root=tmp_path)
