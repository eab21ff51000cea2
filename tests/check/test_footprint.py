"""What a child reads is recorded in a real child, and each change of it is seen afterwards."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.check.inputs import footprint_bytes, footprint_from_document, read_footprint
from poet_core.documents import parse_json
from poet_core.errors import DocumentError
from tests.check.footprint_project import Project, made_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return made_project(tmp_path)


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
