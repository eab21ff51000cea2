"""The cache answers what was found for the same content, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from poet_cli.check import cache as cache_module
from poet_cli.check.cache import Cache, cache_folder
from poet_cli.check.cache_files import CacheFolder
from poet_cli.check.entries import Level, Limit, Place
from poet_cli.check.inputs import (
    Footprint,
    ReadFile,
    distributions_digest,
    python_identity,
    read_file,
)
from poet_cli.check.report import Row
from poet_cli.check.tracing import Graph, TraceTask
from tests.check.sample_reports import BROKEN, FITTING, TOO_SLOW, TOO_SMALL

TASK = TraceTask(step="models:step", batch_size=8, measured=False)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "model.py").write_text("x = 1")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "caches" / "poet" / "check"


def seen(file: Path, *, unsure: str = "") -> Footprint:
    found = read_file(str(file))
    assert isinstance(found, ReadFile)
    return Footprint(
        files=(found,),
        variables={},
        prefixes={},
        distributions=distributions_digest(()),
        python=python_identity(),
        unsure=unsure,
    )


def traced(project: Path, document: bytes = b'{"graph": 1}', *, unsure: str = "") -> Graph:
    footprint = seen(project / "model.py", unsure=unsure)
    return Graph(document=document, sha256="a" * 64, footprint=footprint)


def test_trace_is_found_by_another_run_while_nothing_changed(project: Path, folder: Path) -> None:
    assert Cache(folder).graph_of(TASK, project) is None
    Cache(folder).keep_graph(TASK, project, traced(project))
    found = Cache(folder).graph_of(TASK, project)
    assert found is not None
    assert found.sha256 == "a" * 64
    assert Cache(folder).document_of(found) == b'{"graph": 1}'
    (project / "model.py").write_text("x = 2")
    later = Cache(folder)
    assert later.graph_of(TASK, project) is None
    assert "model.py changed" in later.why_traced(TASK)


def test_going_back_to_earlier_content_finds_its_trace(project: Path, folder: Path) -> None:
    Cache(folder).keep_graph(TASK, project, traced(project, b"1"))
    (project / "model.py").write_text("x = 2")
    Cache(folder).keep_graph(TASK, project, traced(project, b"2"))
    for text, document in (("x = 1", b"1"), ("x = 2", b"2"), ("x = 1", b"1")):
        (project / "model.py").write_text(text)
        cache = Cache(folder)
        found = cache.graph_of(TASK, project)
        assert found is not None
        assert cache.document_of(found) == document


def test_only_some_traces_of_a_step_are_kept(project: Path, folder: Path) -> None:
    for number in range(12):
        (project / "model.py").write_text(f"x = {number}")
        Cache(folder).keep_graph(TASK, project, traced(project))
    assert Cache(folder).graph_of(TASK, project) is not None
    assert len(list((folder / "traces").glob("*/*.json"))) == 8


@pytest.mark.parametrize(
    "other",
    [
        replace(TASK, step="models:other"),
        replace(TASK, batch_size=None),
        replace(TASK, batch_size=16),
        replace(TASK, measured=True),
    ],
)
def test_trace_of_another_task_is_another(project: Path, folder: Path, other: TraceTask) -> None:
    Cache(folder).keep_graph(TASK, project, traced(project))
    assert Cache(folder).graph_of(other, project) is None
    assert Cache(folder).graph_of(TASK, project.parent) is None


def test_trace_belongs_to_its_python_path(
    project: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Cache(folder).keep_graph(TASK, project, traced(project))
    monkeypatch.syspath_prepend(str(project))
    assert Cache(folder).graph_of(TASK, project) is None


def test_unsure_trace_is_not_kept_and_says_why(project: Path, folder: Path) -> None:
    cache = Cache(folder)
    cache.keep_graph(TASK, project, traced(project, unsure="it started a process"))
    assert cache.why_traced(TASK) == "it started a process"
    assert Cache(folder).graph_of(TASK, project) is None


def test_variable_is_compared_with_what_a_child_would_get(project: Path, folder: Path) -> None:
    footprint = replace(seen(project / "model.py"), variables={"DEPTH": None})
    graph = Graph(document=b"1", sha256="a" * 64, footprint=footprint)
    Cache(folder, environment={}).keep_graph(TASK, project, graph)
    assert Cache(folder, environment={}).graph_of(TASK, project) is not None
    assert Cache(folder, environment={"DEPTH": ""}).graph_of(TASK, project) is None


@pytest.mark.parametrize(
    "text", [b"", b"{", b"null", b"[]", b'{"schema":"poet.check-trace/1"}', b"\xff"]
)
def test_damaged_trace_is_not_there(project: Path, folder: Path, text: bytes) -> None:
    Cache(folder).keep_graph(TASK, project, traced(project))
    (path,) = (folder / "traces").glob("*/*.json")
    path.write_bytes(text)
    assert Cache(folder).graph_of(TASK, project) is None


def test_damaged_graph_is_not_there(project: Path, folder: Path) -> None:
    Cache(folder).keep_graph(TASK, project, traced(project))
    (path,) = (folder / "graphs").glob("*.json")
    path.write_bytes(b'{"graph": 2}')
    cache = Cache(folder)
    found = cache.graph_of(TASK, project)
    assert found is not None
    assert cache.document_of(found) is None
    path.unlink()
    assert Cache(folder).graph_of(TASK, project) is None


# -- rows ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [FITTING, TOO_SMALL], ids=["fits", "does not fit"])
def test_row_is_found_for_the_same_question(folder: Path, row: Row) -> None:
    assert Cache(folder).row_of(row.entry, "a" * 64) is None
    Cache(folder).keep_row(row, "a" * 64)
    found = Cache(folder).row_of(row.entry, "a" * 64)
    assert found == replace(row, from_cache=True, took_seconds=0.0)


@pytest.mark.parametrize(
    "row",
    [TOO_SLOW, BROKEN, replace(FITTING, internal=True)],
    ids=["undecided", "failed", "internal"],
)
def test_row_that_may_end_otherwise_is_not_kept(folder: Path, row: Row) -> None:
    Cache(folder).keep_row(row, "a" * 64)
    assert Cache(folder).row_of(row.entry, "a" * 64) is None


@pytest.mark.parametrize(
    "changed",
    [
        {"step": "models:other"},
        {"device": "mkr1000"},
        {"ram_bytes": 1},
        {"batch_size": 9},
        {"max_time": Limit(text="1.2x", ratio=1.2)},
        {"max_energy": Limit(text="2 J", absolute=2.0)},
        {"page": False},
        {"rematerialize": False},
        {"planner_seconds": 11.0},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_row_of_another_question_is_another(folder: Path, changed: dict[str, Any]) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    assert Cache(folder).row_of(replace(FITTING.entry, **changed), "a" * 64) is None
    assert Cache(folder).row_of(FITTING.entry, "b" * 64) is None


def test_row_takes_its_name_its_place_and_its_level_from_the_entry_of_now(folder: Path) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    place = Place(file=Path("other.toml"), line=99)
    moved = replace(
        FITTING.entry, name="moved", place=place, level=Level.WARN, undecided=Level.WARN
    )
    found = Cache(folder).row_of(moved, "a" * 64)
    assert found is not None
    assert found.entry == moved


def test_row_of_a_profile_in_a_file_counts_its_content(folder: Path, tmp_path: Path) -> None:
    place = Place(file=tmp_path / "poet-check.toml", line=1)
    row = replace(FITTING, entry=replace(FITTING.entry, device="own.toml", place=place))
    Cache(folder).keep_row(row, "a" * 64)  # there is no such file: nothing is kept
    profile = tmp_path / "own.toml"
    profile.write_text("ram = 1")
    assert Cache(folder).row_of(row.entry, "a" * 64) is None
    Cache(folder).keep_row(row, "a" * 64)
    assert Cache(folder).row_of(row.entry, "a" * 64) is not None
    profile.write_text("ram = 2")
    assert Cache(folder).row_of(row.entry, "a" * 64) is None


def test_row_of_another_planner_is_another(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    monkeypatch.setattr(cache_module, "planner_version", lambda: "another")
    assert Cache(folder).row_of(FITTING.entry, "a" * 64) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b'"fits"', b'"undecided"'),
        (b'"fits"', b'"perhaps"'),
        (b'"code"', b'"kode"'),
        (b"poet.check-row/1", b"poet.check-row/9"),
        (b"{", b""),
    ],
)
def test_damaged_row_is_not_there(folder: Path, before: bytes, after: bytes) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    (path,) = (folder / "rows").glob("*.json")
    assert before in path.read_bytes()
    path.write_bytes(path.read_bytes().replace(before, after, 1))
    assert Cache(folder).row_of(FITTING.entry, "a" * 64) is None


# -- the folder ----------------------------------------------------------------------------------


def test_folder_is_for_its_owner_alone(folder: Path) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o077 for path in folder.rglob("*")} == {0}


def test_folder_that_others_may_write_to_is_not_believed(folder: Path) -> None:
    Cache(folder).keep_row(FITTING, "a" * 64)
    folder.chmod(0o777)
    cache = Cache(folder)
    assert cache.row_of(FITTING.entry, "a" * 64) is None
    assert "others may write" in cache.trouble
    cache.keep_row(TOO_SMALL, "a" * 64)
    folder.chmod(0o700)
    assert Cache(folder).row_of(TOO_SMALL.entry, "a" * 64) is None


def test_folder_that_cannot_be_made_is_trouble_and_no_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = Cache(tmp_path / "file" / "check")
    cache.keep_row(FITTING, "a" * 64)
    cache.prune()
    assert cache.row_of(FITTING.entry, "a" * 64) is None
    assert cache.trouble


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    files = CacheFolder(tmp_path / "check", most_bytes=250)
    for number, name in enumerate(("old", "used", "new")):
        files.write(f"rows/{name}", b"x" * 100)
        os.utime(tmp_path / "check" / "rows" / name, (number, number))
    files.touch("rows/old")
    files.prune()
    assert {path.name for path in (tmp_path / "check" / "rows").iterdir()} == {"old", "new"}


def test_runs_beside_each_other_see_whole_files_only(tmp_path: Path) -> None:
    contents = {bytes([65 + number]) * 200_000 for number in range(4)}
    wrong: list[bytes] = []

    def write(data: bytes) -> None:
        files = CacheFolder(tmp_path / "check")
        for _ in range(25):
            files.write("rows/same", data)
            found = files.read("rows/same")
            if found not in contents:
                wrong.append(found or b"")

    threads = [threading.Thread(target=write, args=(data,)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [path.name for path in (tmp_path / "check" / "rows").iterdir()] == ["same"]


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"POET_CACHE_DIR": "/x", "HOME": "/h"}, "/x/check"),
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c/poet/check"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/poet/check"),
        ({"HOME": "/h"}, "/h/.cache/poet/check"),
    ],
)
@pytest.mark.skipif(sys.platform == "darwin", reason="another folder there")
def test_where_the_folder_is(environment: dict[str, str], expected: str) -> None:
    assert cache_folder(environment) == Path(expected)


def test_known_rows_are_answered_without_heavy_imports(project: Path, folder: Path) -> None:
    cache = Cache(folder)
    cache.keep_graph(TASK, project, traced(project))
    cache.keep_row(FITTING, "a" * 64)
    code = f"""
import sys
sys.path[:] = {sys.path!r}  # it is part of a trace's key
from pathlib import Path
from poet_cli.check.cache import Cache
from poet_cli.check.rendering import rendered
from poet_cli.check.report import Report
from tests.check.test_cache import FITTING, TASK
heavy = ("torch", "numpy", "highspy", "pulp", "networkx", "transformers", "scipy", "poet_solvers")
cache = Cache(Path({str(folder)!r}))
stored = cache.graph_of(TASK, Path({str(project)!r}))
row = cache.row_of(FITTING.entry, stored.sha256)
for shape in ("human", "json", "markdown", "junit", "sarif", "github"):
    rendered(Report(rows=(row,)), shape, None)
print([name for name in heavy if name in sys.modules])
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(part for part in sys.path if part)}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout == "[]\n", done.stderr
