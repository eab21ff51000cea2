"""A project whose footprint is recorded in a real child, and asked for changes afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from poet_cli.check.inputs import Footprint, World, read_footprint

# One child for several codes, since a Python takes its time to start: each has a recorder of its own.
_CHILD = """
from poet_cli.check import footprint
import json, os, sys
from pathlib import Path
from poet_cli.check.inputs import footprint_bytes
request = Path(sys.argv[1])
environment, root, found = dict(os.environ), os.getcwd(), []
codes = json.loads(request.read_text())
sys.path.insert(0, root)
for code in codes:
    recorder = footprint.begin()
    recorder.leave_out(request.parent)
    exec(compile(code, "<model>", "exec"), {"__name__": "model"})
    found.append(footprint_bytes(recorder.end()).decode())
    os.chdir(root)
    os.environ.clear()
    os.environ.update(environment)
request.with_name("answer.json").write_text(json.dumps(found))
"""


@dataclass(frozen=True)
class Project:
    folder: Path
    work: Path

    def write(self, name: str, text: str | bytes) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def environment(self, **variables: str) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        path = os.pathsep.join([part for part in sys.path if part] + [str(self.folder / "libs")])
        # As Python sets it in a child that has no locale.
        return {**kept, "LC_CTYPE": "C.UTF-8", "PYTHONPATH": path, **variables}

    def observe(self, code: str, **variables: str) -> Footprint:
        """The footprint of a child that runs `code` in the project's folder."""
        return self.observe_all({"": code}, **variables)[""]

    def observe_all(self, codes: Mapping[str, str], **variables: str) -> dict[str, Footprint]:
        """The footprint of each of `codes`, run in one child one after the other."""
        request = self.work / "request.json"
        request.write_text(json.dumps(list(codes.values())))
        done = subprocess.run(
            [sys.executable, "-P", "-c", _CHILD, str(request)],
            cwd=self.folder,
            env=self.environment(**variables),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=240,
        )
        assert done.returncode == 0, done.stderr
        found = json.loads((self.work / "answer.json").read_text())
        return {name: read_footprint(text) for name, text in zip(codes, found, strict=True)}

    def change(self, footprint: Footprint, **variables: str) -> str | None:
        return World(self.environment(**variables)).change(footprint)


def made_project(tmp_path: Path) -> Project:
    """A helper, a data file, a folder, and an installed distribution."""
    made = Project(folder=tmp_path / "project", work=tmp_path / "work")
    made.folder.mkdir()
    made.work.mkdir()
    made.write("helper.py", "WIDTH = 1\n")
    made.write("data.json", '{"width": 1}')
    made.write("sets/one.txt", "1")
    made.write("libs/thing-1.0.dist-info/METADATA", "Name: thing\nVersion: 1.0\n")
    made.write("libs/thing-1.0.dist-info/RECORD", "thing.py,sha256=a,1\n")
    return made
