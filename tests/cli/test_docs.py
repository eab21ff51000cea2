"""docs/cli.md and docs/service.md are true: commands run, options, limits and codes exist."""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from poet_cli.command_table import SENTENCES
from poet_core.plan_request import FLASH_WRITES_OF_PEAK
from poet_service.problems import STATUS_OF_CODE
from poet_service.settings import Settings

DOCS = Path(__file__).resolve().parents[2] / "docs"
CLI, SERVICE = ((DOCS / name).read_text(encoding="utf-8") for name in ("cli.md", "service.md"))


def commands():
    return [
        line.removeprefix("$ poet ")
        for block in re.findall(r"```console\n(.*?)```", CLI, re.DOTALL)
        for line in block.splitlines()
    ]


def test_every_documented_command_works_in_its_order(poet, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(DOCS.parent), *sys.path])
    lines = commands()
    assert len(lines) >= 9
    for line in lines:
        result = poet(*shlex.split(line))
        assert result.code == 0, (line, result.out, result.err)
        if "--json" in line:
            assert json.loads(result.out)
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "mlp.lp").exists()


@pytest.mark.parametrize("command", ["trace", "plan", "train", "serve"])
def test_documented_options_exist(poet, command):
    known = poet(command, "--help").out
    section = {
        "trace": "--measure-seconds --threads",
        "plan": " ".join(re.findall(r"^\| (`--.*?) \|", CLI, re.MULTILINE)),
        "train": "--plan --device --ram --threads --steps",
        "serve": "--port --state-dir --show-settings --allow-host --insecure-allow-remote",
    }[command]
    options = set(re.findall(r"--[a-z][a-z-]+", section))
    assert len(options) >= 2
    assert all(option in CLI + SERVICE for option in options)
    assert [option for option in options if option not in known] == []


def test_every_command_is_documented():
    assert [name for name in SENTENCES if f"poet {name}" not in CLI] == []


def test_every_option_of_max_batch_and_doctor_is_documented(poet):
    for command in ("max-batch", "doctor"):
        known = set(
            re.findall(r"--[a-z][a-z-]+", poet(command, "--help").out.split("Examples:")[0])
        )
        assert [option for option in known - {"--help"} if option not in CLI] == []


def test_every_plan_option_is_documented(poet):
    known = set(re.findall(r"--[a-z][a-z-]+", poet("plan", "--help").out.split("Examples:")[0]))
    assert [option for option in known - {"--output", "--help"} if option not in CLI] == []


def test_the_figures_of_the_service_are_those_documented():
    settings = Settings()
    assert f"at most {settings.most_wait_seconds:.0f} seconds, more is taken" in SERVICE
    assert f"every {settings.stream_heartbeat_seconds:.0f} seconds says" in SERVICE
    assert f"takes nothing for {settings.stream_send_seconds:.0f} seconds" in SERVICE
    assert f"at most {FLASH_WRITES_OF_PEAK} times keep-everything's peak" in SERVICE


def test_every_status_of_the_table_is_documented():
    for code, status in STATUS_OF_CODE.items():
        row = next(line for line in SERVICE.splitlines() if line.startswith(f"| {status} |"))
        assert f"`{code}`" in row
