"""A baseline is an earlier report, from a file or from a commit; nothing of the commit runs."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.check.baseline import (
    BASELINE_NAME,
    Change,
    changes,
    gone,
    load_baseline,
    write_baseline,
)
from poet_cli.check.report import Report, Verdict
from poet_core.errors import DocumentError, PoetError, UsageError
from tests.check.sample_reports import BROKEN, FITTING, MIB, REPORT, TOO_SMALL


def git(folder: Path, *arguments: str) -> str:
    name = ("-c", "user.name=t", "-c", "user.email=t@t", "-c", "init.defaultBranch=main")
    done = subprocess.run(
        ["git", *name, "-C", str(folder), *arguments], capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two commits: `first` with a baseline in sub/, `second` without any."""
    folder = tmp_path_factory.mktemp("repository")
    git(folder, "init", "-q")
    (folder / "sub").mkdir()
    write_baseline(REPORT, folder / "sub" / BASELINE_NAME)
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "one")
    git(folder, "tag", "first")
    git(folder, "rm", "-q", f"sub/{BASELINE_NAME}")
    git(folder, "commit", "-q", "-m", "two")
    git(folder, "tag", "second")
    (folder / "sub").mkdir(exist_ok=True)
    return folder


def test_baseline_from_a_file(tmp_path: Path) -> None:
    write_baseline(REPORT, tmp_path / "old.json")
    assert load_baseline(str(tmp_path / "old.json"), tmp_path) == REPORT


@pytest.mark.parametrize("ref", ["first", "HEAD~1", "HEAD^", "refs/tags/first", "second~1"])
def test_baseline_from_a_commit_is_beside_the_configuration(repository: Path, ref: str) -> None:
    assert load_baseline(ref, repository / "sub") == REPORT


def test_file_of_that_name_is_taken_before_a_commit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    other = Report(rows=(FITTING,))
    write_baseline(other, Path("first"))
    assert load_baseline("first", repository / "sub") == other


@pytest.mark.parametrize(
    ("given", "code"),
    [
        ("nowhere.json", "file_unreadable"),
        ("no-such-branch", "baseline_not_found"),
        ("second", "baseline_missing"),
        ("", "baseline_invalid"),
        ("--help", "baseline_invalid"),
        ("--output=x", "baseline_invalid"),
        ("-x", "baseline_invalid"),
        ("first:../secret", "baseline_invalid"),
        ("first..second", "baseline_invalid"),
        ("first\n--help", "baseline_invalid"),
        ("a b", "baseline_invalid"),
        ("$(touch x)", "baseline_invalid"),
        (":/one", "baseline_invalid"),
        ("x" * 5000, "baseline_invalid"),
        ("\x00", "baseline_invalid"),
    ],
)
def test_what_is_no_baseline_is_refused(repository: Path, given: str, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_baseline(given, repository / "sub")
    assert caught.value.code == code
    assert caught.value.hint


def test_folder_that_is_no_repository_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="neither a file nor a commit"):
        load_baseline("main", tmp_path)


def test_git_that_is_not_there_is_refused(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError) as caught:
        load_baseline("first", repository / "sub")
    assert caught.value.code == "baseline_git_failed"


def test_text_conversion_of_the_repository_does_not_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    attributes = repository / ".git" / "info" / "attributes"
    attributes.parent.mkdir(exist_ok=True)
    attributes.write_text("*.json diff=evil filter=evil\n")
    for key in ("diff.evil.textconv", "filter.evil.smudge", "filter.evil.clean"):
        git(repository, "config", key, f"touch {ran}; cat")
    assert load_baseline("first", repository / "sub") == REPORT
    assert not ran.exists()


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema": "poet.check/9"}'])
def test_file_that_is_no_report_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "old.json").write_text(text)
    with pytest.raises(DocumentError, match=r"old\.json"):
        load_baseline(str(tmp_path / "old.json"), tmp_path)


def test_baseline_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PoetError):
        write_baseline(REPORT, tmp_path / "no" / "such" / "folder.json")


def test_changes_are_by_the_name_of_the_row() -> None:
    before = Report(
        rows=(
            replace(FITTING, peak_bytes=310 * MIB, seconds=1.0, joules=2.0, floor_bytes=200 * MIB),
            replace(TOO_SMALL, verdict=Verdict.FITS, peak_bytes=300 * MIB),
            replace(FITTING, entry=replace(FITTING.entry, name="gone")),
        )
    )
    now = Report(rows=(BROKEN, TOO_SMALL, FITTING))
    found = changes(now, before)
    assert found[FITTING.entry.name] == Change(
        was=Verdict.FITS,
        floor_bytes=0,
        peak_bytes=-10 * MIB,
        seconds_ratio=pytest.approx(0.05),
        joules_ratio=pytest.approx(0.1),
    )
    assert found[BROKEN.entry.name] == Change(new=True)
    small = found[TOO_SMALL.entry.name]
    assert (small.verdict_changed, small.was, small.peak_bytes) == (True, Verdict.FITS, None)
    assert gone(now, before) == ("gone",)


def test_nothing_changed_is_nothing() -> None:
    assert all(change.nothing for change in changes(REPORT, REPORT).values())
    assert not Change(new=True).nothing
    assert not Change(peak_bytes=1).nothing


def test_share_of_nothing_is_not_known() -> None:
    before = replace(FITTING, joules=0.0)
    change = changes(Report(rows=(FITTING,)), Report(rows=(before,)))[FITTING.entry.name]
    assert change.joules_ratio is None
