"""`poet devices measure`: this machine's flash in a profile that planning takes."""

from dataclasses import replace

import pytest

from poet_cli.commands.devices import profile_as_toml
from poet_core.device import Source
from poet_core.device_document import device_to_document, read_device_toml
from poet_core.devices import device_names, load_device
from poet_runtime.flash import calibrate
from poet_runtime.flash.calibrate import FlashSpeed

SPEED = FlashSpeed(
    page_in_latency_seconds=2e-4,
    page_in_bytes_per_second=7.5e8,
    page_out_latency_seconds=3e-4,
    page_out_bytes_per_second=5e8,
    direct=True,
    moved_bytes=256 << 20,
)


@pytest.fixture
def asked(monkeypatch):
    directories = []

    def measured(directory, _options, *, aligned):
        assert aligned  # as it is for a worker with an arena
        directories.append(directory)
        return SPEED

    calibrate._calibrated.cache_clear()
    monkeypatch.setattr(calibrate, "measure_flash", measured)
    yield directories
    calibrate._calibrated.cache_clear()


def test_what_was_measured_is_shown_and_written(poet, asked, tmp_path):
    result = poet("devices", "measure", "--paging-directory", tmp_path, "-o", "here.toml")
    assert result.code == 0
    assert "7.5e+08" in result.out
    assert "256 MiB each way past the page cache" in result.out
    assert asked == [str(tmp_path)]
    document = poet("devices", "measure", "--paging-directory", tmp_path, "--json").json
    profile = read_device_toml((tmp_path / "here.toml").read_bytes())
    assert device_to_document(profile) == document
    assert profile.page_out_bytes_per_second == 5e8
    assert profile.measured


def test_a_plan_is_made_with_it(poet, asked, documents):
    poet("devices", "measure", "-o", "here.toml")
    result = poet("plan", "graph.json", "--device-file", "here.toml", "--ram", "32KiB", "--json")
    assert result.code == 0, result.err


def test_standard_output_has_the_profile_alone(poet, asked):
    out = poet("devices", "measure", "-o", "-").out
    assert read_device_toml(out).page_in_latency_seconds == 2e-4


def test_a_directory_that_is_not_there(poet):
    result = poet("devices", "measure", "--paging-directory", "nowhere")
    assert result.code == 2
    assert "[paging_directory_missing]" in result.err


@pytest.mark.parametrize("name", device_names())
def test_every_profile_survives_toml(name):
    profile = load_device(name)
    assert read_device_toml(profile_as_toml(profile)) == profile


def test_hostile_text_survives_toml():
    text = 'a "b" \\ \x00\x1f\x7f\t\n\u2028 é 𝄞 # = [x]'
    profile = replace(
        load_device("host"), title=text, overlap=False, sources={"overlap": Source(text=text)}
    )
    assert read_device_toml(profile_as_toml(profile)) == profile
