"""poet completion: the scripts, and what a shell is told, through the real command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from poet_cli.command_table import SENTENCES
from poet_cli.main import main
from poet_core.devices import device_names

ROOT = Path(__file__).resolve().parents[2]
STEPS = {
    "model.py": "def step(): ...\ndef step_large(*, batch=3): ...\ndef stepwise(x): ...\n"
    "def needed(*, a): ...\ndef other(): ...\n",
    "nets/__init__.py": "",
    "nets/vgg.py": "import no_such_module\ndef step(): ...\n",
    "broken.py": "def step(:\n",
}


@pytest.fixture
def folder(tmp_path):
    for name, text in STEPS.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


@pytest.fixture
def told(folder, monkeypatch, capsys):
    """What the shell is told where the cursor is at the end of the line."""
    monkeypatch.chdir(folder)

    def ask(line, shell="bash"):
        asked = {
            "_POET_COMPLETE": f"{shell}_complete", "COMP_LINE": line, "COMP_POINT": str(len(line)),
            "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1),
        }  # fmt: skip
        for name, value in asked.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main([])
        assert ended.value.code == 0
        return capsys.readouterr().out.splitlines()

    return ask


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("poet pla", ["plain,plan"]),
        ("poet jobs w", ["plain,watch"]),
        ("poet plan g.json --devi", ["plain,--device", "plain,--device-file"]),
        ("poet plan g.json --device jet", ["plain,jetson-tx2"]),
        ("poet plan --backend h", ["plain,highs"]),
        ("poet devices show jetson-t", ["plain,jetson-tx2"]),
        ("poet plan ", ["file,"]),
        ("poet trace model", ["plain,model:step", "plain,model:step_large"]),
        ("poet trace model:", ["plain,step", "plain,step_large"]),
        ("poet trace model:o", ["plain,other"]),
        ("poet train nets.v", ["plain,nets.vgg:step"]),
        ("poet trace broken", []),
        ("poet trace /etc/", []),
        ("poet trace ../", []),
    ],
)
def test_what_bash_is_told(told, line, expected):
    assert told(line) == expected


def test_commands_have_their_sentences_where_the_shell_shows_them(told):
    lines = told("poet doct", "zsh")
    assert lines == ["plain", "doctor", SENTENCES["doctor"]]


def test_every_device_is_completed(told):
    assert told("poet plan g --device ") == [f"plain,{name}" for name in device_names()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_asks_the_command(poet, shell):
    text = poet("completion", shell).out
    assert f"_POET_COMPLETE={shell}_complete" in text
    assert poet("completion", shell, "--json").json == {"shell": shell, "script": text}
    program = shutil.which(shell)
    if program is not None:
        subprocess.run([program, "-n"], input=text, text=True, check=True)


def test_another_shell(poet):
    result = poet("completion", "tcsh")
    assert result.code == 2
    assert "bash" in result.err


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs Bash")
@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("poet plan g.json --device jets", "jetson-tx2"),
        ("poet trace model:step_", "step_large"),  # to Bash the word begins after the colon
    ],
)
def test_a_real_bash_completes(folder, poet, line, expected):
    (folder / "completion.bash").write_text(poet("completion", "bash").out)
    (folder / "poet").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m poet_cli.main "$@"\n')
    (folder / "poet").chmod(0o755)
    typed = (
        'source ./completion.bash; complete -p poet; COMP_LINE="$1"; COMP_POINT=${#1}; '
        '_poet_completion poet; echo "${COMPREPLY[@]}"'
    )
    ended = subprocess.run(
        ["bash", "-c", typed, "bash", line],
        cwd=folder, env=os.environ | {"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert ended.stdout.splitlines() == ["complete -F _poet_completion poet", expected], (
        ended.stderr
    )
