"""A whole check: what is traced once, what is planned where, what is kept, and what is interrupted."""

import json
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.check import running
from poet_cli.check.cache import Cache
from poet_cli.check.decide_child import DecideRequest
from poet_cli.check.entries import Entry, Place
from poet_cli.check.inputs import Footprint, distributions_digest, python_identity
from poet_cli.check.planning_child import Planned, planned
from poet_cli.check.report import Row, Verdict
from poet_cli.check.running import RunOptions, run_check, with_batch_advice
from poet_cli.check.tracing import Graph, NoGraph, TraceLimits
from poet_core.graph_document import graph_sha256, graph_to_document
from tests.solvers.mlp_step import mlp_adam_step

GRAPH = mlp_adam_step((8, 16, 4), batch=4)
DOCUMENT = json.dumps(graph_to_document(GRAPH)).encode()
FOOTPRINT = Footprint(
    variables={}, prefixes={}, distributions=distributions_digest(()), python=python_identity()
)


def entry(name="mlp", **others):
    given = {
        "name": name, "step": "m:s", "device": "nrf52840", "ram_bytes": 200 << 10,
        "place": Place(file=Path("poet-check.toml"), line=1), "planner_seconds": 60.0,
    }  # fmt: skip
    return Entry(**(given | others))


def row_of(one, verdict=Verdict.FITS, **others):
    return Row(entry=one, verdict=verdict, reason="A test says so.", **others)


class Fakes:
    """Traces and plans without a child; says what was asked."""

    def __init__(self, monkeypatch):
        self.traced, self.planned, self.refuse = [], [], {}
        monkeypatch.setattr(running, "traced", self.trace)
        monkeypatch.setattr(running, "planned", self.plan)
        self.lock = threading.Lock()

    def trace(self, task, folder, work, limits, cancel):
        with self.lock:
            self.traced.append(task)
        if task.step in self.refuse:
            return self.refuse[task.step]
        return Graph(document=DOCUMENT, sha256=graph_sha256(GRAPH), footprint=FOOTPRINT, said="hi")

    def plan(self, request, work, cancel):
        assert Path(request.graph_file).read_bytes() == DOCUMENT
        with self.lock:
            self.planned += [one.name for one in request.entries]
        return Planned(rows=tuple(map(row_of, request.entries)), said=("Planning here instead.",))


@pytest.fixture
def fakes(monkeypatch):
    return Fakes(monkeypatch)


def options(**others):
    given = {"folder": Path(), "trace": TraceLimits(wall_seconds=60), "jobs": 2}
    return RunOptions(**(given | others))


def test_each_step_and_batch_size_is_traced_once_whatever_the_devices(fakes):
    entries = [
        entry(f"{step} {size} {device}", step=step, batch_size=size, device=device)
        for step in ("m:a", "m:b")
        for size in (None, 8)
        for device in ("nrf52840", "jetson-tx2", "mkr1000")
    ]
    outcome = run_check(entries, options())
    assert sorted((t.step, t.batch_size or 0) for t in fakes.traced) == [
        ("m:a", 0), ("m:a", 8), ("m:b", 0), ("m:b", 8),
    ]  # fmt: skip
    assert sorted(fakes.planned) == sorted(one.name for one in entries)
    assert [row.entry for row in outcome.report.rows] == entries
    assert outcome.said == {"m:a": "hi", "m:b": "hi"}
    assert outcome.report.notes == ("Planning here instead.",)


def test_ops_are_timed_for_this_machine_alone(fakes):
    run_check([entry("a"), entry("b", device="host", ram_bytes=1 << 30)], options())
    assert sorted(task.measured for task in fakes.traced) == [False, True]


def test_a_model_without_a_graph_is_a_failed_row_each_and_others_go_on(fakes):
    fakes.refuse["m:bad"] = NoGraph(code="trace_crashed", message="It crashed.", hint="Look.")
    outcome = run_check(
        [entry("bad 1", step="m:bad"), entry("good"), entry("bad 2", step="m:bad", device="mkr1000")],
        options(),
    )  # fmt: skip
    verdicts = [(row.verdict, row.code) for row in outcome.report.rows]
    assert verdicts == [
        (Verdict.FAILED, "trace_crashed"), (Verdict.FITS, ""), (Verdict.FAILED, "trace_crashed"),
    ]  # fmt: skip
    assert outcome.report.exit_code() == 2
    assert fakes.planned == ["good"]


def test_few_graphs_are_planned_by_all_that_may_run_at_once(fakes, monkeypatch):
    sizes = []
    monkeypatch.setattr(
        running,
        "planned",
        lambda request, *_: sizes.append(len(request.entries)) or fakes.plan(request, *_),
    )
    run_check([entry(str(number)) for number in range(8)], options(jobs=4))
    assert sizes == [2, 2, 2, 2]


def test_what_is_unchanged_is_answered_from_the_cache(fakes, tmp_path):
    entries = [entry("a"), entry("b", device="jetson-tx2")]

    def check(**others):
        fakes.traced.clear()
        fakes.planned.clear()
        return run_check(entries, options(cache=Cache(tmp_path / "kept"), **others)).report

    assert [row.from_cache for row in check().rows] == [False, False]
    assert len(fakes.traced) == 1
    report = check()
    assert [row.from_cache for row in report.rows] == [True, True]
    assert (fakes.traced, fakes.planned) == ([], [])
    entries[1] = replace(entries[1], ram_bytes=100 << 10)
    assert [row.from_cache for row in check().rows] == [True, False]
    assert (fakes.traced, fakes.planned) == ([], ["b"])  # the graph is known
    assert [row.from_cache for row in check(refresh=True).rows] == [False, False]
    assert len(fakes.traced) == 1


def test_a_row_from_the_cache_has_the_words_of_today(fakes, tmp_path):
    run_check([entry("old")], options(cache=Cache(tmp_path / "kept")))
    (row,) = run_check([entry("new")], options(cache=Cache(tmp_path / "kept"))).report.rows
    assert (row.entry.name, row.from_cache) == ("new", True)


def test_undecided_is_never_kept(fakes, tmp_path, monkeypatch):
    undecided = Planned(rows=(row_of(entry(), Verdict.UNDECIDED),), said=())
    monkeypatch.setattr(running, "planned", lambda *_: undecided)
    for _ in range(2):
        (row,) = run_check([entry()], options(cache=Cache(tmp_path / "kept"))).report.rows
        assert not row.from_cache


def test_what_is_temporary_is_gone_and_children_are_told_after_ctrl_c(fakes, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    begun, cancelled = threading.Event(), threading.Event()

    def waits(request, work, cancel):
        if list(tmp_path.iterdir()):
            begun.set()
        if cancel.wait(120):
            cancelled.set()
        return Planned(rows=(), said=())

    monkeypatch.setattr(running, "planned", waits)

    def interrupt(text):
        if "planning" in text and begun.wait(120):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_check([entry()], options(), interrupt)
    assert cancelled.is_set()
    assert list(tmp_path.iterdir()) == []


def test_a_smaller_batch_that_fits_is_advised():
    rows = with_batch_advice(
        [
            row_of(entry("1", batch_size=1)),
            row_of(entry("8", batch_size=8)),
            row_of(entry("64", batch_size=64), Verdict.DOES_NOT_FIT),
            row_of(entry("64 on mkr", batch_size=64, device="mkr1000"), Verdict.DOES_NOT_FIT),
            row_of(entry("4", batch_size=4), Verdict.FAILED),
        ]
    )
    assert [row.advice for row in rows] == [(), (), ("batch_size = 8 fits.",), (), ()]


# -- the child that plans ------------------------------------------------------------------------


@pytest.fixture
def request_for(tmp_path):
    graph = tmp_path / "graph.json"
    graph.write_bytes(DOCUMENT)
    return lambda *entries: DecideRequest(
        graph_file=str(graph), graph_sha256=graph_sha256(GRAPH), entries=entries, server=None
    )


def test_a_child_plans_the_entries_of_a_graph(request_for, tmp_path):
    entries = (entry("roomy"), entry("tight", ram_bytes=64), entry("none", device="gone.toml"))
    found = planned(request_for(*entries), tmp_path, threading.Event())
    assert [row.entry for row in found.rows] == list(entries)
    verdicts = [row.verdict for row in found.rows]
    assert verdicts == [Verdict.FITS, Verdict.DOES_NOT_FIT, Verdict.FAILED]
    assert found.said == ()
    assert [path.name for path in tmp_path.iterdir()] == ["graph.json"]


def test_a_child_that_dies_costs_one_row(request_for, tmp_path):
    # Where the graph cannot be read a child ends before its first row.
    request = request_for(entry("first"), entry("second"))
    Path(request.graph_file).write_bytes(b"{")
    found = planned(request, tmp_path, threading.Event())
    assert [(row.verdict, row.internal) for row in found.rows] == [(Verdict.FAILED, True)] * 2


def test_a_planner_that_is_stopped_gives_no_more_rows(request_for, tmp_path):
    cancel = threading.Event()
    cancel.set()
    assert planned(request_for(entry()), tmp_path, cancel).rows == ()
