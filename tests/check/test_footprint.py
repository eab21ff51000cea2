"""What a child reads is recorded in a real child, and each change of it is seen afterwards."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from poet_cli.check.inputs import (
    Footprint,
    World,
    footprint_bytes,
    footprint_from_document,
    read_footprint,
)
from poet_core.documents import parse_json
from poet_core.errors import DocumentError

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


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(folder=tmp_path / "project", work=tmp_path / "work")
    made.folder.mkdir()
    made.work.mkdir()
    made.write("helper.py", "WIDTH = 1\n")
    made.write("data.json", '{"width": 1}')
    made.write("sets/one.txt", "1")
    made.write("libs/thing-1.0.dist-info/METADATA", "Name: thing\nVersion: 1.0\n")
    made.write("libs/thing-1.0.dist-info/RECORD", "thing.py,sha256=a,1\n")
    return made


_DATA = "import json, os, pathlib, shutil, mmap, glob, threading, contextlib\n"

READ_DATA = {
    "open": "open('data.json').read()",
    "binary": "open(b'data.json', 'rb').read()",
    "path": "pathlib.Path('data.json').read_text()",
    "update": "open('data.json', 'r+').read()",
    "os.open": "os.read(os.open(os.path.abspath('data.json'), os.O_RDONLY), 9)",
    "os.open relative": "os.read(os.open('data.json', os.O_RDONLY), 9)",
    "os.open in a folder": "os.read(os.open('data.json', os.O_RDONLY, dir_fd=os.open('.', os.O_RDONLY)), 9)",
    "mmap": "f = open('data.json'); mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)",
    "copy": "shutil.copyfile('data.json', os.devnull)",
    "size": "os.path.getsize('data.json')",
    "exists": "os.path.exists('data.json')",
    "access": "os.access('data.json', os.R_OK)",
    "other folder": "os.chdir('sets'); open('../data.json').read()",
    "thread": "t = threading.Thread(target=lambda: open('data.json').read()); t.start(); t.join()",
    "before a change of its own": "os.environ['X'] = 'y'; open('data.json').read()",
}


def test_data_file_read_in_any_way_is_seen_to_change(project: Project) -> None:
    footprints = project.observe_all({name: _DATA + code for name, code in READ_DATA.items()})
    assert {name: one.unsure for name, one in footprints.items()} == dict.fromkeys(READ_DATA, "")
    assert {name: project.change(one) for name, one in footprints.items()} == dict.fromkeys(
        READ_DATA
    )
    project.write("data.json", '{"width": 2}')  # as long as before
    changed = {name for name, one in footprints.items()
               if "data.json changed" in (project.change(one) or "")}  # fmt: skip
    assert changed == set(READ_DATA)


def test_one_byte_of_a_large_file_counts(project: Project) -> None:
    data = bytearray(os.urandom(5 << 20))
    project.write("weights.bin", bytes(data))
    footprint = project.observe("open('weights.bin', 'rb').read(16)")
    assert project.change(footprint) is None
    data[4 << 20] ^= 1
    project.write("weights.bin", bytes(data))
    assert "weights.bin changed" in (project.change(footprint) or "")


@pytest.mark.parametrize("times", [1, 2], ids=["compiled now", "compiled before"])
def test_imported_helper_counts(project: Project, times: int) -> None:
    footprint = [project.observe("import helper") for _ in range(times)][-1]
    assert project.change(footprint) is None
    assert not any(file.path.endswith(".pyc") for file in footprint.files)
    project.write("helper.py", "WIDTH = 2\n")
    assert "helper.py changed" in (project.change(footprint) or "")


def test_link_to_other_data_counts(project: Project) -> None:
    project.write("other.json", '{"width": 2}')
    link = project.folder / "link.json"
    link.symlink_to("data.json")
    footprint = project.observe("open('link.json').read()")
    assert project.change(footprint) is None
    link.unlink()
    link.symlink_to("other.json")
    assert "link.json changed" in (project.change(footprint) or "")


def test_dots_behind_a_link_to_a_folder_are_followed(project: Project) -> None:
    project.write("far/away/x", "")
    project.write("far/data.json", '{"width": 1}')
    (project.folder / "near").symlink_to("far/away")
    footprint = project.observe("open('near/../data.json').read()")
    project.write("data.json", "this was not read")
    assert project.change(footprint) is None
    project.write("far/data.json", '{"width": 2}')
    assert "far/data.json changed" in (project.change(footprint) or "")


LOOKED_FOR = {
    "exists": "os.path.exists('own.json')",
    "is_file": "pathlib.Path('own.json').is_file()",
    "open": "with contextlib.suppress(OSError): open('own.json')",
    "glob": "glob.glob('*.json')",
    "listdir": "os.listdir()",
    "scandir": "list(os.scandir('.'))",
    "scandir of an open folder": "list(os.scandir(os.open('.', os.O_RDONLY)))",
    "walk": "list(os.walk('.'))",
    "iterdir": "list(pathlib.Path().iterdir())",
}


def test_file_that_was_looked_for_and_is_there_now_counts(project: Project) -> None:
    footprints = project.observe_all({name: _DATA + code for name, code in LOOKED_FOR.items()})
    assert {one.unsure for one in footprints.values()} == {""}
    assert {name: project.change(one) for name, one in footprints.items()} == dict.fromkeys(
        LOOKED_FOR
    )
    project.write("own.json", "{}")
    assert {n for n, one in footprints.items() if project.change(one) is not None} == set(
        LOOKED_FOR
    )


def test_file_that_is_gone_counts(project: Project) -> None:
    footprint = project.observe("import os; os.path.isdir('sets'), open('data.json')")
    (project.folder / "data.json").unlink()
    assert "data.json" in (project.change(footprint) or "")
    project.write("data.json", '{"width": 1}')
    assert project.change(footprint) is None
    shutil.rmtree(project.folder / "sets")
    assert "sets is gone" in (project.change(footprint) or "")


@pytest.mark.parametrize("name", ["optional.py", "optional/__init__.py", "optional/other.txt"])
def test_module_that_could_not_be_imported_and_is_there_now_counts(
    project: Project, name: str
) -> None:
    footprint = project.observe("try:\n  import optional\nexcept ImportError: pass")
    assert project.change(footprint) is None
    project.write(name, "")
    assert "other files" in (project.change(footprint) or "")


def test_package_without_init_that_gets_one_counts(project: Project) -> None:
    project.write("parts/deep/layer.py", "")
    footprint = project.observe("import parts.deep.layer")
    assert project.change(footprint) is None
    project.write("parts/deep/__init__.py", "")
    assert "other files" in (project.change(footprint) or "")


def test_other_files_beside_the_modules_do_not_count(project: Project) -> None:
    footprint = project.observe("import helper")
    project.write("README.md", "read me")
    project.write("logs/today.txt", "x")
    project.write("unasked.py", "x = 1")
    project.write("__pycache__/unasked.pyc", b"x")
    (project.folder / "helper.py").touch()
    assert project.change(footprint) is None


VARIABLES = {
    "index": "os.environ['DEPTH'] if 'DEPTH' in os.environ else 0",
    "get": "os.environ.get('DEPTH')",
    "getenv": "os.getenv('DEPTH')",
    "in": "'DEPTH' in os.environ",
    "bytes": "os.environb.get(b'DEPTH')",
    "items": "[value for name, value in os.environ.items()]",
    "iteration": "list(os.environ)",
    "copy": "os.environ.copy()",
    "dict": "dict(os.environ)",
    "imported by name": "from os import environ; environ.get('DEPTH')",
    "after it was set": "os.environ.get('DEPTH'); os.environ['DEPTH'] = '9'; os.environ['DEPTH']",
}


@pytest.mark.parametrize("before", [{}, {"DEPTH": "1"}], ids=["unset", "set"])
def test_environment_variable_counts(project: Project, before: Mapping[str, str]) -> None:
    codes = {name: f"import os\n{code}" for name, code in VARIABLES.items()}
    footprints = project.observe_all(codes, **before)
    same = {name: project.change(one, **before) for name, one in footprints.items()}
    assert same == dict.fromkeys(VARIABLES)
    for name, one in footprints.items():
        assert "environment" in (project.change(one, DEPTH="2") or ""), name


def test_variables_that_nobody_asked_for_do_not_count_but_native_ones_do(project: Project) -> None:
    footprint = project.observe("import os; os.environ.get('DEPTH')", RUN="1")
    assert project.change(footprint, RUN="2") is None
    assert project.change(footprint, OMP_NUM_THREADS="3") is not None
    assert project.change(footprint, PYTHONHASHSEED="3") is not None


def test_no_value_of_a_variable_is_kept(project: Project) -> None:
    footprint = project.observe("import os; os.environ['TOKEN']", TOKEN="much-too-secret")
    assert b"much-too-secret" not in footprint_bytes(footprint)
    assert "TOKEN" in footprint.variables


def test_installed_version_counts(project: Project) -> None:
    footprint = project.observe("")
    libs = project.folder / "libs"
    assert project.change(footprint) is None
    (libs / "thing-1.0.dist-info").rename(libs / "thing-1.1.dist-info")
    assert "distributions" in (project.change(footprint) or "")
    (libs / "thing-1.1.dist-info").rename(libs / "thing-1.0.dist-info")
    assert project.change(footprint) is None
    project.write("libs/more-2.0.dist-info/METADATA", "Name: more\n")
    assert "distributions" in (project.change(footprint) or "")


def test_same_version_with_other_content_counts(project: Project) -> None:
    footprint = project.observe("")
    project.write("libs/thing-1.0.dist-info/RECORD", "thing.py,sha256=b,1\n")
    assert "distributions" in (project.change(footprint) or "")


def test_other_python_counts(project: Project) -> None:
    footprint = project.observe("")
    assert "Python" in (project.change(replace(footprint, python="3.99")) or "")


UNSEEN = {
    "process": "import subprocess, sys; subprocess.run([sys.executable, '-c', ''])",
    "shell": "import os; os.system('true')",
    "fork": "import os; os.fork() or os._exit(0)",
    "connection": (
        "import socket\ntry: socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError: pass"
    ),
    "name": "import socket\nsocket.getaddrinfo('127.0.0.1', 80)",
    "datagram": (
        "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 9))"
    ),
    "standard input": "try: input()\nexcept EOFError: pass",
    "database": "import sqlite3; sqlite3.connect('data.db')",
    "library of the project": (
        "import ctypes\ntry: ctypes.CDLL('./data.json')\nexcept OSError: pass"
    ),
    "pipe": "import os; os.mkfifo('pipe'); os.stat('pipe')",
    "changed meanwhile": "open('data.json').read(); open('data.json', 'a').write(' ')",
    "rewritten": "open('data.json').read(); open('data.json', 'w').write('1')",
    "removed": "import os; open('sets/one.txt').read(); os.remove('sets/one.txt')",
    "moved": "import os; os.rename('helper.py', 'moved.py'); open('moved.py').read()",
}


def test_what_cannot_be_followed_is_unsure(project: Project) -> None:
    footprints = project.observe_all(UNSEEN)
    assert [name for name, one in footprints.items() if not one.unsure] == []
    for one in footprints.values():
        assert project.change(one) == one.unsure


@pytest.mark.parametrize(
    "code",
    [
        "import cv2",
        "import sys, types\nm = sys.modules['m'] = types.ModuleType('m')\nm.__file__ = 'native.so'",
    ],
    ids=["known reader", "of the project"],
)
def test_module_whose_native_code_may_read_anything_is_unsure(project: Project, code: str) -> None:
    project.write("cv2.py", "")
    project.write("native.so", "")
    assert project.observe(code).unsure


HARMLESS = {
    "temporary folder": (
        "import tempfile, os\nwith tempfile.TemporaryDirectory() as f:\n"
        "  open(os.path.join(f, 'x'), 'w').write('1'); open(os.path.join(f, 'x')).read()\n"
        "  os.listdir(f)"
    ),
    "temporary file": "import tempfile\nwith tempfile.NamedTemporaryFile() as f: f.write(b'1')",
    "output": "open('out.txt', 'w').write('1'); open('out.txt').read()",
    "made and moved": "import os; open('a.tmp', 'x').write('1'); os.replace('a.tmp', 'out.txt')",
    "log": "open('train.log', 'a').write('1')",
    "the machine": "open('/proc/cpuinfo').read(); open('/dev/null').read()",
    "database in memory": "import sqlite3; sqlite3.connect(':memory:')",
    "library of the system": "import ctypes; ctypes.CDLL(None)",
    "bound socket": "import socket; socket.socket().bind(('127.0.0.1', 0))",
    "tree removed": "import os, shutil; os.makedirs('a/b'); shutil.rmtree('a')",
    "standard library": "import json.tool, csv, decimal",
}


def test_what_leaves_no_doubt_is_sure(project: Project) -> None:
    footprints = project.observe_all(HARMLESS)
    assert {name: one.unsure for name, one in footprints.items()} == dict.fromkeys(HARMLESS, "")
    assert {name: project.change(one) for name, one in footprints.items()} == dict.fromkeys(
        HARMLESS
    )


def test_file_that_was_not_there_and_was_then_made_is_read_the_next_time(project: Project) -> None:
    code = (
        "import os\nif not os.path.exists('cache.txt'): open('cache.txt', 'w').write('1')\n"
        "open('cache.txt').read()"
    )
    assert "cache.txt was not there" in (project.change(project.observe(code)) or "")
    second = project.observe(code)
    assert project.change(second) is None
    project.write("cache.txt", "2")
    assert "cache.txt changed" in (project.change(second) or "")


def test_file_given_to_native_code_is_read(project: Project) -> None:
    project.write("torchvision/io/image.py", "def read_file(path): return 1  # by native code\n")
    footprint = project.observe(
        "from torchvision.io.image import read_file\nassert read_file('data.json') == 1"
    )
    assert footprint.unsure == ""
    project.write("data.json", '{"width": 2}')
    assert "data.json changed" in (project.change(footprint) or "")


def test_errors_are_the_same_as_without_a_recorder(project: Project) -> None:
    project.observe(
        "import os, shutil\n"
        "for raises, act in ((FileNotFoundError, lambda: os.stat('no')), (KeyError, lambda: os.environ['NO']),\n"
        "    (FileNotFoundError, lambda: open('no')), (FileNotFoundError, lambda: os.listdir('no')),\n"
        "    (TypeError, lambda: os.stat(1.5)), (ValueError, lambda: os.stat('\\0')),\n"
        "    (ValueError, lambda: open('\\0')), (FileNotFoundError, lambda: os.open('no', 0)),\n"
        "    (ModuleNotFoundError, lambda: __import__('no_such_module'))):\n"
        "  try: act()\n"
        "  except raises: continue\n"
        "  raise AssertionError(raises)\n"
        "assert os.stat in os.supports_dir_fd and os.open in os.supports_dir_fd\n"
        "assert dict(os.environ) == os.environ == os.environ.copy()\n"
        "assert os.stat('.', follow_symlinks=False).st_ino == os.lstat('.').st_ino\n"
    )


def test_footprint_survives_its_document(project: Project) -> None:
    footprint = project.observe("import os, helper; os.environ.get('DEPTH'); os.listdir('sets')")
    assert read_footprint(footprint_bytes(footprint)) == footprint


@pytest.mark.parametrize(
    ("name", "value"),
    [("files", [["a", 1]]), ("files", [["a", -1, "b"]]), ("variables", {"a": 1}), ("more", 1),
     ("schema", "poet.check-footprint/0"), ("listed", [["a", 1, "b"]]), ("unsure", None)],
)  # fmt: skip
def test_document_that_is_no_footprint_is_refused(
    project: Project, name: str, value: object
) -> None:
    document = parse_json(footprint_bytes(project.observe("")))
    with pytest.raises(DocumentError):
        footprint_from_document({**document, name: value})


READ_BY_LIBRARIES = {
    "torch.load": "torch.load('t.pt')",
    "torch.load mmap": "torch.load('t.pt', mmap=True)",
    "torch.from_file": "torch.from_file('t.bin', size=4)",
    "storage": "torch.UntypedStorage.from_file('t.bin', nbytes=16)",
    "torch.jit.load": "read_script()",
    "numpy.load": "numpy.load('n.npy')",
    "numpy.load mmap": "numpy.load('n.npy', mmap_mode='r')",
    "numpy.fromfile": "numpy.fromfile('t.bin', dtype='f4')",
    "numpy.memmap": "numpy.memmap('t.bin', dtype='f4', mode='r')",
    "numpy.loadtxt": "numpy.loadtxt('n.txt')",
}


def test_file_read_by_torch_or_numpy_is_seen_to_change(project: Project) -> None:
    import numpy as np
    import torch

    torch.save(torch.ones(4), project.folder / "t.pt")
    np.save(project.folder / "n.npy", np.ones(4, dtype="f4"))
    project.write("t.bin", bytes(16))
    project.write("n.txt", "1 2 3 4")
    project.write("script.pt", "no script")
    script = "def read_script():\n  try: torch.jit.load('script.pt')\n  except RuntimeError: pass\n"
    codes = {
        name: f"import numpy, torch\n{script}{code}" for name, code in READ_BY_LIBRARIES.items()
    }
    footprints = project.observe_all(codes)
    same = {name: one.unsure or project.change(one) for name, one in footprints.items()}
    assert same == dict.fromkeys(READ_BY_LIBRARIES)
    for name in ("t.pt", "t.bin", "n.npy", "n.txt", "script.pt"):
        path = project.folder / name
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(bytes(data))
    reasons = {name: project.change(one) or "" for name, one in footprints.items()}
    assert [name for name, reason in reasons.items() if not reason.endswith("changed")] == []
