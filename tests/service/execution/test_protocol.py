"""Lines of a child: what is understood, what is refused, and that limits hold before parsing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_service.execution.protocol import (
    BabbleError,
    BoundLine,
    ErrorLine,
    LineBuffer,
    LogLine,
    PlanLine,
    ProgressLine,
    first_line,
    read_message,
)

ERROR = {"code": "budget_infeasible", "detail": "No.", "hint": "", "kind": "budget", "op": 3}


def line(kind: str, **fields: object) -> bytes:
    return json.dumps({"t": kind, **fields}, separators=(",", ":")).encode()


def test_what_is_understood() -> None:
    plan = line("incumbent", plan={"any": "thing"})
    assert read_message(plan) == PlanLine(line=plan, final=False)
    done = line("done", plan=None)
    assert read_message(done) == PlanLine(line=done, final=True)
    assert read_message(line("bound", value=2)) == BoundLine(value=2.0)
    assert read_message(line("progress", message="a\x1bb")) == ProgressLine(message="a\\u001bb")
    assert read_message(line("log", text="a\nb\x07\n")) == LogLine(text="a\nb\\u0007\n")
    assert read_message(line("error", error=ERROR)) == ErrorLine(error=ERROR)


@pytest.mark.parametrize(
    "bad",
    [
        b"",
        b"Segmentation fault",
        b'{"t":"bound"}',
        b'{"value":1,"t":"bound"}',
        b'{ "t":"bound","value":1}',
        line("unknown", value=1),
        line("bound", value=True),
        line("bound", value="1"),
        b'{"t":"bound","value":NaN}',
        b'{"t":"bound","value":1e999}',
        line("progress", text="wrong name"),
        line("log", text=["a"]),
        b'{"t":"log","text":' + b"[" * 5000 + b"]" * 5000 + b"}",
        line("error", error="no"),
        line("error", error={"code": "x"}),
        line("error", error=ERROR | {"code": "<script>"}),
        line("error", error=ERROR | {"kind": "planner"}),
        line("error", error=ERROR | {"detail": ["no"]}),
        line("error", error=ERROR | {f"x{n}": n for n in range(40)}),
    ],
)
def test_what_is_refused(bad: bytes) -> None:
    with pytest.raises(BabbleError):
        read_message(bad)


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_else(noise: bytes) -> None:
    for prefix in (b"", b'{"t":"bound",', b'{"t":"error","error":'):
        try:
            read_message(prefix + noise)
        except BabbleError:
            continue


@given(st.lists(st.binary(max_size=20), max_size=10), st.integers(1, 7))
def test_lines_are_cut_where_they_end_however_they_come(parts: list[bytes], size: int) -> None:
    text = b"\n".join(parts)
    buffer = LineBuffer(line_bytes=300, output_bytes=10_000)
    got = [
        one
        for start in range(0, len(text), size)
        for one in buffer.feed(text[start : start + size])
    ]
    assert got == text.split(b"\n")[:-1]


def test_a_line_and_all_lines_are_bounded() -> None:
    buffer = LineBuffer(line_bytes=10, output_bytes=25)
    assert buffer.feed(b"0123456789\n") == [b"0123456789"]
    with pytest.raises(BabbleError, match="line of more than 10"):
        buffer.feed(b"0123456789a")
    buffer = LineBuffer(line_bytes=10, output_bytes=25)
    buffer.feed(b"01234\n" * 4)
    with pytest.raises(BabbleError, match="more than a solve may"):
        buffer.feed(b"a\n")


def test_the_first_line_is_one_line_of_json() -> None:
    said = first_line(b'{"a":1}', None, memory_bytes=7, threads=2)
    assert said.endswith(b"\n")
    assert said.count(b"\n") == 1
    limits = {"memory_bytes": 7, "threads": 2}
    assert json.loads(said) == {"request": {"a": 1}, "warm_start": None, "limits": limits}
