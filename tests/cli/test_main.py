"""The group: version, help, speed, devices, exit codes, pipes."""

import json
import subprocess
import sys

import pytest

from poet_core.devices import device_names
from tests.cli.conftest import poet_process

COMMANDS = ("trace", "plan", "verify", "show", "addresses", "train", "devices", "serve")


def test_version(poet):
    assert poet("--version").out.startswith("poet ")


def test_help_names_every_command(poet):
    text = poet("--help").out
    assert all(f"  {name} " in text for name in COMMANDS)


@pytest.mark.parametrize("command", [*COMMANDS, "devices list", "devices show"])
def test_every_command_has_help_with_an_example_and_json(poet, command):
    text = poet(*command.split(), "--help").out
    assert "Example" in text
    assert command == "devices" or "--json" in text


def test_no_command_shows_the_help_and_is_wrong_usage(poet):
    result = poet()
    assert result.code == 2
    assert "From a model to a plan:" in result.out + result.err


def test_an_unknown_command(poet):
    result = poet("nonsense")
    assert result.code == 2
    assert "error: There is no command 'nonsense'. [command_unknown]" in result.err
    assert "poet --help" in result.err


def test_help_and_devices_import_nothing_heavy():
    code = (
        "import sys\n"
        "from poet_cli.main import run\n"
        "assert run(['--help']) == 0 and run(['devices', 'list', '--json']) == 0\n"
        "heavy = {'torch', 'numpy', 'pulp', 'highspy', 'networkx', 'fastapi', 'httpx', 'rich'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_devices(poet):
    listed = poet("devices", "list")
    assert all(name in listed.out for name in device_names())
    assert [item["name"] for item in poet("devices", "list", "--json").json["devices"]] == list(
        device_names()
    )


def test_a_device_with_its_sources(poet):
    text = poet("devices", "show", "jetson-tx2").out
    assert "flops_per_second" in text
    assert "estimate" in text
    assert "NVIDIA" in text
    document = poet("devices", "show", "jetson-tx2", "--json").json
    assert document["flops_per_second"]["estimate"]


def test_an_unknown_device(poet):
    result = poet("devices", "show", "jetson")
    assert result.code == 2
    assert "[unknown_device]" in result.err


def test_a_reader_that_goes_away_is_told_from_a_refusal(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "poet_cli.main", "devices", "list", "--json"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
    )  # fmt: skip
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), errors) == (141, "")  # 128 + SIGPIPE, as shells have it


def test_errors_as_json_go_to_stdout(tmp_path):
    result = poet_process("devices", "show", "nothing", "--json", cwd=tmp_path)
    assert result.returncode == 2
    assert json.loads(result.stdout)["error"]["code"] == "unknown_device"
    assert result.stderr == ""
