"""The checking job from its inputs to what it leaves for GitHub and for the comment's job."""

import json
import os
import re
import sys

import pytest

from action import comment, run
from poet_cli.check.formats.document import read_report
from tests.check.action_parts import job
from tests.check.github_stub import GitHubStub, archive

NETS = """
import torch

def step():
    model = torch.nn.Linear(16, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, torch.nn.functional.mse_loss, optimizer, (torch.zeros(8, 16), torch.zeros(8, 4))
"""
CONFIG = """
[[entry]]
step = "nets:step"
device = "nrf52840"

[[entry]]
name = "too tight"
step = "nets:step"
device = "mkr1000"
ram = "300B"
"""


@pytest.fixture
def action(tmp_path, capfd, monkeypatch):
    """Runs the Action's script in a fake job; its outputs, its summary and its log."""
    workspace, temporary = tmp_path / "workspace", tmp_path / "temporary"
    folder = workspace / "models, etc"
    folder.mkdir(parents=True)
    temporary.mkdir()
    (folder / "nets.py").write_text(NETS)
    (folder / "poet-check.toml").write_text(CONFIG)

    def once(**inputs):
        told, summary = tmp_path / "output.txt", tmp_path / "summary.md"
        told.write_text("")
        summary.write_text("")
        runner = {
            "GITHUB_WORKSPACE": str(workspace),
            "GITHUB_OUTPUT": str(told),
            "GITHUB_STEP_SUMMARY": str(summary),
            "RUNNER_TEMP": str(temporary),
            "POET_CACHE_DIR": str(tmp_path / "cache"),
            "POET_FOLDER": "models, etc",
        }
        assert run.main({**os.environ, **runner, **inputs}) == 0
        outputs = dict(line.split("=", 1) for line in told.read_text().splitlines())
        return outputs, summary.read_text(), capfd.readouterr().out

    once.folder = folder
    return once


def commands(log):
    """The lines that the runner takes as orders."""
    stopped = re.search(r"^::stop-commands::(\w+)\n.*?^::\1::\n", log, re.DOTALL | re.MULTILINE)
    assert stopped
    return [line for line in log.replace(stopped[0], "").splitlines() if line.startswith("::")]


def test_a_check_and_its_comment_from_end_to_end(action, tmp_path, capfd):
    outputs, summary, log = action()
    assert outputs["exit-code"] == "1"
    report = tmp_path.joinpath(outputs["report"])
    [tight, fits] = sorted(read_report(report.read_bytes()).rows, key=lambda row: row.verdict)
    assert (tight.verdict, fits.verdict) == ("does not fit", "fits")
    assert json.loads(tmp_path.joinpath(outputs["sarif"]).read_text())["version"] == "2.1.0"
    assert "too tight" in summary
    assert "too tight" in log
    told, summed = commands(log)
    assert summed.startswith("::notice title=poet check::1 of 2 fit")
    assert told.startswith("::error ")
    assert "file=models%2C etc/poet-check.toml,line=6" in told

    stub = GitHubStub(artifact=archive(report.read_bytes()))
    server = stub.serve()
    try:
        assert comment.main(job(tmp_path, stub)) == 0
    finally:
        server.shutdown()
        server.server_close()
    assert capfd.readouterr().out == "Made the comment of pull request 7.\n"
    assert "too tight" in stub.comments[0]["body"]


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ('[[entry]]\nstep = "nets:step"\ndevice = "mkr100"', "mkr1000"),
        ('[[entry]]\nstep = "nets:step"\ndevice = "mkr1000"\nram = 512', "a unit is required"),
        ('"::set-output name=exit-code::0" = 1', "There is no key"),
        ("[[entry", "Expected TOML"),
    ],
)
def test_a_configuration_that_makes_no_sense(action, config, said):
    action.folder.joinpath("poet-check.toml").write_text(config)
    outputs, summary, log = action()
    assert outputs == {"exit-code": "2", "report": "", "sarif": ""}
    assert "without a report" in summary
    [told] = commands(log)
    assert told.startswith("::error title=poet check::poet check ended with exit code 2.")
    assert said in told
    assert "poet-check.toml" in told


def test_inputs_are_arguments_and_no_script(action, tmp_path):
    outputs, _, log = action(POET_ARGS="--only '$(touch gone) ; `touch gone`'", POET_CONFIG="")
    assert outputs["exit-code"] == "2"
    assert "No row is like" in log
    assert not list(tmp_path.rglob("gone"))


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"POET_ARGS": "--only 'open"}, "Close every quote"),
        ({"POET_ARGS": "--nonsense"}, "nonsense"),
        ({"POET_FOLDER": "elsewhere"}, "working-directory"),
        ({"POET_CONFIG": "missing.toml"}, "missing.toml"),
        ({"POET_BASELINE": "no-such-file.json"}, "no-such-file.json"),
    ],
)
def test_inputs_that_make_no_sense(action, inputs, said):
    outputs, _, log = action(**inputs)
    assert outputs["exit-code"] == "2"
    assert outputs.get("report", "") == ""
    last = [line for line in log.splitlines() if line.startswith("::error")][-1]
    assert said in last


def test_poet_that_is_not_installed_is_named():
    said = f"{sys.executable}: No module named poet_cli.main\n"
    assert "pip install 'poet-planner[train]'" in run._reason(1, said)


def test_nothing_of_a_log_is_an_order(action):
    """The configuration's texts stand between the lines that stop the runner's commands."""
    action.folder.joinpath("poet-check.toml").write_text(
        '[[entry]]\nname = "::error::forged"\nstep = "nothing:step"\ndevice = "mkr1000"\n'
    )
    outputs, _, log = action()
    assert outputs["exit-code"] == "2"
    assert not [line for line in commands(log) if line.startswith("::error::")]


def test_a_summary_that_is_too_long_is_left_out(tmp_path, capsys):
    for name in run._FILES.values():
        (tmp_path / name).write_text("x" * run.LARGEST_SUMMARY_BYTES + "\n")
    told = {name: str(tmp_path / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    run._show(told, tmp_path, 0, "")
    summary = (tmp_path / "GITHUB_STEP_SUMMARY").read_text()
    assert summary == (
        "**poet check**: the report is too long for a summary; it is in the artifact.\n"
    )
    assert f"report={tmp_path / 'report.json'}\n" in (tmp_path / "GITHUB_OUTPUT").read_text()


def test_files_of_annotations_are_seen_from_the_root():
    lines = "::error file=a.toml,line=3,title=x file=b.toml::file=c.toml\n::notice title=y::z\n"
    assert run._from_root(lines, ".") == lines
    assert run._from_root(lines, "") == lines
    assert run._from_root(lines, "./sub/").startswith("::error file=sub/a.toml,line=3,")
    assert run._from_root(lines, "sub").count("sub/") == 1
    absolute = "::error file=/elsewhere/a.toml,line=3::x\n"
    assert run._from_root(absolute, "sub") == absolute
