"""A recorded mentor: the file comes back as it was written, teaches the same, and damage is seen."""

import copy
import hashlib
import itertools
import json
import struct

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from poet_core.errors import DataError, UsageError
from projection_nets.adapters import LayerMap
from projection_nets.data.examples import LabelledExamples
from projection_nets.mentoring import MENTEE, Mentoring
from projection_nets.metrics import evaluate_networks
from projection_nets.recorded import RecordedExamples, record
from projection_nets.recording import MAGIC, Recording, write_recording
from projection_nets.recording_header import RecordingHeader
from projection_nets.training import train
from tests.projection_nets.mentor_parts import examples, mentee, student, teacher

MAPS = (
    LayerMap(mentee="one", mentor="two", weight=0.5),
    LayerMap(mentee="hidden", mentor="hidden", adapter="fixed"),
)
COUNT = 60


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def present():
    return Mentoring(mentee=student(), mentor=teacher(), example=examples(1).inputs, maps=MAPS)


def distant(recording, net=None):
    return Mentoring(
        mentee=student(net=net), mentor=recording, example=examples(1).inputs, maps=MAPS
    )


def recorded(path, **options):
    step = present()
    assert record(step, examples(), path, **options) == path.stat().st_size
    return step


@pytest.mark.parametrize(("values", "off"), [("float32", 0.0), ("float16", 1e-3)])
@pytest.mark.parametrize("chunk_examples", [1, 7, 60, 1000])
def test_rows_come_back_as_the_mentor_gave_them(tmp_path, values, off, chunk_examples):
    step = recorded(tmp_path / "mentor", values=values, chunk_examples=chunk_examples)
    expected = step.targets(examples().inputs)
    order = np.array([59, 0, 31, 31, 7])
    with Recording(tmp_path / "mentor") as recording:
        recording.check()
        rows = recording.rows(order)
    assert [part.shape[1:] for part in rows] == [(4,), (12, 2, 2), (6,)]
    for got, whole in zip(rows, expected, strict=True):
        torch.testing.assert_close(torch.from_numpy(got), whole[order], rtol=off, atol=off)


def test_a_recorded_mentor_teaches_as_the_mentor_itself(tmp_path):
    here = recorded(tmp_path / "mentor")
    with Recording(tmp_path / "mentor") as recording:
        there = distant(recording, copy.deepcopy(here.nets[MENTEE]))
        there.mentee_sides.load_state_dict(here.mentee_sides.state_dict())
        assert evaluate_networks(there, examples()).keys() == {MENTEE}
        source = RecordedExamples(examples(), recording)
        *inputs, labels = source.batch(np.arange(20))
        losses = [here.loss(here(inputs[0]), labels), there.loss(there(*inputs), labels)]
    torch.testing.assert_close(*losses)
    for loss in losses:
        loss.backward()
    gradients = [[p.grad for p in step.trained()] for step in (here, there)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


@pytest.fixture
def one_thread():
    """What a convolution takes as workspace, and so the floor, grows with the threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("one_thread")
def test_under_a_budget_a_recorded_mentor_teaches_the_same_bits(tmp_path):
    recorded(tmp_path / "mentor")
    with Recording(tmp_path / "mentor") as recording:
        one = distant(recording)
        other = copy.deepcopy(one)
        source = RecordedExamples(examples(), recording)
        options = {"steps": 6, "batch_size": 20, "report_every": 1, "validation": examples()}
        eager = train(one, torch.optim.Adam(one.trained(), lr=0.01), source, **options)
        planned = train(
            other, torch.optim.Adam(other.trained(), lr=0.01), source, **options,
            ram="110KiB", device="host", wall_seconds=0.5, paging_directory=tmp_path,
        )  # fmt: skip
        assert planned[-1].planned_peak_bytes <= 110 * 1024  # keep-everything takes 124 KiB
    assert [r.loss for r in eager] == [r.loss for r in planned]
    assert eager[-1].precision == planned[-1].precision
    assert all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


def test_chunks_are_the_examples_in_their_order(tmp_path):
    recorded(tmp_path / "mentor")
    with Recording(tmp_path / "mentor") as recording:
        source = RecordedExamples(examples(), recording)
        assert len(source) == COUNT
        whole = source.batch(np.arange(COUNT))
        for parts, expected in zip(zip(*source.chunks(17), strict=True), whole, strict=True):
            assert torch.equal(torch.cat(parts), expected)


def test_another_data_set_is_refused(tmp_path):
    recorded(tmp_path / "mentor")
    same = examples()
    turned = LabelledExamples(inputs=(same.inputs[0].flip(0),), labels=same.labels)
    with Recording(tmp_path / "mentor") as recording:
        for other in (turned, examples(59)):
            with pytest.raises(DataError) as caught:
                RecordedExamples(other, recording)
            assert caught.value.code == "recording_differs"
        with pytest.raises(DataError) as caught:
            Mentoring(mentee=student(), mentor=recording, example=same.inputs[:1], maps=MAPS[::-1])
        assert caught.value.code == "recording_differs"
        with pytest.raises(UsageError):
            recording.rows(np.array([COUNT]))


def test_a_batch_of_another_form_is_refused(tmp_path):
    recorded(tmp_path / "mentor")
    with Recording(tmp_path / "mentor") as recording:
        step = distant(recording)
    for batch in (examples(3).inputs, (*examples(3).inputs, torch.zeros(3, 4))):
        with pytest.raises(UsageError) as caught:
            step(*batch)
        assert caught.value.code == "mentoring_invalid"
    with pytest.raises(UsageError):
        step.targets(examples(3).inputs)
    with pytest.raises(UsageError):
        record(step, examples(), tmp_path / "other")


def test_every_damaged_byte_is_noticed(tmp_path):
    path = tmp_path / "mentor"
    recorded(path, chunk_examples=16)
    content = path.read_bytes()
    for at in itertools.chain(range(120), range(120, len(content), 211)):
        damaged = bytearray(content)
        damaged[at] ^= 0x40
        path.write_bytes(damaged)
        with pytest.raises(DataError) as caught, Recording(path) as recording:
            recording.check()
        assert caught.value.code.startswith("recording_")


def test_chunks_cannot_change_places(tmp_path):
    path = tmp_path / "mentor"
    recorded(path, chunk_examples=20)
    content = path.read_bytes()
    size = 20 * (4 + 48 + 6) * 4 + 32
    first = len(content) - 3 * size
    path.write_bytes(
        content[:first] + content[first + size : first + 2 * size]
        + content[first : first + size] + content[first + 2 * size :]
    )  # fmt: skip
    with Recording(path) as recording:
        recording.rows(np.array([59]))  # the third is whole
        with pytest.raises(DataError) as caught:
            recording.rows(np.array([0]))
    assert caught.value.code == "recording_checksum"


@pytest.mark.parametrize("length", [0, 5, 8, 11, 12, 40, 300, -33, -1])
def test_a_cut_file_is_refused(tmp_path, length):
    path = tmp_path / "mentor"
    recorded(path)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(DataError) as caught:
        Recording(path)
    assert caught.value.code in {"recording_magic", "recording_size"}


def test_what_is_no_file_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(DataError) as caught:
            Recording(path)
        assert caught.value.code == "recording_unreadable"


def sealed(document):
    text = json.dumps(document).encode()
    start = MAGIC + struct.pack("<I", len(text)) + text
    return start + hashlib.sha256(start).digest()


GOOD = {
    "examples": 2,
    "chunk_examples": 1,
    "values": "float32",
    "inputs_sha256": "0" * 64,
    "parts": [{"name": "logits", "shape": [3]}],
}


@pytest.mark.parametrize(
    "wrong",
    [
        {"examples": 0},
        {"examples": True},
        {"examples": 2**40},
        {"chunk_examples": 2**30},
        {"values": "object"},
        {"inputs_sha256": "0" * 63},
        {"parts": []},
        {"parts": {}},
        {"parts": [{"name": "logits", "shape": []}]},
        {"parts": [{"name": "logits", "shape": [0]}]},
        {"parts": [{"name": "logits", "shape": [2**24, 2**24, 2**24, 2**24]}]},
        {"parts": [{"name": "logits", "shape": [3]}] * 2},
        {"parts": [{"name": str(at), "shape": [3]} for at in range(65)]},
    ],
)
def test_a_hostile_header_is_refused(tmp_path, wrong):
    path = tmp_path / "mentor"
    path.write_bytes(sealed({**GOOD, **wrong}))
    with pytest.raises(DataError) as caught:
        Recording(path)
    assert caught.value.code == "recording_header"


def test_numbers_that_the_file_cannot_hold_are_refused(tmp_path):
    header = RecordingHeader.from_bytes(json.dumps({**GOOD, "values": "float16"}).encode())
    path = tmp_path / "mentor"
    for batch in ([np.full((2, 3), 1e6, np.float32)], [np.full((2, 3), np.nan, np.float32)]):
        with pytest.raises(DataError) as caught:
            write_recording(path, header, [batch])
        assert caught.value.code == "recording_not_finite"
    for batch in ([np.zeros((2, 4), np.float32)], [np.zeros((1, 3), np.float32)]):
        with pytest.raises(UsageError) as caught:
            write_recording(path, header, [batch])
        assert caught.value.code == "recording_sizes"
    assert not list(tmp_path.iterdir())  # nothing half-written is left


@given(
    count=st.integers(1, 30),
    chunk=st.integers(1, 40),
    cuts=st.lists(st.integers(0, 30), max_size=4),
    shapes=st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3),
)
def test_any_shape_in_any_batches_comes_back(tmp_path_factory, count, chunk, cuts, shapes):
    path = tmp_path_factory.mktemp("recordings") / "mentor"
    header = RecordingHeader(
        examples=count, chunk_examples=chunk, values="float32", inputs_sha256="a" * 64,
        shapes={str(at): tuple(shape) for at, shape in enumerate(shapes)},
    )  # fmt: skip
    generator = np.random.default_rng(count)
    whole = [generator.standard_normal((count, *shape)).astype(np.float32) for shape in shapes]
    bounds = sorted({0, count, *(cut for cut in cuts if cut < count)})
    batches = [[part[a:b] for part in whole] for a, b in itertools.pairwise(bounds)]
    assert write_recording(path, header, batches) == path.stat().st_size
    with Recording(path) as recording:
        rows = recording.rows(np.arange(count))
    assert all(map(np.array_equal, rows, whole))


def test_a_mentee_of_another_shape_is_refused(tmp_path):
    recorded(tmp_path / "mentor")
    wider = mentee()
    wider.hidden[1], wider.classifier = torch.nn.Linear(64, 9), torch.nn.Linear(9, 4)
    with Recording(tmp_path / "mentor") as recording, pytest.raises(UsageError) as caught:
        distant(recording, wider)  # the fixed matrix was made for six
    assert caught.value.code == "map_invalid"
