"""docs/check.md is true: its commands run, its configurations are read, its names exist."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from poet_cli.check.report import Report
from poet_cli.check.settings import load_settings
from poet_core.errors import UsageError

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "check.md").read_text(encoding="utf-8")


def snippets(language):
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def named(language):
    """Snippets whose first line is a comment with their file's name."""
    return {text.split()[1]: text for text in snippets(language) if text.startswith("# ")}


@pytest.fixture
def nets(tmp_path, monkeypatch):
    """The page's own folder."""
    (tmp_path / "nets.py").write_text(named("python")["nets.py"])
    monkeypatch.setenv("POET_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def poet(*arguments):
    return subprocess.run(
        [sys.executable, "-P", "-m", "poet_cli.main", *arguments],
        capture_output=True,
        text=True,
        timeout=500,
        check=False,
    )


@pytest.mark.timeout(1200)  # a dozen processes, on a machine that may be busy
def test_every_documented_command_works_in_its_order(nets):
    lines = [
        line.removeprefix("$ poet ") for text in snippets("console") for line in text.splitlines()
    ]
    assert len(lines) >= 7
    for line in lines:
        done = poet(*shlex.split(line))
        assert done.returncode == 0, (line, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    written = load_settings(nets)
    assert len(written.entries) == 2
    assert (nets / "check.sarif").exists()


def test_every_documented_configuration_is_read(nets):
    found = {}
    for name, text in named("toml").items():
        path = nets / name
        path.write_text(text)
        found[name] = load_settings(nets, path).entries
    assert set(found) == {"poet-check.toml", "pyproject.toml"}
    assert len(snippets("toml")) == 2
    assert len(found["poet-check.toml"]) == 5
    assert "the first entry above is four rows" in PAGE
    assert {entry.planner_seconds for entry in found["poet-check.toml"]} == {5.0}


def test_every_key_is_documented(nets):
    (nets / "poet-check.toml").write_text("no_such_key = 1\n")
    with pytest.raises(UsageError) as of_file:
        load_settings(nets)
    (nets / "poet-check.toml").write_text("[[entry]]\nno_such_key = 1\n")
    with pytest.raises(UsageError) as of_entry:
        load_settings(nets)
    known = set()
    for caught in (of_file, of_entry):
        known |= set(re.search(r"Known: (.*)\.$", caught.value.hint)[1].split(", "))
    known -= {"entry"}
    assert {"step", "trace_memory", "max_time"} <= known
    table = "".join(line for line in PAGE.splitlines() if line.startswith("| `"))
    for key in known:
        assert f"`{key}`" in table or f"`{key} = [...]`" in table or f"`{key}`, the " in PAGE, key


def test_every_option_is_documented_and_every_documented_one_exists():
    known = set(re.findall(r"--[a-z][a-z-]+", poet("check", "--help").stdout.split("Examples:")[0]))
    commands = "".join(snippets("console")) + "".join(
        re.findall(r"`(?:poet check )?--[^`]*`", PAGE)
    )
    said = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", commands))
    assert said <= known
    assert known - set(re.findall(r"--[a-z][a-z-]+", PAGE)) <= {
        "--help", "--token", "--insecure-token",  # as of every command, in cli.md
    }  # fmt: skip


def test_documented_codes_are_in_the_code():
    table = PAGE.partition("## Messages")[2]
    codes = re.findall(
        r"`([a-z]+(?:_[a-z]+)+)`", "\n".join(re.findall(r"^\| (.*?) \|", table, re.M))
    )
    assert len(codes) >= 14
    source = "".join(
        path.read_text(encoding="utf-8")
        for room in ("poet_cli", "poet_core", "poet_runtime")
        for path in (ROOT / room).rglob("*.py")
    )
    assert [code for code in codes if f'"{code}"' not in source] == []


def test_exit_codes_are_those_of_a_report():
    rows = re.findall(r"^\| (\d) \| ", PAGE, re.MULTILINE)
    assert rows == ["0", "1", "2", "3", "4"]
    said = re.search(r"what to do first: ([\d, ]+)\.", PAGE)[1]
    assert said in (Report.exit_code.__doc__ or "")


@pytest.mark.parametrize("where", ["action.yml", "action/comment/action.yml"])
def test_the_inputs_of_the_actions_are_documented(where):
    document = yaml.safe_load((ROOT / where).read_text())
    of_page = PAGE.partition("### GitHub")[2].partition("### GitLab")[0]
    for name in [*document["inputs"], *document.get("outputs", {})]:
        assert f"`{name}`" in of_page, name


def test_this_projects_own_gate_is_read_and_names_examples(monkeypatch):
    monkeypatch.chdir(ROOT)
    entries = load_settings(ROOT).entries
    assert len(entries) >= 8
    for entry in entries:
        module, _, function = entry.step.partition(":")
        source = (ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        assert f"def {function}(" in source
