"""The shipped profiles: POET's published figures, and a source behind every number."""

import re

import pytest

from poet_core.device_document import VALUE_FIELDS, device_to_document
from poet_core.devices import device_names, load_device
from poet_core.errors import DeviceError

NAMES = (
    "cuda", "host", "jetson-tx2", "mkr1000", "nrf52840", "raspberry-pi-4b", "raspberry-pi-4b-uncached",
)  # fmt: skip

# POET's published program, poet/chipsets.py, as expressions: FLOP/s, FLOP/J, page-in latency and
# rate, page-out latency and rate, memory power.
PUBLISHED = {
    "mkr1000": (
        2000 / 0.012, 2000 / (0.012 * 0.020 * 3.3), 0.109e-3, 4616.51e3, 0.113e-3, 4440e3, 0.33,
    ),
    "nrf52840": (
        16283e5 / 255.6237, 16283e5 / (255.6237 * 0.003328 * 3.3), 0.109e-3, 4616.51e3, 0.113e-3,
        4440e3, 0.33,
    ),
    "raspberry-pi-4b": (
        2e9, 16283e5 / (13.53 * 0.6 * 5), 0.00509561e-3, 45.5e6, 0.0185314e-3, 24.5e6, 0.15,
    ),
    "raspberry-pi-4b-uncached": (
        16283e5 / 13.53, 16283e5 / (13.53 * 0.6 * 5), 0.00509561e-3, 45.5e6, 4.23532e-3, 17.1e6,
        0.15,
    ),
    "jetson-tx2": (None, None, 0.54e-3, 108.5e6, 2.396e-3, 94.37e6, 0.309),
}  # fmt: skip


def test_the_shipped_devices():
    assert device_names() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_every_shipped_number_has_a_source(name):
    device = load_device(name)
    assert device.name == name
    document = device_to_document(device)
    for field in VALUE_FIELDS:
        if field in document and field != "measured":
            assert len(device.sources[field].text) > 20, field


@pytest.mark.parametrize("name", PUBLISHED)
def test_figures_of_poets_published_program(name):
    device = load_device(name)
    figures = (
        device.flops_per_second, device.flops_per_joule, device.page_in_latency_seconds,
        device.page_in_bytes_per_second, device.page_out_latency_seconds,
        device.page_out_bytes_per_second, device.flash_watts,
    )  # fmt: skip
    for figure, published in zip(figures, PUBLISHED[name], strict=True):
        if published is not None:
            assert figure == pytest.approx(published, rel=1e-12)


def test_ram_of_the_small_and_the_large_device():
    sizes = {name: load_device(name).ram_bytes for name in ("mkr1000", "nrf52840", "jetson-tx2")}
    assert sizes == {"mkr1000": 32 * 2**10, "nrf52840": 256 * 2**10, "jetson-tx2": 8 * 2**30}


def test_the_pi_says_that_its_speed_and_its_energy_line_disagree():
    source = load_device("raspberry-pi-4b").sources["flops_per_second"]
    assert "1.2035e8" in source.text
    assert source.estimate


def test_what_poet_did_not_publish_is_marked_as_an_estimate():
    sources = load_device("jetson-tx2").sources
    assert sources["flops_per_second"].estimate
    assert sources["flops_per_joule"].estimate
    assert "NVIDIA" in sources["flops_per_second"].text


def test_only_machines_at_hand_prefer_measured_seconds_and_their_figures_are_estimates():
    at_hand = [name for name in NAMES if load_device(name).measured]
    assert at_hand == ["cuda", "host"]
    guessed = ("flops_per_second", "flops_per_joule", "page_in_bytes_per_second", "flash_watts")
    for name in at_hand:
        sources = load_device(name).sources
        assert all(sources[field].estimate for field in guessed)


@pytest.mark.parametrize(
    "name",
    ["jetson_tx2", "Jetson-TX2", "../device_profiles/host", "host.toml", "/etc/passwd", "", "\0"],
)
def test_an_unknown_device_is_refused_by_name(name):
    with pytest.raises(DeviceError) as caught:
        load_device(name)
    assert caught.value.code == "unknown_device"
    assert "mkr1000" in caught.value.hint
    assert not re.search(r"[\x00-\x1f]", str(caught.value))


def test_close_matches_are_named_first():
    with pytest.raises(DeviceError, match="raspbery-pi-4") as caught:
        load_device("raspbery-pi-4")
    assert caught.value.hint.startswith("Did you mean raspberry-pi-4b")


def test_a_huge_name_is_refused_quickly():
    with pytest.raises(DeviceError) as caught:
        load_device("host" * 10**6)
    assert len(str(caught.value)) < 500
