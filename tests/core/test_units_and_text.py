"""Sizes carry units, numbers are shown short, strangers' names are shown harmlessly."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_core.errors import PoetError, UsageError
from poet_core.text import printable
from poet_core.units import (
    format_bytes,
    format_joules,
    format_seconds,
    parse_bytes,
    parse_ratio,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512MiB", 512 * 2**20), ("1.5GB", 1_500_000_000), ("32768B", 32768), ("0B", 0),
        (" 2 kib ", 2048), ("1TiB", 2**40), ("3kB", 3000), ("0.5KiB", 512), ("1.7B", 1),
        ("9007199254740991B", 2**53 - 1),
    ],
)  # fmt: skip
def test_sizes_with_units_are_read(text: str, size: int) -> None:
    assert parse_bytes(text) == size


@pytest.mark.parametrize(
    "text",
    ["", "512", "MiB", "-1B", "1e3B", "1,5GB", "1.5.5GB", "1MiBs", "1PB", "9007199254740992B",
     "99999999TiB", "0x10B", "٣B", "1" * 100_000 + "B", "1B\x1b[31m", "nanB", "infB"],
)  # fmt: skip
def test_a_size_without_its_unit_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes(text)
    assert caught.value.code == "size_invalid"
    assert len(caught.value.message) < 300
    assert "\x1b" not in str(caught.value)


def test_the_hint_repairs_a_bare_number() -> None:
    with pytest.raises(UsageError) as caught:
        parse_bytes("512")
    assert "512MiB or 512B" in caught.value.hint


@given(st.integers(0, 2**53 - 1))
def test_bytes_are_read_exactly(size: int) -> None:
    assert parse_bytes(f"{size}B") == size
    if size < 2**43:
        assert parse_bytes(f"{size}KiB") == size * 1024


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (34_987_000, "33.4 MiB"), (2**30, "1.00 GiB"),
     (150 * 2**30, "150 GiB"), (2**41, "2.00 TiB")],
)  # fmt: skip
def test_sizes_are_shown_short(size: int, text: str) -> None:
    assert format_bytes(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (0.0123, "12.3 ms"), (0.9999, "1 s"), (0.9994, "999 ms"), (1.5e-6, "1.5 µs"),
     (2e-9, "2 ns"), (5e-12, "5e-12 s"), (1234.0, "1.23 ks"), (float("inf"), "inf s")],
)  # fmt: skip
def test_durations_are_shown_short(seconds: float, text: str) -> None:
    assert format_seconds(seconds) == text
    assert format_joules(seconds) == text.replace("s", "J") if "m" not in text else True


def test_ratios_are_at_least_one_and_carry_their_x() -> None:
    assert parse_ratio("1.2x") == 1.2
    assert parse_ratio(" 1x ") == 1
    for text in ("", "1.2", "0.9x", "-2x", "1.2X", "infx", "nanx", "1e3x", "1.2xx"):
        with pytest.raises(UsageError) as caught:
            parse_ratio(text)
        assert caught.value.code == "ratio_invalid"


@given(st.text(max_size=300))
def test_shown_text_is_one_short_line_without_control_characters(text: str) -> None:
    shown = printable(text)
    assert len(shown) <= 120
    assert all(one.isprintable() or unicodedata.category(one) == "Zs" for one in shown)
    shown.encode("utf-8")


def test_plain_text_is_shown_as_it_is() -> None:
    assert printable("encoder.layer.3 é <b>") == "encoder.layer.3 é <b>"
    assert printable("a\x1b[31mb\u202ec\nd\ud800") == "a\\u001b[31mb\\u202ec\\u000ad\\ud800"
    assert printable("x" * 500).endswith("…")


def test_an_error_is_a_document() -> None:
    error = PoetError("No.", code="no", hint="Yes.", details={"bytes_over": 3, "code": "shadowed"})
    assert str(error) == "No. Hint: Yes."
    assert error.to_document() == {
        "bytes_over": 3, "code": "no", "detail": "No.", "hint": "Yes.",
    }  # fmt: skip
