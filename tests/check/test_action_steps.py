"""The steps of the Actions' files as a runner carries them out: bash, the environment, the outputs."""

import os
import subprocess
import sys
from pathlib import Path

import yaml

from poet_cli.check.formats import document
from tests.check.action_parts import job, report
from tests.check.github_stub import GitHubStub, archive

ROOT = Path(__file__).resolve().parents[2]


def scripts(where):
    steps = yaml.safe_load((ROOT / where).read_text())["runs"]["steps"]
    return [step["run"] for step in steps if "run" in step]


def bash(script, cwd, **environment):
    # As GitHub runs `shell: bash`.
    return subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script],
        cwd=cwd,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


def test_the_comment_needs_a_python_and_nothing_else(tmp_path):
    bare = tmp_path / "bare python"
    bare.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec "{sys.executable}" -S "$@"\n')
    bare.chmod(0o755)
    stub = GitHubStub(artifact=archive(document.render(report())))
    server = stub.serve()
    try:
        [script] = scripts("action/comment/action.yml")
        done = bash(
            script,
            tmp_path,
            **job(tmp_path, stub),
            POET_ACTION=str(ROOT / "action" / "comment"),
            POET_PYTHON=str(bare),
        )
    finally:
        server.shutdown()
        server.server_close()
    assert done.stdout == "Made the comment of pull request 7.\n", done.stderr
    assert done.returncode == 0
    assert len(stub.comments) == 1


def test_the_exit_code_comes_last_and_is_the_checks_own(tmp_path):
    check, last = scripts("action.yml")
    told = tmp_path / "output.txt"
    done = bash(
        check,
        tmp_path,
        POET_ACTION=str(ROOT),
        POET_PYTHON=sys.executable,
        POET_FOLDER=".",
        POET_ARGS="",
        POET_CONFIG="no such file.toml",
        POET_BASELINE="",
        GITHUB_WORKSPACE=str(tmp_path),
        GITHUB_OUTPUT=str(told),
        RUNNER_TEMP=str(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert "::error title=poet check::poet check ended with exit code 2." in done.stdout
    outputs = dict(line.split("=", 1) for line in told.read_text().splitlines())
    assert outputs == {"exit-code": "2", "report": "", "sarif": ""}
    for code in ("0", "1", "2", "3", "4"):
        assert bash(last, tmp_path, POET_EXIT_CODE=code).returncode == int(code)
