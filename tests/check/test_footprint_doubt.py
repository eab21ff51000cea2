"""What a recorder cannot follow makes a footprint unsure; what it can, by whatever library, does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.check.footprint_project import Project, made_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return made_project(tmp_path)


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
