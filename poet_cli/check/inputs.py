"""What a trace read, by content, and whether all of that is still the same.

Invariant: `World.change` answers None only where every file, folder, variable, installed
distribution and Python itself that the footprint names is as it was. A footprint that could not
see everything says so in `unsure`, and then nothing may be kept.
"""

from __future__ import annotations

import hashlib
import os
import platform
import stat
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from poet_core.documents import Limits, Node, canonical_json, parse_json, refuse
from poet_core.text import printable

SCHEMA = "poet.check-footprint/1"
_LIMITS = Limits(document_bytes=64 * 2**20, string_length=8192, values=2_000_000)
_MOST = 100_000
_METADATA = (".dist-info", ".egg-info", ".egg-link")
# The child has the parent's sys.path there; it is part of the cache's key.
PATH_VARIABLE = "PYTHONPATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadFile:
    """A file that was read, or asked about: what may have been read by native code."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFolder:
    """A folder whose names were asked for. `imports`: only by the import system, so that only the
    names count that an import asked for."""

    path: str
    imports: bool
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """Everything that a trace depended on, as far as Python can see it (`footprint`).

    `missing` and `folders_there`: paths that were looked for, and were not there, or were folders.
    `variables`: digests of the values by name, None where there was none; `prefixes`: all
    variables that begin so. `unsure`: why this is not everything, "" where it is.
    """

    files: tuple[ReadFile, ...] = ()
    listed: tuple[ListedFolder, ...] = ()
    asked_modules: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    folders_there: tuple[str, ...] = ()
    variables: Mapping[str, str | None]
    prefixes: Mapping[str, str]
    distribution_folders: tuple[str, ...] = ()
    distributions: str
    python: str
    unsure: str = ""


class World:
    """What is there now. Each file is read once, however many footprints name it."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        """`environment`: what a child would get, this process's unless given."""
        self._environment = dict(os.environ if environment is None else environment)
        self._files: dict[str, ReadFile | None] = {}
        self._names: dict[str, tuple[str, ...] | None] = {}
        self._distributions: dict[tuple[str, ...], str] = {}

    def change(self, footprint: Footprint) -> str | None:
        """The first thing that is not as it was, as words for people; None: nothing changed."""
        if footprint.unsure:
            return footprint.unsure
        if footprint.python != python_identity():
            return "Python is another one"
        other = self._other_distribution(footprint) or self._other_variable(footprint)
        if other is not None:
            return other
        for path in footprint.missing:
            if os.path.lexists(path):
                return f"{printable(path, 200)} was not there and is"
        for path in footprint.folders_there:
            if not Path(path).is_dir():
                return f"the folder {printable(path, 200)} is gone"
        for file in footprint.files:
            if not self._is_same(file):
                return f"{printable(file.path, 200)} changed"
        asked = frozenset(footprint.asked_modules)
        for folder in footprint.listed:
            names = self._listing(folder.path)
            if names is None or folder.sha256 != names_digest(names, asked, folder.imports):
                return f"other files are in {printable(folder.path, 200)}"
        return None

    def _is_same(self, was: ReadFile) -> bool:
        # The size first: a large file that grew is not read for that.
        try:
            if Path(was.path).stat().st_size != was.size_bytes:
                return False
        except (OSError, ValueError):
            return False
        if was.path not in self._files:
            self._files[was.path] = read_file(was.path)
        return self._files[was.path] == was

    def _listing(self, path: str) -> tuple[str, ...] | None:
        if path not in self._names:
            try:
                self._names[path] = tuple(os.listdir(path))  # noqa: PTH208  The names alone.
            except (OSError, ValueError):
                self._names[path] = None
        return self._names[path]

    def _other_variable(self, footprint: Footprint) -> str | None:
        for name, digest in footprint.variables.items():
            if variable_digest(self._environment.get(name)) != digest:
                return f"the environment variable {printable(name)} changed"
        for prefix, digest in footprint.prefixes.items():
            if variables_digest(self._environment, prefix) != digest:
                what = f"{printable(prefix)}..." if prefix else "whole environment"
                return f"the environment changed ({what})"
        return None

    def _other_distribution(self, footprint: Footprint) -> str | None:
        folders = footprint.distribution_folders
        if folders not in self._distributions:
            self._distributions[folders] = distributions_digest(folders)
        if self._distributions[folders] != footprint.distributions:
            return "other distributions, or other versions, are installed"
        return None


def python_identity() -> str:
    """This Python on this kind of machine."""
    return f"{sys.version} {sys.implementation.cache_tag} {sys.prefix} {platform.machine()}"


def read_file(path: str) -> ReadFile | None:
    """A regular file by content, of any size; None: it is none, or cannot be read."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123  As the recorder, of a plain string.
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                return None
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return ReadFile(path=path, size_bytes=file.tell(), sha256=digest)
    except (OSError, ValueError):
        return None


def names_digest(names: Iterable[str], asked: frozenset[str], imports: bool) -> str:
    """Of the names in a folder; for imports only those that may answer one, and distributions'."""
    kept = {name for name in names if name != "__pycache__"}
    if imports:
        kept = {n for n in kept if n.partition(".")[0] in asked or n.endswith(_METADATA)}
    return _digest("\0".join(sorted(kept)))


def variable_digest(value: str | None) -> str | None:
    """Of a variable's value: what is kept shows no secret."""
    return None if value is None else _digest(value)


def variables_digest(environment: Mapping[str, str], prefix: str) -> str:
    """Of all variables whose name begins with `prefix`."""
    kept = [
        f"{name}={environment[name]}"
        for name in sorted(environment)
        if name.startswith(prefix) and name != PATH_VARIABLE
    ]
    return _digest("\0".join(kept))


def distributions_digest(folders: Iterable[str]) -> str:
    """Of every distribution installed in `folders`: its name, its version and, by RECORD, the
    content of its files (a second install of the same version may bring others)."""
    digest = hashlib.sha256()
    for folder in folders:
        for name in _distribution_names(folder):
            digest.update(f"{name}\0".encode("utf-8", "surrogateescape"))
            for part in ("METADATA", "PKG-INFO", "RECORD", "direct_url.json"):
                data = _content(Path(folder) / name / part)
                digest.update(len(data).to_bytes(8, "big") + data)
            digest.update(_content(Path(folder) / name))  # an .egg-info that is a file
    return digest.hexdigest()


def has_distributions(folder: str) -> bool:
    """Whether anything is installed in `folder` with its metadata."""
    return bool(_distribution_names(folder))


def _distribution_names(folder: str) -> list[str]:
    try:
        names = os.listdir(folder)  # noqa: PTH208  The names alone.
    except (OSError, ValueError):
        return []
    return sorted(name for name in names if name.endswith(_METADATA))


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (OSError, ValueError):
        return b""


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def footprint_document(footprint: Footprint) -> dict[str, Any]:
    """The footprint as JSON values."""
    return {
        "schema": SCHEMA,
        "files": [[file.path, file.size_bytes, file.sha256] for file in footprint.files],
        "listed": [[folder.path, folder.imports, folder.sha256] for folder in footprint.listed],
        "asked_modules": list(footprint.asked_modules),
        "missing": list(footprint.missing),
        "folders_there": list(footprint.folders_there),
        "variables": dict(footprint.variables),
        "prefixes": dict(footprint.prefixes),
        "distribution_folders": list(footprint.distribution_folders),
        "distributions": footprint.distributions,
        "python": footprint.python,
        "unsure": footprint.unsure,
    }


def footprint_bytes(footprint: Footprint) -> bytes:
    """The footprint as one canonical JSON text."""
    return canonical_json(footprint_document(footprint))


def footprint_from_document(document: Any) -> Footprint:
    """The footprint in parsed JSON. Raises DocumentError."""
    node = Node(document, "$", _LIMITS)
    fields = node.fields(frozenset(_NAMES))
    fields.check_schema(SCHEMA)
    return Footprint(
        files=tuple(_file(item) for item in fields["files"].items(_MOST)),
        listed=tuple(_folder(item) for item in fields["listed"].items(_MOST)),
        asked_modules=_strings(fields["asked_modules"]),
        missing=_strings(fields["missing"]),
        folders_there=_strings(fields["folders_there"]),
        variables={
            name: None if value.value is None else value.string()
            for name, value in _members(fields["variables"])
        },
        prefixes={name: value.string() for name, value in _members(fields["prefixes"])},
        distribution_folders=_strings(fields["distribution_folders"]),
        distributions=fields["distributions"].string(),
        python=fields["python"].string(),
        unsure=fields["unsure"].string(),
    )


def read_footprint(text: bytes) -> Footprint:
    """The footprint in a JSON text. Raises DocumentError."""
    return footprint_from_document(parse_json(text, _LIMITS))


_NAMES = (
    "schema", "files", "listed", "asked_modules", "missing", "folders_there", "variables",
    "prefixes", "distribution_folders", "distributions", "python", "unsure",
)  # fmt: skip


def _strings(node: Node) -> tuple[str, ...]:
    return tuple(item.string() for item in node.items(_MOST))


def _members(node: Node) -> list[tuple[str, Node]]:
    names = frozenset(node.value) if isinstance(node.value, dict) else frozenset[str]()
    fields = node.fields(frozenset(), names)
    return [(name, fields[name]) for name in sorted(names)]


def _file(node: Node) -> ReadFile:
    path, size, digest = _three(node)
    return ReadFile(path=path.string(), size_bytes=size.integer(), sha256=digest.string())


def _folder(node: Node) -> ListedFolder:
    path, imports, digest = _three(node)
    return ListedFolder(path=path.string(), imports=imports.boolean(), sha256=digest.string())


def _three(node: Node) -> tuple[Node, Node, Node]:
    parts = tuple(node.items(3))
    if len(parts) != 3:
        refuse(node.path, "an array of 3", f"an array of {len(parts)}")
    return parts[0], parts[1], parts[2]
