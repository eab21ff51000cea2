"""Server-sent events as the HTML standard reads them, however the bytes are cut."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from poet_client.event_stream import Frame, FrameReader
from poet_core.errors import ServiceError


def frames(*chunks):
    reader = FrameReader()
    return [frame for chunk in chunks for frame in reader.feed(chunk)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"data: x\n\n", [Frame("", "message", "x")]),
        (b"id: 7\nevent: bound\ndata: {}\n\n", [Frame("7", "bound", "{}")]),
        (b"data: a\ndata: b\n\n", [Frame("", "message", "a\nb")]),
        (b"data:a\n\n", [Frame("", "message", "a")]),
        (b"data:  a\n\n", [Frame("", "message", " a")]),
        (b"data\n\n", [Frame("", "message", "")]),
        (b": comment\n\ndata: x\n\n", [Frame("", "message", "x")]),
        (b"event: lost\n\ndata: x\n\n", [Frame("", "message", "x")]),
        (b"id: 1\ndata: x\n\ndata: y\n\n", [Frame("1", "message", "x"), Frame("1", "message", "y")]),
        (b"id: 1\n\nid\ndata: y\n\n", [Frame("", "message", "y")]),
        (b"id: 1\nid: a\0b\ndata: y\n\n", [Frame("1", "message", "y")]),
        (b"retry: 5\nunknown: 6\ndata: x\n\n", [Frame("", "message", "x")]),
        (b"\xef\xbb\xbfdata: x\n\n", [Frame("", "message", "x")]),
        (b"data: x\r\rdata: y\r\n\r\n", [Frame("", "message", "x"), Frame("", "message", "y")]),
        (b"data: x\n", []),
        (b"data: x", []),
        (b"", []),
    ],
)  # fmt: skip
def test_the_standard(text, expected):
    assert frames(text) == expected
    assert frames(*(bytes([byte]) for byte in text)) == expected


_LINES = st.lists(
    st.sampled_from([
        b"data: x", b"data", b"data:", b"id: 1", b"id", b"event: e", b"", b"", b": c", b"retry: 1",
        b"data: \xc3\xa4\xe2\x82\xac", b"x", b"event: done", b"id: 12",
    ]),
    max_size=30,
)  # fmt: skip


@settings(max_examples=60)
@given(
    lines=_LINES,
    ends=st.lists(st.sampled_from([b"\n", b"\r", b"\r\n"]), min_size=30, max_size=30),
    cuts=st.lists(st.integers(0, 400), max_size=20),
)
def test_where_bytes_are_cut_changes_nothing(lines, ends, cuts):
    """The oracle reads whole lines at once."""
    text = b"".join(line + end for line, end in zip(lines, ends, strict=False))
    places = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    chunks = [text[a:b] for a, b in itertools.pairwise(places)]
    assert frames(*chunks) == reference(text)


def reference(text):
    found, last_id, kind, data = [], "", "", []
    for line in text.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        name, _, value = line.partition(":")
        value = value[1:] if value[:1] == " " else value
        if line == "":
            if data:
                found.append(Frame(last_id, kind or "message", "\n".join(data)))
            kind, data = "", []
        elif name == "data":
            data.append(value)
        elif name == "id":
            last_id = value
        elif name == "event":
            kind = value
    return found


@pytest.mark.parametrize(
    "chunks",
    [
        [b"x" * 2**19],
        [b"x" * 2**16] * 8,
        [b"data: " + b"x" * 2**17 + b"\n"] * 3,
    ],
)
def test_what_is_too_long_is_refused(chunks):
    with pytest.raises(ServiceError) as caught:
        frames(*chunks)
    assert caught.value.code == "server_answer_too_large"


def test_a_stream_has_a_most_length():
    reader = FrameReader(most_bytes=10)
    assert reader.feed(b": 34567890") == []
    with pytest.raises(ServiceError) as caught:
        reader.feed(b"\n")
    assert caught.value.code == "server_answer_too_large"


def test_what_is_no_text_is_refused():
    with pytest.raises(ServiceError) as caught:
        frames(b"data: \xff\xfe\n\n")
    assert caught.value.code == "server_answer_invalid"
