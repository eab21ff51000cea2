"""poet max-batch: the real command on a real model, and every ending with graphs made here."""

import json
import threading

import pytest

import poet_cli.max_batch
from poet_cli.check.report import Verdict
from poet_cli.check.tracing import Graph, NoGraph
from poet_core.graph_document import graph_sha256, graph_to_document
from poet_core.units import format_bytes
from tests.cli.test_steps import GOOD
from tests.solvers.mlp_step import mlp_adam_step

SIZED = GOOD.replace("def step()", "def step(batch_size=128)").replace("128, 64", "batch_size, 64")
SIZED = SIZED.replace("(128,)", "(batch_size,)")


@pytest.fixture
def graphs(monkeypatch):
    """Steps of a small perceptron for any batch, instead of a child that traces; what was asked."""
    asked = []

    def traced(task, folder, work, limits, cancel):
        asked.append(task.batch_size)
        graph = mlp_adam_step((16, 32, 4), batch=task.batch_size)
        document = json.dumps(graph_to_document(graph)).encode()
        return Graph(document=document, sha256=graph_sha256(graph), footprint=None)

    monkeypatch.setattr(poet_cli.max_batch, "traced", traced)
    return asked


def failing(monkeypatch, fails):
    """`fails(size)` says with which code tracing fails, or None."""
    whole = poet_cli.max_batch.traced

    def traced(task, *others):
        code = fails(task.batch_size)
        if code is None:
            return whole(task, *others)
        return NoGraph(code=code, message=f"not {task.batch_size} \x1b[31m", hint="Do this.")

    monkeypatch.setattr(poet_cli.max_batch, "traced", traced)


def test_a_real_step_through_the_real_command(poet, tmp_path):
    (tmp_path / "sized.py").write_text(SIZED)
    result = poet(
        "max-batch", "sized:step", "--device", "raspberry-pi-4b", "--ram", "1MiB", "--limit", "2",
        "--json",
    )  # fmt: skip
    assert result.code == 0, result.out
    answer = result.json
    assert (answer["largest_known_to_fit"], answer["smallest_proven_too_large"]) == (2, None)
    assert [item["batch_size"] for item in answer["tries"]] == [1, 2]
    assert all(item["peak_bytes"] <= 1 << 20 for item in answer["tries"])


def test_a_factory_without_the_argument_is_told_what_to_write(poet, tmp_path):
    (tmp_path / "unsized.py").write_text(GOOD)
    result = poet("max-batch", "unsized:step", "--device", "raspberry-pi-4b", "--ram", "1MiB")
    assert result.code == 2
    assert "[step_batch_size]" in result.err
    assert "def step(batch_size=8):" in result.err


def test_the_largest_that_fits_and_the_smallest_proven_not_to(poet, graphs):
    result = poet(
        "max-batch", "x:step", "--device", "mkr1000", "--ram", "32KiB", "--seconds", "1", "--json"
    )
    assert result.code == 0, result.out
    answer = result.json
    fits, too_large = answer["largest_known_to_fit"], answer["smallest_proven_too_large"]
    tries = {item["batch_size"]: item for item in answer["tries"]}
    assert tries[fits]["peak_bytes"] <= answer["ram_bytes"] < tries[too_large]["floor_bytes"]
    assert answer["undecided_between"] == too_large - fits - 1
    assert len(graphs) == len(set(graphs)) <= 16


def test_the_lines_say_the_bytes_and_the_assumption(poet, graphs):
    result = poet("max-batch", "x:step", "--device", "mkr1000", "--ram", "32KiB", "--seconds", "1")
    assert result.code == 0
    assert "within 32.0 KiB (32768 bytes)" in result.out
    assert "largest batch known to fit mkr1000" in result.out
    assert "smallest proven not to: " in result.out
    assert "Assumed: a larger batch needs no less" in result.out


def test_less_than_the_first_needs_is_proven(poet, graphs):
    result = poet("max-batch", "x:step", "--device", "mkr1000", "--ram", "100B", "--json")
    assert (result.code, result.json["ok"]) == (1, False)
    assert (result.json["largest_known_to_fit"], result.json["smallest_proven_too_large"]) == (
        None,
        1,
    )


def test_more_than_was_tried(poet, graphs):
    result = poet("max-batch", "x:step", "--device", "raspberry-pi-4b", "--limit", "4")
    assert result.code == 0
    assert "--limit 8 tries more" in result.out


def test_undecided_is_never_too_large(poet, graphs, monkeypatch):
    def undecided(case, planner):
        return case.row(Verdict.UNDECIDED, "No time \x1b[31m.", code="not_found_in_time"), None

    monkeypatch.setattr(poet_cli.max_batch, "decide", undecided)
    result = poet("max-batch", "x:step", "--device", "mkr1000", "--limit", "4", "--seconds", "2")
    assert result.code == 3
    assert "does not fit" not in result.out
    assert "smallest proven" not in result.out
    assert "--seconds 6" in result.out
    assert "\x1b" not in result.out


def test_a_size_that_cannot_be_traced_is_undecided(poet, graphs, monkeypatch):
    failing(monkeypatch, lambda size: "step_failed" if size == 1 else None)
    result = poet("max-batch", "x:step", "--device", "raspberry-pi-4b", "--limit", "4", "--json")
    assert (result.code, result.json["largest_known_to_fit"]) == (0, 4)
    assert result.json["tries"][0]["verdict"] == "failed"


@pytest.mark.parametrize(("code", "exit_code"), [("step_failed", 2), ("trace_timed_out", 2)])
def test_a_step_that_works_for_no_size(poet, graphs, monkeypatch, code, exit_code):
    failing(monkeypatch, lambda _: code)
    result = poet("max-batch", "x:step", "--device", "mkr1000")
    assert result.code == exit_code
    assert f"[{code}]" in result.err
    assert "\x1b" not in result.err


def test_a_limit_that_keep_everything_alone_can_meet(poet, graphs):
    """Of every batch, everything kept takes 1x: the largest is then where that fits."""
    free = poet("max-batch", "x:step", "--device", "mkr1000", "--ram", "32KiB", "--seconds", "1",
                "--json").json  # fmt: skip
    bound = poet("max-batch", "x:step", "--device", "mkr1000", "--ram", "32KiB", "--seconds", "1",
                 "--max-energy", "1x", "--json").json  # fmt: skip
    assert 0 < bound["largest_known_to_fit"] <= free["largest_known_to_fit"]


def test_being_stopped_shows_what_is_known(graphs, tmp_path):
    from poet_cli.max_batch import BatchQuery, find_largest
    from poet_cli.max_batch_report import sentences
    from poet_core.devices import load_device

    query = BatchQuery(
        step="x:step", device=load_device("mkr1000"), ram_bytes=32768, max_time=None,
        max_energy=None, page=True, rematerialize=True, planner_seconds=1.0, trace_seconds=9.0,
        most=64, folder=tmp_path,
    )  # fmt: skip
    cancel = threading.Event()

    def tell(text, answer):
        if len(answer.rows) == 2:
            cancel.set()

    answer = find_largest(query, tmp_path, cancel, tell)
    assert answer.cancelled
    assert list(answer.rows) == [1, 2]
    assert format_bytes(32768) in sentences(answer)[0]


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        (("--device", "mkr100"), "unknown_device"),
        (("--device", "mkr1000", "--ram", "32"), "size_invalid"),
        (("--device", "mkr1000", "--max-time", "1.2"), None),
        (("--device", "host"), "ram_missing"),
        ((), "device_missing"),
        (("--device", "mkr1000", "--max-energy", "fast"), "limit_invalid"),
    ],
)
def test_wrong_usage(poet, graphs, wrong, code):
    result = poet("max-batch", "x:step", "--limit", "1", *wrong, "--json")
    if code is None:  # 1.2 are seconds
        assert result.code == 0
    else:
        assert (result.code, result.json["error"]["code"]) == (2, code)
