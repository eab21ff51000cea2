"""A stranger's artifact: read within bounds, or refused with a reason."""

import io
import zipfile

import pytest

from action import untrusted
from action.problems import ActionError
from action.untrusted import LARGEST_REPORT_BYTES, report_in
from tests.check.github_stub import archive


def refused(packed):
    with pytest.raises(ActionError) as caught:
        report_in(packed)
    assert caught.value.code == "artifact_refused"
    return caught.value.message


@pytest.mark.parametrize("packed", [b"", b"no zip", archive("{}")[:-30], archive("x" * 99)[20:]])
def test_not_a_zip(packed):
    assert "not a zip archive" in refused(packed)


def test_damaged_content():
    packed = bytearray(archive("a text that is long enough to be hit" * 9))
    packed[60] ^= 0xFF
    assert "not a zip archive" in refused(bytes(packed))


def test_no_report_in_it():
    assert "0 files named report.json" in refused(archive("{}", name="../report.json"))


def test_two_reports_in_it():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("report.json", "{}")
        with pytest.warns(UserWarning, match="Duplicate"):
            file.writestr("report.json", "{}")
    assert "2 files named report.json" in refused(packed.getvalue())


def test_many_files():
    packed = archive("{}", **{f"file{number}": "" for number in range(40)})
    assert "41 files" in refused(packed)


def test_a_bomb_is_not_unpacked_to_its_end():
    packed = archive(b" " * (LARGEST_REPORT_BYTES + 1))
    assert len(packed) < 100_000
    assert "more than" in refused(packed)


def test_a_lie_about_its_size():
    packed = bytearray(archive(b" " * (2 * LARGEST_REPORT_BYTES)))
    directory = packed.rfind(b"PK\x01\x02")
    packed[directory + 24 : directory + 28] = (10).to_bytes(4, "little")  # its size, unpacked
    refused(bytes(packed))


def test_an_unusual_compression():
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_LZMA) as file:
        file.writestr("report.json", "{}")
    assert "unusual" in refused(packed.getvalue())


def test_an_encrypted_one():
    packed = bytearray(archive("{}"))
    for header, offset in ((b"PK\x01\x02", 8), (b"PK\x03\x04", 6)):
        packed[packed.find(header) + offset] |= 1
    assert "not a zip archive" in refused(bytes(packed))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "{}",
        "[" * 100_000,
        '{"schema": "poet.check/2"}',
        "\ud800".encode("utf-8", "surrogatepass"),
        "1e999",
    ],
)
def test_not_a_report(text):
    assert "is not a report" in refused(archive(text))


def test_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused(archive("{}", **{"../../escaped": "x", "/tmp/absolute": "y"}))
    assert list(tmp_path.iterdir()) == []
    assert untrusted.NAME == "report.json"
