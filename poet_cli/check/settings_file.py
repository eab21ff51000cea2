"""Which file says what is checked, its TOML, and on which line each part of it stands.

    poet-check.toml                    the keys at the top level
    pyproject.toml                     the same keys in [tool.poet.check]

Both are looked for in this folder and then in the folders above it. Invariant: a file is bounded
before it is read, and every error names it as the user would open it, with a line where one is known.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from poet_cli.files import read_file
from poet_core.errors import UsageError
from poet_core.text import printable

OWN_NAME = "poet-check.toml"
PROJECT_NAME = "pyproject.toml"
_IN_PROJECT = ("tool", "poet", "check")
# Far more than a configuration ever is.
_MOST_BYTES = 1 << 20

_HEADER = re.compile(r"\s*\[(\[?)\s*([\w\-.\"' ]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"\s*(?:([\w\-]+)|\"([^\"]*)\"|'([^']*)')\s*=")


@dataclass(slots=True)
class _Block:
    """A table of the file: the line of its header, and those of its keys."""

    path: tuple[str, ...]
    listed: bool
    line: int
    keys: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsFile:
    """A configuration as it is written. `values`: the table of `poet check`; `folder`: where its
    models are imported from and its paths begin."""

    path: Path
    values: Mapping[str, Any]
    prefix: tuple[str, ...]
    blocks: tuple[_Block, ...]

    @property
    def folder(self) -> Path:
        """The folder that the file is in."""
        return self.path.parent

    def key_line(self, key: str) -> int:
        """The line of a key of the table itself."""
        own = [block for block in self.blocks if block.path == self.prefix]
        found = (block.keys[key] for block in own if key in block.keys)
        return next(found, own[0].line if own else 1)

    def entry_line(self, index: int, count: int, key: str = "") -> int:
        """The line of entry `index` of `count`, or of its key where that can be seen."""
        entries = self._entries()
        if len(entries) != count:  # written as an inline array
            return self.key_line("entry")
        return entries[index].keys.get(key, entries[index].line)

    def _entries(self) -> list[_Block]:
        wanted = (*self.prefix, "entry")
        return [block for block in self.blocks if block.listed and block.path == wanted]

    def refuse(self, line: int, message: str, *, code: str, hint: str) -> NoReturn:
        """Raises UsageError with file and line before the message."""
        raise UsageError(
            f"{shown(self.path)}:{line}: {message}",
            code=code,
            hint=hint,
            details={"file": str(self.path), "line": line},
        )


def find_settings(start: Path, config: Path | None = None) -> SettingsFile:
    """The configuration at `config`, or the nearest above `start`. Raises UsageError
    (`check_not_configured`, `check_configured_twice`, `check_settings`, `file_unreadable`)."""
    if config is not None:
        return read_settings_file(config)
    for folder in (start, *start.parents):
        own, project = folder / OWN_NAME, folder / PROJECT_NAME
        has_own, of_project = own.is_file(), _of_project(project)
        if has_own and of_project is not None:
            raise UsageError(
                f"Expected one configuration in {shown(_near(folder))}, got two: {OWN_NAME} and "
                f"[tool.poet.check] in {PROJECT_NAME}.",
                code="check_configured_twice",
                hint=f"Remove one of them, or say which: poet check --config {OWN_NAME}",
            )
        if has_own:
            return read_settings_file(_near(own))
        if of_project is not None:
            return of_project
    raise UsageError(
        f"There is no {OWN_NAME} here or above, and no [tool.poet.check] in a {PROJECT_NAME}.",
        code="check_not_configured",
        hint="Write a first one: poet check --init examples.mlp:step --device jetson-tx2",
    )


def read_settings_file(path: Path) -> SettingsFile:
    """The configuration in `path`: [tool.poet.check] of a pyproject.toml, the whole of any other
    file. Raises UsageError."""
    values, text = _parsed(path)
    prefix = _IN_PROJECT if path.name == PROJECT_NAME else ()
    found = _inside(values, prefix)
    if not isinstance(found, dict):
        raise UsageError(
            f"There is no [tool.poet.check] in {shown(path)}.",
            code="check_not_configured",
            hint="Write a first one: poet check --init examples.mlp:step --device jetson-tx2",
        )
    return SettingsFile(path=path, values=found, prefix=prefix, blocks=tuple(_blocks(text)))


def _of_project(path: Path) -> SettingsFile | None:
    """The configuration of a pyproject.toml that has one."""
    if not path.is_file() or b"poet" not in read_file(_near(path), _MOST_BYTES):
        return None
    near = _near(path)
    values, _ = _parsed(near)
    return read_settings_file(near) if _inside(values, _IN_PROJECT) is not None else None


def _near(path: Path) -> Path:
    """As it is named from the current folder."""
    return Path(os.path.relpath(path))


def _parsed(path: Path) -> tuple[dict[str, Any], str]:
    data = read_file(path, _MOST_BYTES)
    try:
        text = data.decode()
        return tomllib.loads(text), text
    except UnicodeDecodeError as error:
        raise _not_toml(path, f"byte {error.start} is no UTF-8") from error
    except tomllib.TOMLDecodeError as error:
        place = re.search(r"at line (\d+)", str(error))
        raise _not_toml(path, str(error), f":{place.group(1)}" if place else "") from error
    except RecursionError as error:
        raise _not_toml(path, "it is nested too deeply") from error


def _not_toml(path: Path, why: str, line: str = "") -> UsageError:
    return UsageError(
        f"{shown(path)}{line}: Expected TOML; {printable(why)}.",
        code="check_settings",
        hint='Strings are in quotes, as in ram = "512MiB"; each entry begins with its [[...]] line.',
    )


def _inside(values: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        values = values.get(name) if isinstance(values, dict) else None
    return values


def _blocks(text: str) -> list[_Block]:
    """Where headers and keys stand. A line that only looks like one costs a line number, no more:
    the values are tomllib's."""
    blocks, quote = [_Block((), listed=False, line=1)], ""
    for number, line in enumerate(text.splitlines(), start=1):
        if quote:
            quote = "" if quote in line else quote
            continue
        header = _HEADER.fullmatch(line)
        key = _KEY.match(line)
        if header is not None:
            names = tuple(part.strip(" \"'") for part in header.group(2).split("."))
            blocks.append(_Block(names, listed=bool(header.group(1)), line=number))
        elif key is not None:
            name = next(part for part in key.groups() if part is not None)
            blocks[-1].keys.setdefault(name, number)
        quote = next((mark for mark in ('"""', "'''") if line.count(mark) % 2), "")
    return blocks


def shown(path: Path) -> str:
    """A path, safe to show."""
    return printable(str(path), 200)
