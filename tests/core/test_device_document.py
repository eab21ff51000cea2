"""poet.device/1: both forms of a value, both syntaxes, and everything that is refused."""

import json

import pytest

from poet_core.device_document import (
    device_from_document,
    device_to_document,
    read_device,
    read_device_toml,
)
from poet_core.devices import device_names, load_device
from poet_core.errors import DeviceError, DocumentError

PLAIN = {
    "schema": "poet.device/1",
    "name": "mine",
    "title": "My board",
    "ram_bytes": 65536,
    "flops_per_second": 1e6,
    "flops_per_joule": 1e7,
    "page_in_latency_seconds": 0,
    "page_in_bytes_per_second": 1e6,
    "page_out_latency_seconds": 0.001,
    "page_out_bytes_per_second": 1e6,
    "flash_watts": 0.1,
}


def test_plain_numbers_are_accepted_without_sources():
    device = device_from_document(PLAIN)
    assert (device.ram_bytes, device.page_out_latency_seconds) == (65536, 0.001)
    assert (device.alignment_bytes, device.overlap, device.flash_bytes) == (1, False, None)
    assert not device.sources


def test_a_value_may_carry_its_source():
    document = PLAIN | {"flash_watts": {"value": 0.2, "source": "my meter", "estimate": True}}
    device = device_from_document(document)
    assert device.flash_watts == 0.2
    assert device.sources["flash_watts"].text == "my meter"
    assert device.sources["flash_watts"].estimate


@pytest.mark.parametrize("name", device_names())
def test_a_profile_survives_json(name):
    device = load_device(name)
    assert read_device(json.dumps(device_to_document(device))) == device


def test_toml_and_json_read_the_same():
    toml = "\n".join(f"{key} = {json.dumps(value)}" for key, value in PLAIN.items())
    assert read_device_toml(toml) == device_from_document(PLAIN)


@pytest.mark.parametrize(
    ("change", "code", "path"),
    [
        ({"ram_bytes": -1}, "out_of_range", "$.ram_bytes"),
        ({"ram_bytes": None}, "wrong_type", "$.ram_bytes"),
        ({"flash_watts": None}, "wrong_type", "$.flash_watts"),
        ({"ram_bytes": 1.5}, "wrong_type", "$.ram_bytes"),
        ({"ram_bytes": True}, "wrong_type", "$.ram_bytes"),
        ({"ram_bytes": 2**53}, "out_of_range", "$.ram_bytes"),
        ({"ram_bytes": {"value": -1, "source": ""}}, "out_of_range", "$.ram_bytes.value"),
        ({"ram_bytes": {"source": "no value"}}, "missing_field", "$.ram_bytes.value"),
        ({"ram_bytes": {"value": 1, "unit": "MB"}}, "unknown_field", "$.ram_bytes.unit"),
        ({"flash_watts": float("nan")}, "out_of_range", "$.flash_watts"),
        ({"flash_watts": "0.1"}, "wrong_type", "$.flash_watts"),
        ({"overlap": 1}, "wrong_type", "$.overlap"),
        ({"volts": 3.3}, "unknown_field", "$.volts"),
        ({"schema": "poet.device/2"}, "wrong_schema", "$.schema"),
        ({"name": "n" * 1001}, "limit_exceeded", "$.name"),
    ],
)
def test_a_wrong_field_is_refused_with_its_path(change, code, path):
    with pytest.raises(DocumentError) as caught:
        device_from_document(PLAIN | change)
    assert caught.value.code == code
    assert caught.value.details["path"] == path


@pytest.mark.parametrize("field", ["ram_bytes", "flops_per_second", "page_in_bytes_per_second"])
def test_a_rate_or_a_size_of_zero_is_refused(field):
    with pytest.raises(DeviceError) as caught:
        device_from_document(PLAIN | {field: 0})
    assert caught.value.details["field"] == field


def test_a_missing_field_is_named():
    with pytest.raises(DocumentError) as caught:
        device_from_document({key: PLAIN[key] for key in PLAIN if key != "flash_watts"})
    assert (caught.value.code, caught.value.details["path"]) == ("missing_field", "$.flash_watts")


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"ram_bytes = ", "document_not_toml"),
        (b"a = 1\na = 2", "document_not_toml"),
        (b"\xff\xfe", "document_not_toml"),
        (b"a = " + b"[" * 10**4, "document_too_deep"),
        (b"a" + b".a" * 10**4 + b" = 1", "document_too_deep"),
        (b"a = " + b"9" * 5000, "document_not_toml"),
        (b"a = 0x" + b"f" * 60000, "out_of_range"),
        (b"a = 2026-11-21", "wrong_type"),
        (b"a = 1" + b" " * 2**16, "document_too_large"),
        (b"a = nan", "unknown_field"),
    ],
)
def test_hostile_toml_is_refused(text, code):
    with pytest.raises(DocumentError) as caught:
        read_device_toml(text)
    assert caught.value.code == code
    assert len(str(caught.value)) < 1000


def test_a_profile_larger_than_a_page_is_refused():
    with pytest.raises(DocumentError) as caught:
        read_device(json.dumps(PLAIN | {"x": "y" * 2**16}))
    assert caught.value.code == "document_too_large"
