"""What a test returns or hands in, against the devices that its marks name.

Invariant: the step is traced once a test, in this process, and every mark is judged, as by `poet
check`. Undecided fails like everything that is not known to fit, unless the mark says otherwise.
"""

from __future__ import annotations

import logging
import os
import threading
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import pytest

from poet_cli.check import settings_values as values
from poet_cli.check.entries import Entry, Place
from poet_cli.check.profiles import load_profile, profile_of
from poet_cli.check.report import Row, Verdict
from poet_cli.check.settings_file import SettingsFile
from poet_cli.check.settings_values import Spot
from poet_core.errors import PoetError, UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_core.graph import TrainingGraph

MARK = "fits_device"
_UNDECIDED = ("error", "warn", "skip")
_READ = {
    "ram": (values.size, "ram_bytes"),
    "max_time": (values.time_limit, "max_time"),
    "max_energy": (values.energy_limit, "max_energy"),
    "seconds": (values.seconds, "planner_seconds"),
    "page": (values.boolean, "page"),
    "rematerialize": (values.boolean, "rematerialize"),
}
"""The keys of a configuration that a mark takes, with the fields that they become."""


class UndecidedWarning(pytest.PytestWarning):
    """The planner's time ended without a plan and without a proof."""


class FitsDevice:
    """What the fixture gives to a test: called with a step, it judges it."""

    def __init__(self, item: pytest.Function) -> None:
        self._item = item

    def __call__(self, step: Any, device: str | None = None, **limits: Any) -> Row:
        """The row of `step`, which is (model, loss_fn, optimizer, batch), on the marked device or
        on `device` within `limits`, the mark's own keywords. Fails the test where it does not fit."""
        wanted = _wanted(self._item, device, limits)
        self._item.stash[_JUDGED] = True
        return _outcome(wanted, _graph(self._item, step, [wanted]))


_JUDGED = pytest.StashKey[bool]()


class _Wanted:
    """One device within its limits, as a mark or a call of the fixture asks for it."""

    def __init__(self, item: pytest.Function, device: Any, limits: Mapping[str, Any]) -> None:
        asked = dict(limits)
        self.undecided = asked.pop("undecided", "error")
        line = (item.location[1] or 0) + 1
        file = SettingsFile(path=Path(os.path.relpath(item.path)), values={}, prefix=(), blocks=())
        self.entry = _entry(item, device, asked, file, line)
        if self.undecided not in _UNDECIDED:
            spot = Spot(file=file, line=line, key="undecided")
            spot.refuse('"error", "warn" or "skip"', self.undecided, 'undecided="warn"')


def judge_returned(item: pytest.Function, returned: Any) -> None:
    """Judge what a marked test returned, against each of its marks. Nothing is wrong with a test
    that returns nothing and has called the fixture."""
    if returned is None and item.stash.get(_JUDGED, False):
        return
    try:
        wanted = [_of_mark(item, mark) for mark in _marks(item)]
    except PoetError as error:
        _fail(error)
    graph = _graph(item, returned, wanted)
    skipped = ""
    for one in wanted:
        try:
            _outcome(one, graph)
        except pytest.skip.Exception as skip:
            skipped = str(skip)
    if skipped:
        pytest.skip(skipped)


def _marks(item: pytest.Function) -> list[pytest.Mark]:
    return list(item.iter_markers(MARK))


def _of_mark(item: pytest.Function, mark: pytest.Mark) -> _Wanted:
    if len(mark.args) > 1:
        raise UsageError(
            f"Expected one device in a mark, got {len(mark.args)}.",
            hint='Write a mark for each: @pytest.mark.fits_device("jetson-tx2", ram="512MiB").',
        )
    device = mark.args[0] if mark.args else mark.kwargs.get("device")
    return _Wanted(item, device, {k: v for k, v in mark.kwargs.items() if k != "device"})


def _wanted(item: pytest.Function, device: str | None, limits: Mapping[str, Any]) -> _Wanted:
    """What a call of the fixture asks for: its own words, over those of the mark for the device."""
    marked = _marks(item)
    try:
        if device is not None:
            return _Wanted(item, device, limits)
        if len(marked) != 1 or limits:
            raise UsageError(
                f"Expected the fixture {MARK} to be told a device, or one mark that tells it; "
                f"this test has {len(marked)}.",
                hint=f'{MARK}(step, "jetson-tx2", ram="512MiB")',
            )
        return _of_mark(item, marked[0])
    except PoetError as error:
        _fail(error)


def _entry(
    item: pytest.Function, device: Any, limits: Mapping[str, Any], file: SettingsFile, line: int
) -> Entry:
    name = values.text(device, Spot(file=file, line=line, key="device"))
    fields: dict[str, Any] = {}
    for key, value in limits.items():
        spot = Spot(file=file, line=line, key=key)
        if key not in _READ:
            near = values.nearest(key, [*_READ, "undecided"])
            fix = f"Did you mean {near}? " if near else ""
            file.refuse(
                line,
                f"{MARK} has no keyword {printable(key, 60)!r}.",
                code="check_settings",
                hint=f"{fix}Known: {', '.join([*_READ, 'undecided'])}.",
            )
        read, field = _READ[key]
        fields[field] = read(value, spot)
    profile = load_profile(name, file.folder)
    ram_bytes = fields.setdefault("ram_bytes", profile.ram_bytes)
    if ram_bytes > profile.ram_bytes or ("ram" not in limits and profile.measured):
        Spot(file=file, line=line, key="ram").refuse(
            f"a budget within the RAM of {name}",
            limits.get("ram"),
            f'ram="{min(profile.ram_bytes, 2**30)}B"',
        )
    place = Place(file=file.path, line=line)
    return Entry(
        name=f"{item.name} on {name}", step=item.nodeid, device=name, place=place, **fields
    )


def _graph(item: pytest.Function, step: Any, wanted: Sequence[_Wanted]) -> TrainingGraph:
    from poet_cli.check.trace_advice import explained
    from poet_cli.loading import checked_step, require_torch

    measured = any(profile_of(one.entry).measured for one in wanted)
    try:
        require_torch()
        with _threads(measured), _quiet_trace():
            from poet_runtime.tracing.trace import trace

            made = checked_step(step, item.name)
            return trace(*made, measure_seconds=measured, name=item.name).graph
    except PoetError as error:
        _fail(explained(error, f"{item.path.stem}:{item.originalname}", item.path.parent))


@contextmanager
def _threads(measured: bool) -> Iterator[None]:
    """One thread, as where `poet check` traces: the same graph on every machine. Seconds are
    measured with the threads that the suite has."""
    import torch

    before = torch.get_num_threads()
    if not measured:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _quiet_trace() -> Iterator[None]:
    """torch.export writes records for its own tools to a logger, and pytest would show each of them,
    empty, below the failure."""
    logger = logging.getLogger("torch.__trace")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _outcome(wanted: _Wanted, graph: TrainingGraph) -> Row:
    """The row of a step that fits; else the test fails, warns or is skipped."""
    from poet_cli.check.decide_child import decided
    from poet_core.graph_document import graph_sha256

    row = decided(wanted.entry, graph, graph_sha256(graph), threading.Event())
    if row.verdict is Verdict.FITS:
        return row
    told = _told(row)
    if row.verdict is Verdict.UNDECIDED and wanted.undecided == "skip":
        pytest.skip(told)
    if row.verdict is Verdict.UNDECIDED and wanted.undecided == "warn":
        warnings.warn(UndecidedWarning(told), stacklevel=1)
        return row
    pytest.fail(told, pytrace=False)


def _fail(error: PoetError) -> NoReturn:
    lines = [f"{printable(error.message, 1000)} [{error.code}]"]
    if error.hint:
        lines.append(f"  hint: {printable(error.hint, 1000)}")
    pytest.fail("\n".join(lines), pytrace=False)


def _told(row: Row) -> str:
    """The row in `poet check`'s own words; the first line is what pytest's summary shows."""
    from poet_cli.check.formats import words
    from poet_cli.check.formats.escape import line

    (_, reason), *others = words.details(row)
    code = f" [{row.code}]" if row.code else ""
    lines = [f"{row.verdict} on {line(row.entry.device)}: {line(reason, 2000)}{code}"]
    lines += [f"  {label}: {line(sentence, 2000)}" for label, sentence in others]
    if fix := words.fix_of(row):
        # As a keyword of the mark: true and false are the only values that are not Python's too.
        python = fix.replace(" = true", " = True").replace(" = false", " = False")
        lines.append(f"  Fix: {line(python).replace(' = ', '=')} in @pytest.mark.{MARK}(...)")
    return "\n".join(lines)
