"""The flash of this machine as the pager finds it, and who plans with it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from poet_core.devices import load_device
from poet_core.errors import UsageError
from poet_core.plan import Allowed, Objective
from poet_runtime.flash import calibrate
from poet_runtime.flash.calibrate import calibrated_host, measure_flash
from poet_runtime.flash.flash_file import SystemDisk
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.plan_source import PlanSource

pytestmark = pytest.mark.alone

OPTIONS = FlashOptions(allow_ram=True)


class SlowDisk(SystemDisk):
    """20 MB/s in, 10 MB/s out, whatever the disk under it does."""

    def write(self, parts: Sequence[memoryview], offset: int) -> int:
        count = super().write(parts, offset)
        time.sleep(count / 10e6)
        return count

    def read(self, parts: Sequence[memoryview], offset: int) -> int:
        count = super().read(parts, offset)
        time.sleep(count / 20e6)
        return count


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sixteenth of the bytes, one thread, and nothing kept from one test to the next."""
    monkeypatch.setattr(calibrate, "_LARGE_BYTES", 2**19)
    monkeypatch.setattr(calibrate, "_ENOUGH_SECONDS", 0.2)
    calibrate._calibrated.cache_clear()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
    calibrate._calibrated.cache_clear()


def test_rates_are_those_of_the_disk(tmp_path: Path) -> None:
    speed = measure_flash(tmp_path, replace(OPTIONS, open_disk=SlowDisk))
    assert 5e6 < speed.page_in_bytes_per_second <= 20.5e6
    assert 2.5e6 < speed.page_out_bytes_per_second <= 10.5e6
    assert 0 < speed.page_in_latency_seconds < 0.05
    assert list(tmp_path.iterdir()) == []


def test_the_profile_says_what_was_measured_here_and_keeps_the_rest(tmp_path: Path) -> None:
    stock, found = load_device("host"), calibrated_host(tmp_path, OPTIONS)
    assert found.name == "host"
    assert found.measured
    for name in ("page_in_latency_seconds", "page_in_bytes_per_second",
                 "page_out_latency_seconds", "page_out_bytes_per_second"):  # fmt: skip
        assert getattr(found, name) != getattr(stock, name)
        assert "measured on this machine" in found.sources[name].text
        assert not found.sources[name].estimate
    assert found.flops_per_second == stock.flops_per_second
    assert found.sources["flops_per_second"] == stock.sources["flops_per_second"]


def test_it_is_measured_once_for_a_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []
    measure = calibrate.measure_flash

    def counted(directory: object, options: FlashOptions, *, aligned: bool) -> calibrate.FlashSpeed:
        asked.append(directory)
        return measure(tmp_path, options, aligned=aligned)

    monkeypatch.setattr(calibrate, "measure_flash", counted)
    assert calibrated_host(tmp_path, OPTIONS) is calibrated_host(str(tmp_path), OPTIONS)
    calibrated_host(tmp_path / "other", OPTIONS)
    assert len(asked) == 2


def test_a_named_file_is_left_alone(tmp_path: Path) -> None:
    file = tmp_path / "paging"
    file.write_bytes(b"not ours")
    measure_flash(None, replace(OPTIONS, file=file))
    assert file.read_bytes() == b"not ours"


def test_ram_is_no_flash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("poet_runtime.flash.paging_directory.memory_file_system", lambda _: "tmpfs")
    with pytest.raises(UsageError) as caught:
        calibrated_host(tmp_path)
    assert caught.value.code == "paging_on_ram"


def source(directory: Path, **wishes: object) -> PlanSource:
    told: dict[str, object] = {
        "device": None, "ram": "1MiB", "plan": None, "planner": None, "time_ratio": None,
        "objective": Objective.TIME, "allowed": None, "flash_write_bytes": None,
        "wall_seconds": 1.0, "paging_directory": directory, "flash": OPTIONS,
    }  # fmt: skip
    return PlanSource(**{**told, **wishes})  # type: ignore[arg-type]


def test_plans_for_time_on_this_machine_rest_on_it_and_no_others(tmp_path: Path) -> None:
    stock = load_device("host")
    measured = source(tmp_path)._target()
    assert measured == calibrated_host(tmp_path, OPTIONS, aligned=False)  # no arena in tests
    assert source(tmp_path, device="host")._target() == measured
    for unmeasured in (
        source(tmp_path, objective=Objective.ENERGY),
        source(tmp_path, device=stock),
        source(tmp_path, allowed=Allowed(page=False)),
        source(tmp_path, flash=FlashOptions(tier="host", allow_ram=True)),
        source(tmp_path / "missing"),
    ):
        assert unmeasured._target() == stock
    assert source(tmp_path, device="jetson-tx2")._target().name == "jetson-tx2"
