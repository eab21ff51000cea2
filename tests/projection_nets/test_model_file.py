"""The exported file: what it holds, and what it does with files that are not one."""

import copy
import hashlib
import json
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poet_core.errors import DataError
from projection_nets import ProjectionNet

MAGIC = b"POETNET\x02"

HEADER = {
    "projection": {
        "kind": "gaussian", "in_features": 6, "functions": 4, "bits": 2, "seed": 1,
        "input_max": 255, "values": "zero_one", "text": None,
    },
    "classes": 3,
    "lookup": False,
    "layers": [
        {"inputs": 8, "outputs": 3, "weight": "float32", "bias": "float32", "scale": 1.0},
    ],
}  # fmt: skip


def header(projection=(), layer=(), **changed):
    document = copy.deepcopy(HEADER) | changed
    document["projection"].update(projection)
    document["layers"][0].update(layer)
    text = json.dumps(document).encode()
    return MAGIC + struct.pack("<I", len(text)) + text


def signed(body):
    return body + hashlib.sha256(body).digest()


@pytest.fixture
def net():
    return ProjectionNet(6, 3, T=4, d=2, seed=1)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "digits.poet"


def refusal(path):
    with pytest.raises(DataError) as caught:
        ProjectionNet.load(path)
    assert caught.value.hint
    return caught.value.code


@pytest.mark.parametrize("hidden", [None, 5, (5, 7)])
@pytest.mark.parametrize("options", [{}, {"kind": "ternary"}, {"values": "plus_minus_one"}])
def test_a_loaded_net_answers_like_the_exported_one(path, hidden, options):
    net = ProjectionNet(6, 3, T=4, d=2, hidden=hidden, seed=77, **options)
    net.export(path)
    loaded = ProjectionNet.load(path)
    inputs = torch.randint(0, 256, (20, 6)).float()
    assert torch.equal(loaded(inputs), net(inputs))
    assert loaded.lsh.spec.seed == 77


def test_the_file_holds_the_weights_and_no_matrix(path):
    net = ProjectionNet(784, 10, T=60, d=12)
    size = net.export(path)
    content = path.read_bytes()
    assert size == len(content) < 4 * 7210 + 600
    weights = b"".join(p.detach().numpy().astype("<f4").tobytes() for p in net.parameters())
    assert content.endswith(weights + content[-32:])
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()
    (length,) = struct.unpack("<I", content[8:12])
    assert len(content) == 12 + length + len(weights) + 32
    said = json.loads(content[12 : 12 + length])
    assert (said["projection"]["seed"], said["projection"]["functions"]) == (2017, 60)


@pytest.mark.parametrize(("weight_bits", "most_bytes"), [(8, 8192), (4, 4608)])
def test_a_quantized_60_12_is_small_with_everything_counted(path, weight_bits, most_bytes):
    size = ProjectionNet(784, 10, T=60, d=12).export(path, weight_bits=weight_bits)
    assert size == path.stat().st_size <= most_bytes


@pytest.mark.parametrize("weight_bits", [8, 4])
def test_a_quantized_file_comes_back_near_the_weights(path, weight_bits):
    net = ProjectionNet(6, 3, T=4, d=2, hidden=(5, 7), seed=77)
    net.export(path, weight_bits=weight_bits)
    loaded = ProjectionNet.load(path)
    steps = {8: 127, 4: 7}[weight_bits]
    for before, after in zip(net.head.parameters(), loaded.head.parameters(), strict=True):
        assert (before - after).abs().max() <= before.abs().max() / steps


def test_a_lookup_ships_its_touched_rows_only(path):
    net = ProjectionNet(6, 3, T=4, d=10, lookup=True, seed=77)
    rows = torch.tensor([0, 5, 1024, 4095])
    with torch.no_grad():
        net.head.table[rows] = torch.randn(4, 3)
    assert net.export(path) < 4 * 4 * 3 + 4096 // 8 + 500
    loaded = ProjectionNet.load(path)
    assert torch.equal(loaded.head.table, net.head.table)
    assert torch.equal(loaded.head.touched().nonzero().flatten(), rows)


def test_any_damaged_byte_is_noticed(path, net):
    net.export(path)
    content = path.read_bytes()
    for position in range(len(content)):
        damaged = bytearray(content)
        damaged[position] ^= 0x10
        path.write_bytes(damaged)
        assert refusal(path).startswith("model_file_")


def test_any_truncation_and_any_addition_is_noticed(path, net):
    net.export(path)
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert refusal(path) in {"model_file_magic", "model_file_size"}
    path.write_bytes(content + b"\0")
    assert refusal(path) == "model_file_size"


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"projection": {"in_features": 0}}, "model_file_sizes"),
        ({"projection": {"in_features": 2**64}}, "model_file_sizes"),
        ({"classes": 2**40}, "model_file_sizes"),
        ({"projection": {"functions": 2**20, "bits": 2**20}}, "model_file_sizes"),
        ({"projection": {"functions": 2**10, "in_features": 2**20}}, "model_file_sizes"),
        ({"projection": {"bits": 3}}, "model_file_sizes"),
        ({"projection": {"seed": 2**53}}, "model_file_sizes"),
        ({"projection": {"input_max": 0}}, "model_file_sizes"),
        ({"projection": {"kind": "hashed"}}, "model_file_sizes"),
        ({"projection": {"kind": "sparse"}}, "model_file_sizes"),
        ({"projection": {"kind": []}}, "model_file_sizes"),
        ({"projection": {"more": 1}}, "model_file_header"),
        ({"projection": {"text": {"word_ngrams": 99}}}, "model_file_sizes"),
        ({"projection": {"text": []}}, "model_file_header"),
        ({"classes": 4}, "model_file_sizes"),
        ({"classes": True}, "model_file_sizes"),
        ({"lookup": 1}, "model_file_header"),
        ({"lookup": True}, "model_file_size"),
        ({"layer": {"outputs": 2**24}}, "model_file_sizes"),
        ({"layer": {"inputs": 0}}, "model_file_sizes"),
        ({"layer": {"weight": "int8"}}, "model_file_sizes"),
        ({"layer": {"weight": "float64"}}, "model_file_header"),
        ({"layer": {"weight": ["int8"]}}, "model_file_header"),
        ({"layer": {"scale": 0.0}}, "model_file_header"),
        ({"layer": {"scale": float("nan")}}, "model_file_header"),
        ({"layers": [HEADER["layers"][0]] * 65}, "model_file_header"),
    ],
)
def test_hostile_sizes_with_a_right_checksum_are_refused(path, changed, code):
    path.write_bytes(signed(header(**changed) + bytes(4 * 27)))
    assert refusal(path) == code


def test_the_unchanged_header_of_these_tests_is_accepted(path):
    path.write_bytes(signed(header() + bytes(4 * 27)))
    assert ProjectionNet.load(path).lsh.out_features == 8


def test_inputs_too_large_to_be_exact_are_refused_as_a_file(path):
    path.write_bytes(signed(header({"input_max": 2**20}) + bytes(4 * 27)))
    assert refusal(path) == "model_file_sizes"


def test_a_header_that_is_no_json_is_refused(path):
    for text in (b"{", b"[]", b"\xff", b"[" * 60_000, b"null"):
        path.write_bytes(signed(MAGIC + struct.pack("<I", len(text)) + text))
        assert refusal(path) == "model_file_header"


def test_a_bitmap_that_contradicts_the_header_is_refused(path):
    lookup = header(layer={"inputs": 2}, lookup=True)
    path.write_bytes(signed(lookup + bytes([0b101, 0]) + bytes(4 * 9)))
    assert ProjectionNet.load(path).head.table.shape == (16, 3)
    path.write_bytes(signed(lookup + bytes([0b111, 0]) + bytes(4 * 9)))
    assert refusal(path) == "model_file_weights"


def test_weights_that_are_not_finite_are_refused(path, net):
    weights = struct.pack("<27f", *[0.0] * 26, float("nan"))
    path.write_bytes(signed(header() + weights))
    assert refusal(path) == "model_file_weights"


def test_a_pickle_is_refused_and_not_run(path, tmp_path):
    torch.save(torch.nn.Linear(2, 2), path)
    assert refusal(path) == "model_file_magic"


@given(content=st.binary(max_size=300))
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_bytes_are_refused(path, content):
    path.write_bytes(MAGIC + content)
    assert refusal(path).startswith("model_file_")


def test_missing_files_folders_and_devices_are_refused(path, tmp_path):
    assert refusal(path) == "model_file_unreadable"
    assert refusal(tmp_path) == "model_file_unreadable"
    os.mkfifo(path)
    assert refusal(path) == "model_file_unreadable"


def test_a_diverged_or_half_precision_net_is_not_exported(path, net):
    with pytest.raises(DataError) as caught:
        ProjectionNet(6, 3, T=4, d=2).half().export(path)
    assert caught.value.code == "model_not_storable"
    with torch.no_grad():
        net.head.weight[0, 0] = float("inf")
    with pytest.raises(DataError) as caught:
        net.export(path)
    assert caught.value.code == "model_not_storable"
    with pytest.raises(DataError) as caught:
        ProjectionNet(6, 3, T=4, d=2, encoder=torch.nn.ReLU()).export(path)
    assert caught.value.code == "model_not_storable"
    assert not path.exists()


def test_a_failed_export_leaves_no_file_behind(tmp_path, net):
    with pytest.raises(DataError) as caught:
        net.export(tmp_path / "nowhere" / "digits.poet")
    assert caught.value.code == "model_file_unwritable"
    folder = tmp_path / "taken"
    folder.mkdir()
    with pytest.raises(DataError):
        net.export(folder)
    assert sorted(tmp_path.iterdir()) == [folder]


def test_export_replaces_an_older_file(path, net):
    path.write_bytes(b"old")
    net.export(path)
    assert ProjectionNet.load(path).classes == 3
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]
