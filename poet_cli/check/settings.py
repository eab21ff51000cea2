"""What a configuration asks for: defaults, entries, and the rows that they multiply out to.

    [tool.poet.check]                 defaults of every entry: all keys below but step, steps, name
    trace_timeout = 300               seconds that a model's factory and its tracing may take
    trace_memory = "16GiB"            address space of the process that traces; default: no limit

    [[tool.poet.check.entry]]
    step = "models.keyword:step"      or steps = [...]; returns (model, loss_fn, optimizer, batch)
    device = "nrf52840"               or devices = [...]; names, or paths of profiles
    ram = "256KiB"                    or {nrf52840 = "256KiB", ...}; default: all that the device has
    batch_size = 8                    or batch_sizes = [...]; default: the factory is not told one
    max_time = "1.2x"                 of keep-everything, or "3 s"
    max_energy = "1.05x"              of keep-everything, or "2 J"
    seconds = 10                      that the planner may take
    level = "error"                   or "warn": shown, and the exit code is not touched
    undecided = "error"               or "warn": the same where the planner's time is up
    page = true, rematerialize = true what the planner may do
    name = "keyword"                  what the row is called; default: model, batch size, device

Lists multiply out. Invariant: every row has a name of its own, and every error has file, line and fix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from poet_cli.check import settings_values as values
from poet_cli.check.entries import Entry, Place
from poet_cli.check.profiles import device_label, is_path, load_profile
from poet_cli.check.settings_file import SettingsFile, find_settings
from poet_cli.check.settings_values import Spot
from poet_core.errors import DeviceError, PoetError
from poet_core.text import printable
from poet_core.units import format_bytes

MOST_ROWS = 1000
"""Rows of a configuration after its lists were multiplied out."""
DEFAULT_TRACE_SECONDS = 300.0

_Read = Callable[[Any, Spot], Any]
# How each key is read, and the name of the field of an Entry that it becomes.
_PLAIN: dict[str, tuple[_Read, str]] = {
    "max_time": (values.time_limit, "max_time"),
    "max_energy": (values.energy_limit, "max_energy"),
    "seconds": (values.seconds, "planner_seconds"),
    "level": (values.level, "level"),
    "undecided": (values.level, "undecided"),
    "page": (values.boolean, "page"),
    "rematerialize": (values.boolean, "rematerialize"),
}
_LISTS: dict[str, _Read] = {
    "step": values.step,
    "device": values.text,
    "batch_size": values.batch_size,
}
_ENTRY_KEYS = [*_LISTS, "steps", "devices", "batch_sizes", "ram", "name", *_PLAIN]
_RUN_KEYS = ["trace_timeout", "trace_memory"]
_TOP_KEYS = [
    "entry",
    *_RUN_KEYS,
    *(key for key in _ENTRY_KEYS if key not in {"step", "steps", "name"}),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """A configuration, read. `folder`: where models are imported from."""

    file: Path
    folder: Path
    entries: tuple[Entry, ...]
    trace_seconds: float = DEFAULT_TRACE_SECONDS
    trace_memory_bytes: int | None = None


def load_settings(start: Path, config: Path | None = None) -> Settings:
    """The configuration at `config` or above `start`. Raises UsageError and what a device profile
    raises, each with file and line."""
    file = find_settings(start, config)
    _known(file.values, _TOP_KEYS, file.key_line, file)
    defaults = {key: value for key, value in file.values.items() if key in _ENTRY_KEYS}
    written = file.values.get("entry", [])
    if not isinstance(written, list) or not all(isinstance(one, dict) for one in written):
        file.refuse(
            file.key_line("entry"),
            "entry: expected a list of tables.",
            code="check_settings",
            hint=f"Begin each with {_header(file)}",
        )
    if not written:
        file.refuse(
            file.key_line("entry"),
            "Expected at least one entry, got none.",
            code="check_without_entries",
            hint=f'{_header(file)} step = "models.keyword:step", device = "jetson-tx2", ram = "1GiB"',
        )
    entries: list[Entry] = []
    for index, one in enumerate(written):
        line = _LineOf(file=file, index=index, count=len(written), own=frozenset(one))
        _known(one, _ENTRY_KEYS, line, file)
        entries += _rows(_without_rivals(one, defaults), line, MOST_ROWS - len(entries))
    _check_names(entries, file)
    memory = file.values.get("trace_memory")
    return Settings(
        file=file.path,
        folder=file.folder,
        entries=tuple(entries),
        trace_seconds=values.seconds(
            file.values.get("trace_timeout", DEFAULT_TRACE_SECONDS),
            _run_spot(file, "trace_timeout"),
        ),
        trace_memory_bytes=None
        if memory is None
        else values.size(memory, _run_spot(file, "trace_memory")),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _LineOf:
    """The line of an entry's key, or of the default that it takes."""

    file: SettingsFile
    index: int
    count: int
    own: frozenset[str]

    def __call__(self, key: str = "") -> int:
        if key and key not in self.own and key in self.file.values:
            return self.file.key_line(key)
        return self.file.entry_line(self.index, self.count, key)

    def spot(self, key: str) -> Spot:
        return Spot(file=self.file, line=self(key), key=key)


def _run_spot(file: SettingsFile, key: str) -> Spot:
    return Spot(file=file, line=file.key_line(key), key=key)


def _header(file: SettingsFile) -> str:
    return f"[[{'.'.join((*file.prefix, 'entry'))}]]"


def _known(
    table: Mapping[str, Any], known: list[str], line: Callable[[str], int], file: SettingsFile
) -> None:
    for key in table:
        if key in known:
            continue
        near = values.nearest(key, known)
        meant = f"Did you mean {near}? " if near else ""
        file.refuse(
            line(key),
            f"There is no key {printable(key, 60)!r} here.",
            code="check_settings",
            hint=f"{meant}Known: {', '.join(known)}.",
        )


def _without_rivals(own: Mapping[str, Any], defaults: dict[str, Any]) -> dict[str, Any]:
    """The entry's keys; where it says `device`, a default of `devices` is not meant for it."""
    for one in _LISTS:
        if one in own or f"{one}s" in own:
            defaults = {
                key: value for key, value in defaults.items() if key not in {one, f"{one}s"}
            }
    return defaults | dict(own)


def _rows(written: dict[str, Any], line: _LineOf, room: int) -> list[Entry]:
    """The rows of one entry."""
    lists = {key: _list_of(written, key, read, line) for key, read in _LISTS.items()}
    steps, devices, sizes = lists["step"], lists["device"], lists["batch_size"] or [None]
    for key, found, example in (
        ("step", steps, '"models.keyword:step"'), ("device", devices, '"jetson-tx2"')
    ):  # fmt: skip
        if not found:
            line.file.refuse(
                line(), f"The entry has no {key}.", code="check_settings", hint=f"{key} = {example}"
            )
    if len(steps) * len(devices) * len(sizes) > room:
        line.file.refuse(
            line(),
            f"The lists multiply out to more than {MOST_ROWS} rows.",
            code="check_too_many",
            hint="Split the configuration into several files, each with its poet check --config.",
        )
    ram = {device: _ram(written.get("ram"), device, line, devices) for device in devices}
    plain = {
        field: read(written[key], line.spot(key))
        for key, (read, field) in _PLAIN.items()
        if key in written
    }
    given = values.text(written["name"], line.spot("name")) if "name" in written else ""
    place = Place(file=line.file.path, line=line())
    return [
        Entry(
            name=_name(given, lists, step, size, device),
            step=step, device=device, batch_size=size, ram_bytes=ram[device], place=place,
            ram_by_device=isinstance(written.get("ram"), dict), **plain,
        )
        for step, size, device in product(steps, sizes, devices)
    ]  # fmt: skip


def _list_of(written: Mapping[str, Any], key: str, read: _Read, line: _LineOf) -> list[Any]:
    """What `key` or its plural says; empty where neither is there."""
    plural = f"{key}s"
    if key in written and plural in written:
        line.file.refuse(
            line(plural),
            f"Expected one of {key} and {plural}, got both.",
            code="check_settings",
            hint="Leave one of them out.",
        )
    if key in written:
        return [read(written[key], line.spot(key))]
    found = values.several(read, written[plural], line.spot(plural)) if plural in written else []
    return list(dict.fromkeys(found))


def _ram(written: Any, device: str, line: _LineOf, devices: list[str]) -> int:
    """The budget on `device`, at most what it has."""
    spot = line.spot("ram")
    try:
        profile = load_profile(device, line.file.folder)
    except PoetError as error:
        key = "devices" if "devices" in line.own else "device"
        near = error.details.get("did_you_mean") if isinstance(error, DeviceError) else ""
        fix = f'{key} = "{str(near).split(",")[0]}". ' if near and key == "device" else ""
        line.file.refuse(line(key), error.message, code=error.code, hint=fix + error.hint)
    if isinstance(written, dict):
        for name in written:
            if name not in devices:
                near = values.nearest(name, devices)
                spot.refuse(
                    "a RAM budget for each device of the entry",
                    name,
                    f'{near or devices[0]} = "512MiB"; devices here: {", ".join(devices)}.',
                )
        if device not in written:
            key = f'"{device}"' if is_path(device) else device
            spot.refuse(f"a budget for {device} too", written, f'ram = {{{key} = "512MiB", ...}}')
        written = written[device]
    if written is None:
        if profile.measured:
            line.file.refuse(
                line(),
                f"The entry has no ram, and {device} is this machine: only you know what it may use.",
                code="ram_missing",
                hint='ram = "1GiB"',
            )
        return profile.ram_bytes
    found = values.size(written, spot)
    if found > profile.ram_bytes:
        spot.refuse(
            f"at most the RAM of {device}, {format_bytes(profile.ram_bytes)}",
            written,
            f'ram = "{profile.ram_bytes}B", or a budget a device: ram = {{{device} = ...}}',
            "ram_above_device",
        )
    return found


def _name(
    given: str, lists: Mapping[str, list[Any]], step: str, size: int | None, device: str
) -> str:
    """What a row is called: the given name, and what tells it from its siblings."""
    module, _, function = step.partition(":")
    label = module.rpartition(".")[2] + ("" if function == "step" else f":{function}")
    parts = [given] if given else [label]
    if given and len(lists["step"]) > 1:
        parts.append(label)
    if size is not None and (not given or len(lists["batch_size"]) > 1):
        parts.append(f"batch {size}")
    if not given or len(lists["device"]) > 1:
        parts.append(f"on {device_label(device)}")
    return " ".join(parts)


def _check_names(entries: list[Entry], file: SettingsFile) -> None:
    seen: dict[str, Entry] = {}
    for entry in entries:
        other = seen.setdefault(entry.name, entry)
        if other is not entry:
            file.refuse(
                entry.place.line,
                f"Two rows are called {printable(entry.name)!r}; the other is from line "
                f"{other.place.line}.",
                code="check_name_twice",
                hint=f'Give one of the entries a name of its own: name = "{printable(entry.name)} 2"',
            )
