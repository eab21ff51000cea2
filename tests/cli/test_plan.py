"""poet plan: the whole path with the real solver, and every way to ask wrongly."""

import contextlib
import json

import pytest

from poet_core.plan_document import read_plan
from poet_core.verify import verify
from poet_solvers.backends import available_backends
from tests.cli.conftest import write

TIGHT = ("--device", "mkr1000", "--ram", "16400B")


def test_a_plan_that_fits(poet, documents, graph):
    result = poet("plan", "graph.json", *TIGHT, "-o", "tight.json")
    assert (result.code, result.err) == (0, "")
    assert len(result.out.splitlines()) == 1
    for part in ("fits: peak", "time", "energy", "gap", "flash written a step"):
        assert part in result.out
    plan = read_plan((documents / "tight.json").read_bytes())
    assert verify(graph, plan).peak_bytes <= 16400
    assert poet("verify", "graph.json", "tight.json").code == 0


def test_a_plan_as_json_with_the_other_solver(poet, documents):
    result = poet("plan", "graph.json", *TIGHT, "--backend", "highs", "--json")
    assert result.code == 0
    assert result.json["ok"]
    assert result.json["peak_bytes"] <= 16400 < result.json["keep_everything_bytes"]
    assert "highs" in result.json["planner"]["solver"]


def test_the_model_that_the_solver_saw(poet, documents):
    assert poet("plan", "graph.json", *TIGHT, "--write-lp", "model.lp").code == 0
    text = (documents / "model.lp").read_text()
    assert "Minimize" in text
    assert "Subject To" in text


def test_where_everything_fits_there_is_no_model(poet, documents):
    result = poet("plan", "graph.json", "--device", "mkr1000", "--write-lp", "model.lp")
    assert (result.code, "no model was written" in result.err) == (0, True)
    assert not (documents / "model.lp").exists()


def test_a_model_too_large_to_be_written_leaves_the_plan(poet, documents, monkeypatch):
    monkeypatch.setattr("poet_solvers.portfolio.MAX_DECISIONS", 3)
    result = poet("plan", "graph.json", *TIGHT, "--write-lp", "model.lp")
    assert (result.code, "at most 3 are built" in result.err) == (0, True), result.err
    assert not (documents / "model.lp").exists()


def test_a_model_that_cannot_be_written(poet, documents):
    result = poet("plan", "graph.json", *TIGHT, "--write-lp", "no/folder/model.lp")
    assert result.code == 2, result.err


def test_a_time_limit_below_compute_is_proven_impossible(poet, documents):
    result = poet("plan", "graph.json", *TIGHT, "--time", "1s", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "time_below_base")


def test_a_terminal_sees_progress(poet, documents, monkeypatch):
    """The lines that the spinner shows, without a terminal."""
    from poet_cli.commands import plan as command

    shown = []

    @contextlib.contextmanager
    def watched(text, *, quiet):
        shown.append(text)
        yield shown.append

    monkeypatch.setattr(command, "working", watched)
    assert poet("plan", "graph.json", *TIGHT).code == 0
    assert shown[0] == "Planning"
    assert any("best" in line for line in shown)


def test_without_paging(poet, documents):
    result = poet(
        "plan", "graph.json", "--device", "mkr1000", "--ram", "20KiB", "--no-page", "--json"
    )
    assert result.code == 0
    assert result.json["transfers"] == 0
    assert result.json["recomputed_ops"] > 0


def test_all_of_the_devices_ram_is_the_default_budget(poet, documents):
    assert poet("plan", "graph.json", "--device", "mkr1000", "--json").json["ram_bytes"] == 32768


def test_an_own_device(poet, documents):
    from poet_service.openapi import EXAMPLES

    write(documents / "board.json", EXAMPLES["own_profile"]["value"]["device"])
    result = poet("plan", "graph.json", "--device-file", "board.json", "--ram", "32KiB", "--json")
    assert result.code == 0
    assert json.loads((documents / "plan.json").read_text())["problem"]["device"] == "my-board"


def test_below_the_floor_is_proven_not_to_fit(poet, documents):
    result = poet("plan", "graph.json", "--device", "mkr1000", "--ram", "1KiB", "--json")
    assert result.code == 1
    error = result.json["error"]
    assert (error["code"], error["floor_bytes"]) == ("ram_below_floor", 12288)
    plain = poet("plan", "graph.json", "--device", "mkr1000", "--ram", "1KiB")
    assert (plain.code, plain.out) == (1, "")
    assert plain.err.startswith("error: ")
    assert "[ram_below_floor]" in plain.err
    assert "hint: Give at least 12288 bytes" in plain.err


def test_no_plan_is_written_where_none_was_found(poet, documents):
    before = (documents / "plan.json").read_bytes()
    assert poet("plan", "graph.json", "--device", "mkr1000", "--ram", "1KiB").code == 1
    assert (documents / "plan.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("--device", "mkr1000", "--ram", "512"), "size_invalid"),
        (("--device", "mkr1000", "--ram", "lots"), "size_invalid"),
        (("--device", "mkr1000", "--ram", "-1KiB"), "size_invalid"),
        (("--device", "mkr1000", "--ram", "1GiB"), "ram_above_device"),
        (("--device", "mkr1000", "--time", "0.5x"), "ratio_invalid"),
        (("--device", "mkr1000", "--time", "soon"), "limit_invalid"),
        (("--device", "mkr1000", "--time", "1e999"), "limit_invalid"),
        (("--device", "mkr1000", "--energy", "nanJ"), "limit_invalid"),
        (("--device", "mkr100"), "unknown_device"),
        (("--device", "../mkr1000"), "unknown_device"),
        ((), "device_missing"),
        (("--device", "mkr1000", "--device-file", "x.toml"), "device_twice"),
        (("--device-file", "nowhere.toml"), "file_unreadable"),
        (("--device-file", "graph.json"), "unknown_field"),
        (("--device", "host"), "ram_missing"),
        (("--device", "mkr1000", "--server", "nowhere"), "server_invalid"),
        (("--device", "mkr1000", "--backend", "excel"), "usage"),
        (("--device", "mkr1000", "--seconds", "0"), "usage"),
        (("--device", "mkr1000", "--nonsense"), "option_unknown"),
    ],
)
def test_wrong_usage(poet, documents, arguments, code):
    result = poet("plan", "graph.json", *arguments, "--json")
    assert result.code == 2
    assert not result.json["ok"]
    assert result.json["error"]["code"] == code
    assert result.json["error"]["hint"]
    plain = poet("plan", "graph.json", *arguments)
    assert plain.code == 2
    assert f"[{code}]" in plain.err


def test_a_size_without_a_unit_is_refused_with_a_fix(poet, documents):
    result = poet("plan", "graph.json", "--device", "mkr1000", "--ram", "512")
    assert "Write 512MiB or 512B" in result.err


def test_a_folder_that_cannot_be_written(poet, documents):
    result = poet("plan", "graph.json", "--device", "mkr1000", "-o", "no/such/folder/plan.json")
    assert (result.code, "file_unwritable" in result.err) == (2, True)


def test_a_solver_that_is_not_here_is_named_with_those_that_are(poet, documents):
    if "gurobi" in available_backends():
        pytest.skip("Gurobi is installed and licensed here")
    result = poet("plan", "graph.json", *TIGHT, "--backend", "gurobi", "--json")
    assert result.code != 0
    assert result.json["error"]["code"] == "solver_missing"
    assert "cbc" in result.json["error"]["hint"]
