"""poet doctor: every line has a state; what is lacking says what it costs and how to mend it."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

import pytest

from poet_cli.doctor import installed, machine
from poet_cli.doctor.findings import State, looked_at
from poet_core.errors import ReplayError, UsageError
from poet_solvers.backends import trial
from poet_solvers.backends.result import SolveStatus
from poet_solvers.backends.trial import Trial, try_backend

ROOT = Path(__file__).resolve().parents[2]


def by_name(findings):
    return {item.name: item for item in findings}


def all_solve(name, **_):
    return Trial(name=f"{name} 1.0", installed=True, wrong="")


@pytest.fixture
def quick(monkeypatch):
    """Solvers that answer at once, and no GPU's driver to wait for."""
    monkeypatch.setattr(trial, "try_backend", all_solve)
    monkeypatch.setattr(machine, "_gpus", list)


def test_every_line_has_a_state_and_what_is_lacking_a_cost(poet, quick):
    answer = poet("doctor", "--json")
    assert answer.code == 0
    findings = {item["name"]: item for item in answer.json["findings"]}
    assert {"Python", "local search", "CBC", "HiGHS", "PyTorch", "memory groups", "GPU"} <= set(
        findings
    )
    for item in findings.values():
        assert item["state"] in set(State), item
        assert item["state"] == "ok" or item["costs"], item
    assert findings["free for paging"]["free_bytes"] > 0


def test_the_text_names_the_same_things_without_escapes(poet, quick):
    names = [item["name"] for item in poet("doctor", "--json").json["findings"]]
    text = poet("doctor").out
    assert [name for name in names if name not in text] == []
    assert "Plans can be made here." in text
    assert "\x1b" not in text
    assert max(map(len, text.splitlines())) <= 100


def test_colour_is_for_those_who_ask_for_it(tmp_path, quick, poet, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[32mok" in poet("doctor").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in poet("doctor").out


def test_without_a_solver_nothing_can_be_planned(poet, quick, monkeypatch):
    monkeypatch.setattr(
        trial, "try_backend", lambda name, **_: Trial(name=name, installed=False, wrong="not here")
    )
    result = poet("doctor")
    assert result.code == 4
    assert "Nothing can be planned here" in result.out
    assert result.out.count("broken") >= 2
    answer = poet("doctor", "--json")
    assert (answer.code, answer.json["ok"]) == (4, False)


def test_one_solver_is_enough(monkeypatch):
    def only_highs(name, **_):
        return Trial(name=name, installed=name == "highs", wrong="" if name == "highs" else "no")

    monkeypatch.setattr(trial, "try_backend", only_highs)
    states = {name: item.state for name, item in by_name(installed.solvers()).items()}
    assert states == {"CBC": State.MISSING, "HiGHS": State.OK, "Gurobi": State.MISSING}


@pytest.mark.parametrize("backend", ["cbc", "highs"])
def test_a_solver_is_tried_for_real(backend):
    found = try_backend(backend)
    assert (found.installed, found.wrong) == (True, "")
    assert found.name.startswith(f"{backend} ")


def test_a_solver_that_answers_wrongly_is_no_solver(monkeypatch):
    real = trial.solve_model

    def wrong(model, **others):
        answer = real(model, **others)
        return SimpleNamespace(status=answer.status, objective=6.0, message="", seconds=0.0)

    monkeypatch.setattr(trial, "solve_model", wrong)
    assert try_backend("highs").wrong == "It says 6.0 where 7.0 is right."


def test_a_solver_whose_time_is_up_is_told(monkeypatch):
    late = SimpleNamespace(
        status=SolveStatus.NOT_FOUND, objective=None, message="time \x1b[2J", seconds=10.0
    )
    monkeypatch.setattr(trial, "solve_model", lambda *_, **__: late)
    found = try_backend("highs")
    assert found.wrong.startswith(SolveStatus.NOT_FOUND.sentence)
    assert "\x1b" not in found.wrong


def test_native_parts_that_are_not_there(monkeypatch):
    monkeypatch.setattr("poet_solvers.search.native_missing", lambda: "no compiler")
    monkeypatch.setattr("poet_runtime.memory.arena.why_no_arena", lambda: "no C compiler")
    monkeypatch.setattr(installed.shutil, "which", lambda _: None)
    found = by_name(installed.native_parts())
    assert {item.state for item in found.values()} == {State.MISSING}
    assert all(item.costs and item.fix for item in found.values())


@pytest.mark.parametrize(
    ("number", "state"),
    [("2.13.1+cpu", State.OK), ("2.12.0", State.WARNING), ("2.130.0", State.WARNING),
     (None, State.MISSING)],
)  # fmt: skip
def test_the_version_of_torch(monkeypatch, number, state):
    monkeypatch.setattr(installed, "version_of", lambda _: number)
    (found,) = installed.torch(deep=False)
    assert found.state is state
    assert state is State.OK or "pip install 'poet-planner[train]'" in found.fix


def test_torch_is_imported_by_a_child_if_asked(monkeypatch):
    asked = []

    def answer(command, **_):
        asked.append(command)
        return SimpleNamespace(stdout='warning\n{"threads": 3, "device": ""}\n', stderr="")

    monkeypatch.setattr(installed.subprocess, "run", answer)
    deep = by_name(installed.torch(deep=True))["import torch"]
    assert (deep.state, deep.found) == (State.OK, "3 threads, no CUDA")
    assert asked[0][0] == sys.executable


@pytest.mark.parametrize(
    "answer",
    [
        SimpleNamespace(stdout="", stderr="x\nImportError: \x1b[31mbad"),
        subprocess.TimeoutExpired("", 1),
    ],
)
def test_a_torch_that_cannot_be_imported(monkeypatch, answer):
    def run(*_, **__):
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(installed.subprocess, "run", run)
    deep = by_name(installed.torch(deep=True))["import torch"]
    assert deep.state is State.WARNING
    assert "\x1b" not in deep.found


def test_pins_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert any(
        item.startswith(f"torch>={installed.TORCH_SERIES},")
        for item in project["optional-dependencies"]["train"]
    )
    first, last = re.findall(r"3\.(\d+)", project["requires-python"])
    assert ((3, int(first)), (3, int(last))) == (installed.OLDEST_PYTHON, installed.TOO_NEW_PYTHON)


def test_no_memory_groups_and_no_paging_folder(monkeypatch):
    def refuse(*_, **__):
        raise ReplayError("no controller is mounted", code="no_cgroup")

    monkeypatch.setattr("poet_runtime.memory.cgroup.memory_cgroup", refuse)
    (groups,) = machine.memory_groups()
    assert groups.state is State.MISSING
    assert "systemd-run" in groups.fix

    def on_ram(*_, **__):
        raise UsageError("/tmp is on tmpfs", code="paging_on_ram")

    monkeypatch.setattr("poet_runtime.flash.paging_directory.choose_paging_directory", on_ram)
    (paging,) = machine.paging_place()
    assert paging.state is State.WARNING
    assert "tmpfs" in paging.found


def test_a_folder_without_direct_io(monkeypatch, tmp_path):
    monkeypatch.setattr(
        "poet_runtime.flash.paging_directory.choose_paging_directory", lambda: tmp_path
    )
    monkeypatch.setattr(machine, "_takes_direct", lambda _: False)
    paging, space = machine.paging_place()
    assert (paging.state, space.name) == (State.WARNING, "free for paging")
    assert list(tmp_path.iterdir()) == []


def test_folders_that_may_not_be_written(monkeypatch, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("a file where the folder should be")
    monkeypatch.setenv("POET_CACHE_DIR", str(taken))
    monkeypatch.setenv("POET_SERVICE_STATE_DIR", str(tmp_path / "new" / "one"))
    monkeypatch.setenv("POET_DATA", str(tmp_path / "nothing"))
    found = by_name(machine.folders())
    assert found["cache folder"].state is State.WARNING
    assert "POET_CACHE_DIR" in found["cache folder"].fix
    assert found["state folder"].state is State.OK
    assert found["data sets"].state is State.MISSING
    assert list(tmp_path.iterdir()) == [taken]


def test_a_gpu_that_torch_is_not_built_for(monkeypatch):
    monkeypatch.setattr(machine, "_gpus", lambda: ["NVIDIA \x1b[31mH200"])
    monkeypatch.setattr(machine, "version_of", lambda _: "2.13.0+cpu")
    (found,) = machine.gpu()
    assert found.state is State.WARNING
    assert "\x1b" not in found.found
    monkeypatch.setattr(machine, "version_of", lambda _: "2.13.0")
    (found,) = machine.gpu()
    assert found.state is State.OK


def test_a_check_that_fails_is_a_line_and_the_others_go_on(poet, quick, monkeypatch):
    def broken():
        raise ZeroDivisionError("\x1b[31m")

    assert looked_at("this", broken)[0].state is State.WARNING
    monkeypatch.setattr(machine, "gpu", broken)
    result = poet("doctor")
    assert result.code == 0
    assert "could not be looked at" in result.out
    assert "\x1b" not in result.out


def test_extras_that_are_not_there(monkeypatch):
    monkeypatch.setattr(installed.importlib.util, "find_spec", lambda _: None)
    for item in installed.extras():
        assert item.state is State.MISSING
        assert item.fix.startswith("pip install ")


def test_the_real_command_without_importing_torch(tmp_path):
    code = (
        "import sys\n"
        "from poet_cli.main import run\n"
        "assert run(['doctor']) == 0\n"
        "sys.exit('torch' in sys.modules)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "solved a trial" in ended.stdout
