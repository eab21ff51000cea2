"""What holds of every command, by walking over all of them: help, examples, --json, units, errors."""

import json
import re
import shlex
import subprocess
import sys

import click
import pytest

from poet_cli.command_table import SENTENCES
from poet_cli.main import cli
from poet_core.errors import UsageError
from tests.cli.test_hostile import harmless


def walk(command, path, context):
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            each = command.get_command(context, name)
            yield from walk(
                each, (*path, name), click.Context(each, info_name=name, parent=context)
            )


COMMANDS = {
    " ".join(path): one for path, one in walk(cli, (), click.Context(cli, info_name="poet"))
}
LEAVES = {path: one for path, one in COMMANDS.items() if not isinstance(one, click.Group)}


def options(command):
    return [each for each in command.params if isinstance(each, click.Option)]


def examples(command):
    """The lines of the epilog that are commands."""
    text = (command.epilog or "").replace("Example: ", "").replace("Examples: ", "")
    lines = [part.strip() for line in text.splitlines() for part in line.split(";")]
    return [line.split("#")[0].strip() for line in lines if re.match(r"([A-Z_]+=\S+ )?poet ", line)]


def test_the_walk_finds_them_all():
    assert len(LEAVES) >= 20
    assert {name.split()[0] for name in LEAVES} == set(SENTENCES)


@pytest.mark.parametrize("path", COMMANDS)
def test_help_says_what_it_does_with_an_example(poet, path):
    result = poet(*path.split(), "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: poet{' ' if path else ''}{path} ")
    assert "Example" in result.out
    assert max(map(len, result.out.splitlines())) <= 100
    assert COMMANDS[path].help
    assert [each.opts for each in options(COMMANDS[path]) if not each.help] == []


@pytest.mark.parametrize("path", COMMANDS)
def test_examples_name_commands_and_options_that_exist(path):
    named = set()
    for line in examples(COMMANDS[path]):
        for part in re.split(r"[|&>)]+", line):
            if "poet " not in part:
                continue
            words = shlex.split(part.split("poet ", 1)[1])
            known = [each for each in COMMANDS if words[: len(each.split())] == each.split()]
            named.add(max(known, key=len))
            there = {opt for each in options(COMMANDS[max(known, key=len)]) for opt in each.opts}
            assert {word for word in words if word.startswith("--")} <= there | {"--help"}, part
    assert any(name == path or name.startswith(path) for name in named)


@pytest.mark.parametrize("path", SENTENCES)
def test_the_table_has_the_commands_own_sentence(path):
    assert " ".join(COMMANDS[path].help.split()).startswith(SENTENCES[path].rstrip(".?"))


@pytest.mark.parametrize("path", LEAVES)
def test_every_command_has_json_and_its_errors_are_json(poet, path):
    assert "--json" in [opt for each in options(LEAVES[path]) for opt in each.opts]
    result = poet(*path.split(), "--json", "--jsonn")
    assert (result.code, result.err) == (2, "")
    error = result.json["error"]
    assert error["code"] == "option_unknown"
    assert f"`poet {path}` has no option --jsonn." in error["detail"]
    assert "--json" in error["hint"]


@pytest.mark.parametrize(
    ("path", "option"),
    [
        (path, each)
        for path, command in LEAVES.items()
        for each in options(command)
        if each.name.endswith("_bytes") or each.metavar == "SIZE"
    ],
    ids=lambda item: item if isinstance(item, str) else item.opts[0],
)
def test_a_size_without_its_unit_is_refused(path, option):
    assert option.metavar == "SIZE"
    with pytest.raises(UsageError) as refused:
        option.type.convert("512", option, None)
    assert refused.value.code == "size_invalid"
    assert "512MiB" in refused.value.hint
    assert option.type.convert("512KiB", option, None) == 512 * 1024


def test_no_command_imports_what_it_may_not_need():
    code = (
        "import sys\n"
        "from poet_cli.main import run\n"
        f"for path in {list(COMMANDS)!r}:\n"
        "    assert run([*path.split(), '--help']) == 0\n"
        "heavy = {'torch', 'numpy', 'pulp', 'highspy', 'networkx', 'fastapi', 'httpx', 'rich',\n"
        "         'transformers', 'sqlalchemy', 'pydantic'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_the_help_of_poet_imports_no_command():
    code = (
        "import sys\n"
        "from poet_cli.main import run\n"
        "run(['--help']); run(['plam']); run(['--version'])\n"
        "print([name for name in sys.modules if name.startswith('poet_cli.commands.')])\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


NEAREST = {
    "plam": "poet plan", "verfy": "poet verify", "max_batch": "poet max-batch",
    "leastram": "poet least-ram", "docter": "poet doctor", "devices lst": "poet devices list",
    "jobs wacth": "poet jobs watch", "tokens revok": "poet tokens revoke", "Trace": "poet trace",
}  # fmt: skip


@pytest.mark.parametrize("wrong", NEAREST)
def test_a_misspelt_command_is_answered_with_the_nearest(poet, wrong):
    result = poet(*wrong.split())
    assert result.code == 2
    assert "[command_unknown]" in result.err
    assert f"Did you mean `{NEAREST[wrong]}`?" in result.err


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [("plan g --devise x", "--device"), ("trace x:y --thread 2", "--threads"),
     ("frontier g --point 3", "--points"), ("max-batch x:y --lmit 3", "--limit")],
)  # fmt: skip
def test_a_misspelt_option_is_answered_with_the_nearest(poet, wrong, meant):
    result = poet(*wrong.split())
    assert result.code == 2
    assert "[option_unknown]" in result.err
    assert meant in result.err


@pytest.mark.parametrize("path", [path for path, each in LEAVES.items() if any(
    isinstance(one, click.Argument) and one.required for one in each.params)])  # fmt: skip
def test_a_missing_argument_is_answered_with_an_example(poet, path):
    result = poet(*path.split(), "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "argument_missing")
    assert f"E.g. `poet {path}" in result.json["error"]["hint"]


def test_hostile_words_are_harmless_in_errors(poet):
    evil = "\x1b[2J\u202e\r\nx"
    for words in ([evil], ["plan", f"--{evil}"], ["devices", evil], ["trace", evil], ["show", evil, evil],
                  ["completion", evil], ["max-batch", evil, "--device", "mkr1000"],
                  ["plan", evil, "--objective", evil], ["check", "--only", evil, "--config", evil]):  # fmt: skip
        for more in ([], ["--json"]):
            result = poet(*words, *more)
            assert result.code == 2, words
            assert harmless(result.out + result.err), words
            if more:
                assert json.loads(result.out)["ok"] is False
