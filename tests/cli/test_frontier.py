"""poet frontier and poet least-ram: tables, pictures, stores, verdicts, and Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.frontier_report import progress_line
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.graph_document import graph_to_document
from poet_core.plan_document import read_plan
from poet_core.verify import verify
from poet_solvers.frontier_points import FrontierPoint, PointEnding
from tests.cli.conftest import plan_for, write
from tests.solvers.mlp_step import mlp_adam_step

QUICK = ("--device", "mkr1000", "--seconds", "0.5", "--jobs", "1")


def test_a_table_a_picture_and_a_store(poet, documents, graph):
    result = poet("frontier", "graph.json", *QUICK, "--points", "4", "--plot", "f.svg")
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[0].split() == ["RAM", "of", "all", "kept", "energy", "time", "gap", "found", "by"]
    assert "100.0%" in lines[1]
    assert "keep-everything" in lines[1]
    assert "floor: 12.0 KiB, set by op" in lines[-1]
    stored = (documents / "frontier.jsonl").read_text().splitlines()
    assert len(stored) >= 4
    assert all(json.loads(line)["schema"] == "poet.frontier/1" for line in stored)
    picture = ET.fromstring((documents / "f.svg").read_text())
    circles = [part for part in picture if part.tag.endswith("circle")]
    assert len(circles) == 2 * (len(lines) - 2 - ("*" in lines[-2]))


def test_json_and_plans_that_the_judge_takes(poet, documents, graph):
    result = poet("frontier", "graph.json", *QUICK, "--points", "4", "--plans", "plans", "--json")
    assert result.code == 0
    found = result.json
    assert found["ok"]
    points = found["points"]
    assert [one["ram_bytes"] for one in points][-1] == found["floor_bytes"] == 12288
    joules = [one["energy_joules"] for one in points if one["ending"] == "planned"]
    assert joules == sorted(joules)
    for one in points:
        assert one["bound"] <= one["energy_joules"]
        assert one["energy_overhead"] == pytest.approx(
            one["energy_joules"] / found["keep_everything_joules"] - 1
        )
        plan = read_plan((documents / "plans" / f"{one['ram_bytes']}.plan.json").read_bytes())
        assert verify(graph, plan).peak_bytes == one["peak_bytes"] <= one["ram_bytes"]


def test_processes_and_resuming(poet, documents):
    asked = ("--points", "3", "--moves", "2000", "--json")
    first = poet("frontier", "graph.json", "--device", "mkr1000", *asked, "--jobs", "2").json
    again = poet("frontier", "graph.json", *QUICK[:2], *asked, "--jobs", "1", "--resume").json
    assert [one["resumed"] for one in again["points"]] == [True] * 3
    same = ("ram_bytes", "energy_joules", "step_seconds", "peak_bytes")
    assert [[one[name] for name in same] for one in first["points"]] == [
        [one[name] for name in same] for one in again["points"]
    ]
    store = documents / "frontier.jsonl"
    store.write_bytes(store.read_bytes()[:-40])
    healed = poet("frontier", "graph.json", *QUICK[:2], *asked[:-1], "--jobs", "1", "--resume")
    assert healed.code == 0
    assert "warning: Line 3 of the store is skipped" in healed.err


def test_budgets_below_the_floor_are_proven_impossible(poet, documents):
    result = poet("frontier", "graph.json", *QUICK, "--ram", "8KiB", "--ram", "32KiB")
    assert result.code == 0
    assert "impossible, proven" in result.out
    alone = poet("frontier", "graph.json", *QUICK, "--ram", "8KiB", "--json")
    assert (alone.code, alone.json["ok"]) == (1, False)
    assert alone.json["points"][0]["code"] == "ram_below_floor"


@pytest.mark.alone
def test_no_plan_found_is_undecided(poet, tmp_path):
    """A chain whose floor no schedule meets that may neither page nor run twice."""
    storages = tuple(
        Storage(id=i, name=f"n{i}", size_bytes=1024, role=Role.ACTIVATION) for i in range(5)
    )
    reads = [(), (0,), (1,), (1, 2), (0, 3)]
    ops = tuple(
        Op(id=i, name=f"n{i}", kind="k", phase=Phase.FORWARD, reads=reads[i], writes=(i,), flops=9)
        for i in range(5)
    )
    write(tmp_path / "graph.json", graph_to_document(TrainingGraph(storages=storages, ops=ops)))
    # Every method comes to its end in a moment, but not in the same moment on every machine.
    alone = ("--device", "mkr1000", "--seconds", "30", "--jobs", "1")
    alone += ("--no-page", "--no-rematerialize", "--no-reorder", "--points", "2")
    result = poet("frontier", "graph.json", *alone)
    assert result.code == 0
    assert "no plan found (none_in_this_model)" in result.out
    floor = json.loads(poet("frontier", "graph.json", *alone, "--json").out)["floor_bytes"]
    assert poet("frontier", "graph.json", *alone, "--ram", f"{floor}B").code == 3


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("frontier", "--device", "mkr1000", "--ram", "1GiB"), "ram_above_device"),
        (("frontier", "--device", "mkr1000", "--ram", "12"), "size_invalid"),
        (("frontier", "--device", "mkr1000", "--points", "0"), "usage"),
        (("frontier", "--device", "mkr1000", "--jobs", "0"), "usage"),
        (("frontier", "--device", "mkr1000", "-o", "no/where.jsonl"), "file_unwritable"),
        (("frontier", "--device", "mkr1000", "-o", ".", "--resume"), "file_unreadable"),
        (("frontier",), "device_missing"),
        (("least-ram", "--device", "mkr1000"), "argument_missing"),
        (("least-ram", "--device", "mkr1000", "--overhead", "5"), "overhead_invalid"),
        (("least-ram", "--device", "mkr1000", "--overhead", "-5%"), "overhead_invalid"),
        (("least-ram", "--device", "mkr1000", "--overhead", "0.9x"), "overhead_invalid"),
        (("least-ram", "--overhead", "5%"), "device_missing"),
    ],
)
def test_every_wrong_usage_has_its_code(poet, documents, arguments, code):
    result = poet(arguments[0], "graph.json", *arguments[1:], "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


@pytest.mark.parametrize("command", ["frontier", "least-ram"])
def test_every_option_is_documented(poet, command):
    text = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z][a-z-]+", poet(command, "--help").out.split("Examples:")[0]))
    assert len(known) > 10
    assert [option for option in known - {"--output", "--help"} if option not in text] == []


def test_the_least_ram_at_a_cost(poet, documents, graph):
    result = poet("least-ram", "graph.json", *QUICK[:2], "--overhead", "0%", "--seconds", "2")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("least RAM found: ")
    assert "too little: " in result.out
    plan = read_plan((documents / "plan.json").read_bytes())
    free = verify(graph, plan).peak_bytes
    again = poet(
        "least-ram", "graph.json", *QUICK[:2], "--overhead", "1.5x", "--seconds", "2", "--json"
    )
    assert again.code == 0
    found = again.json
    assert found["floor_bytes"] <= found["ram_bytes"] <= free
    assert found["proven_above_bytes"] < found["ram_bytes"]
    assert found["overhead"] <= found["overhead_allowed"] == 0.5


@pytest.mark.alone
def test_a_device_with_too_little_ram_for_the_cost(poet, documents, graph):
    """Everything kept takes more than the board has, and nothing may cost anything."""
    wide = replace(
        graph, storages=tuple(replace(s, size_bytes=2 * s.size_bytes) for s in graph.storages)
    )
    write(documents / "wide.json", graph_to_document(wide))
    result = poet(
        "least-ram", "wide.json", *QUICK[:2], "--overhead", "0%", "--seconds", "1.5", "--json"
    )
    assert (result.code, result.json["ok"]) == (1, False)
    assert (
        result.json["ram_bytes"]
        > result.json["device_ram_bytes"]
        <= result.json["proven_above_bytes"]
    )


def started(folder, jobs):
    """A long `poet frontier` in a session of its own."""
    return subprocess.Popen(
        [
            sys.executable, "-m", "poet_cli.main", "frontier", "graph.json",
            "--device", "raspberry-pi-4b", "--points", "6", "--seconds", "100", "--jobs", jobs,
        ],
        cwd=folder, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def wait_for_a_point(folder):
    store, ends = folder / "frontier.jsonl", time.monotonic() + 60
    while not (store.exists() and store.read_bytes().count(b"\n")) and time.monotonic() < ends:
        time.sleep(0.1)
    time.sleep(0.5)  # well into the next points


def nobody_is_left(session, seconds):
    """Whether every process of a session has ended within so many seconds."""
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_what_is_finished(tmp_path, jobs):
    write(tmp_path / "graph.json", graph_to_document(mlp_adam_step()))
    process = started(tmp_path, jobs)
    wait_for_a_point(tmp_path)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to every process
    began = time.monotonic()
    out, err = process.communicate(timeout=30)
    assert time.monotonic() - began < 8
    assert process.returncode == 130, (out, err)
    assert "Stopping; what is finished is kept" in err
    assert "Traceback" not in out + err
    assert "keep-everything" in out
    assert "everything kept: " in out
    assert nobody_is_left(process.pid, seconds=5)


@pytest.mark.slow
def test_a_killed_command_takes_its_processes_with_it(tmp_path):
    write(tmp_path / "graph.json", graph_to_document(mlp_adam_step()))
    process = started(tmp_path, "2")
    wait_for_a_point(tmp_path)
    process.kill()
    process.communicate(timeout=30)
    assert nobody_is_left(process.pid, seconds=20)


def test_progress_says_how_far_it_is_and_what_was_found(graph):

    found = FrontierPoint(ram_bytes=32768, ending=PointEnding.PLANNED, plan=plan_for(graph))
    line = progress_line(2, 5, found)
    assert line.startswith("2 of 5 budgets; 32.0 KiB: best ")
    assert "J" in line
    impossible = FrontierPoint(ram_bytes=1024, ending=PointEnding.IMPOSSIBLE)
    assert progress_line(3, 5, impossible) == "3 of 5 budgets; 1.00 KiB: impossible, proven"
    assert progress_line(0, 5) == "0 of 5 budgets"
