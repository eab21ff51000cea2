"""Two slots: whatever is cut or damaged, the newest whole checkpoint is found, or an error is."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from poet_core.errors import DataError, UsageError
from poet_runtime.checkpointing.slots import Checkpoint, CheckpointSlots, Part
from poet_runtime.flash.flash_file import address_of
from tests.runtime.disk_parts import Event, scripted

SIZES = (10, 0, 4096, 100_000)


def nothing() -> None:
    """No progress to be told."""


def contents(number: int) -> list[bytes]:
    chance = random.Random(number)
    return [chance.randbytes(size) for size in SIZES]


def parts(number: int) -> Iterator[Part]:
    for place, content in enumerate(contents(number)):
        buffer = bytearray(content)
        pieces = [memoryview(buffer)] if content else []
        yield Part(facts={"place": place}, size_bytes=len(content), pieces=lambda p=pieces: p)  # type: ignore[misc]


@contextmanager
def slots(path: Path, script: Callable[[Event], str] = lambda _: "") -> Iterator[CheckpointSlots]:
    opened = CheckpointSlots(path, open_disk=scripted(script))
    try:
        yield opened
    finally:
        opened.close()


def write(opened: CheckpointSlots, number: int) -> None:
    opened.write({"number": number}, parts(number), nothing)


def holds(opened: CheckpointSlots, checkpoint: Checkpoint | None, number: int) -> bool:
    assert checkpoint is not None
    assert checkpoint.facts == {"number": number}
    for part, content in zip(checkpoint.parts, contents(number), strict=True):
        buffer = bytearray(max(1, part.size_bytes))
        opened.read(checkpoint, part, address_of(buffer))
        assert bytes(buffer[: part.size_bytes]) == content
    return True


def test_the_newest_is_found_and_the_one_before_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with slots(path) as opened:
        assert opened.newest(nothing) is None
        for number in range(5):
            write(opened, number)
    with slots(path) as opened:
        assert holds(opened, opened.newest(nothing), 4)
        write(opened, 5)
        assert holds(opened, opened.newest(nothing), 5)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["run.0", "run.1"]
    assert all(file.stat().st_mode & 0o777 == 0o600 for file in tmp_path.iterdir())


def events_of_a_write(folder: Path) -> list[Event]:
    seen: list[Event] = []

    def listen(event: Event) -> str:
        seen.append(event)
        return ""

    with slots(folder / "listen", listen) as opened:
        write(opened, 0)
        seen.clear()
        write(opened, 1)
    return seen


def test_a_write_that_is_cut_anywhere_leaves_the_one_before(tmp_path: Path) -> None:
    events = events_of_a_write(tmp_path)
    assert len(events) > 6
    for at, (_, call) in enumerate(events):
        for word in ("io", "torn") if call == "write" else ("io",):
            path = tmp_path / f"cut-{at}-{word}"
            left = -1

            def cut(_: Event, word: str = word) -> str:
                nonlocal left
                left -= 1
                return word if left == -1 else ""

            with slots(path, cut) as opened:
                write(opened, 7)
                left = at
                with pytest.raises(OSError, match="Input/output error"):
                    write(opened, 8)
                left = -2
            with slots(path) as opened:
                whole_header = at == len(events) - 1 or (at == len(events) - 2 and word == "torn")
                # A header is one block: once its write is through, so is the checkpoint.
                assert holds(opened, opened.newest(nothing), 8 if whole_header else 7)
            with slots(path, cut) as opened:
                opened.newest(nothing)
                write(opened, 9)
                assert holds(opened, opened.newest(nothing), 9)


def test_the_first_write_cut_is_no_checkpoint(tmp_path: Path) -> None:
    left = 3

    def cut(event: Event) -> str:
        nonlocal left
        left -= event[1] == "write"
        return "torn" if left == 0 else ""

    with slots(tmp_path / "run", cut) as opened, pytest.raises(OSError, match="Input/output"):
        write(opened, 0)
    with slots(tmp_path / "run") as opened:
        assert opened.newest(nothing) is None


def damage(path: Path, at: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@pytest.mark.parametrize("place", ["header", "data", "table"])
def test_a_damaged_checkpoint_is_passed_over_and_two_are_an_error(
    tmp_path: Path, place: str
) -> None:
    path = tmp_path / "run"
    with slots(path) as opened:
        write(opened, 0)
        write(opened, 1)
    at = {"header": 17, "data": 3 * 4096 + 50_000, "table": 4096 * 28 + 30}[place]
    damage(tmp_path / "run.1", at)
    with slots(path) as opened:
        found = opened.newest(nothing)
        assert holds(opened, found, 0)
        assert found is not None
        assert [text.split(":")[0] for text in found.skipped] == ["run.1"]
    damage(tmp_path / "run.0", at)
    with slots(path) as opened, pytest.raises(DataError) as caught:
        opened.newest(nothing)
    assert caught.value.code == "checkpoint_corrupt"


def test_a_checkpoint_that_was_cut_short_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with slots(path) as opened:
        write(opened, 0)
        write(opened, 1)
    os.truncate(tmp_path / "run.1", 3 * 4096)
    with slots(path) as opened:
        assert holds(opened, opened.newest(nothing), 0)


def test_a_read_error_counts_as_damage(tmp_path: Path) -> None:
    path = tmp_path / "run"
    with slots(path) as opened:
        write(opened, 0)
        write(opened, 1)

    def broken(event: Event) -> str:
        return "io" if event == ("run.1", "read") else ""

    with slots(path, broken) as opened:
        found = opened.newest(nothing)
        assert holds(opened, found, 0)
        assert found is not None
        assert "Input/output error" in found.skipped[0]


def test_files_of_others_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "run.1").write_text("not a checkpoint")
    with pytest.raises(UsageError) as caught, slots(tmp_path / "run"):
        pass
    assert caught.value.code == "checkpoint_foreign"
    assert (tmp_path / "run.1").read_text() == "not a checkpoint"


def test_two_runs_never_share_slots(tmp_path: Path) -> None:
    with slots(tmp_path / "run"), pytest.raises(UsageError) as caught, slots(tmp_path / "run"):
        pass
    assert caught.value.code == "checkpoint_busy"
