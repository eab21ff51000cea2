"""The exported file: what it holds, and what it does with files that are not one."""

import hashlib
import os
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poet_core.errors import DataError
from projection_nets import ProjectionNet

MAGIC = b"POETNET\x01"


def header(**changed):
    sizes = {"in_features": 6, "classes": 3, "functions": 4, "bits": 2, "hidden": 0}
    sizes |= {"seed": 1, "input_max": 255} | changed
    return MAGIC + struct.pack("<7Q", *sizes.values())


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


@pytest.mark.parametrize("hidden", [None, 5])
def test_a_loaded_net_answers_like_the_exported_one(path, hidden):
    net = ProjectionNet(6, 3, T=4, d=2, hidden=hidden, seed=77)
    net.export(path)
    loaded = ProjectionNet.load(path)
    inputs = torch.randint(0, 256, (20, 6)).float()
    assert torch.equal(loaded(inputs), net(inputs))
    assert loaded.lsh.spec.seed == 77


def test_the_file_holds_the_weights_and_no_matrix(path):
    net = ProjectionNet(784, 10, T=60, d=12)
    size = net.export(path)
    content = path.read_bytes()
    assert size == len(content) == 8 + 7 * 8 + 4 * 7210 + 32
    weights = b"".join(p.detach().numpy().astype("<f4").tobytes() for p in net.parameters())
    assert content[64:-32] == weights
    assert content[-32:] == hashlib.sha256(content[:-32]).digest()
    assert struct.unpack("<7Q", content[8:64]) == (784, 10, 60, 12, 0, 2017, 255)


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
        ({"in_features": 0}, "model_file_sizes"),
        ({"in_features": 2**64 - 1}, "model_file_sizes"),
        ({"classes": 2**40}, "model_file_sizes"),
        ({"functions": 2**20, "bits": 2**20}, "model_file_sizes"),
        ({"functions": 2**10, "bits": 2**10, "in_features": 2**20}, "model_file_sizes"),
        ({"classes": 2**20, "functions": 2**10, "bits": 2**10}, "model_file_sizes"),
        ({"hidden": 2**63}, "model_file_sizes"),
        ({"seed": 2**53}, "model_file_sizes"),
        ({"input_max": 0}, "model_file_sizes"),
        ({"classes": 4}, "model_file_size"),
    ],
)
def test_hostile_sizes_with_a_right_checksum_are_refused(path, changed, code):
    path.write_bytes(signed(header(**changed) + bytes(4 * 27)))
    assert refusal(path) == code


def test_the_unchanged_header_of_these_tests_is_accepted(path):
    path.write_bytes(signed(header() + bytes(4 * 27)))
    assert ProjectionNet.load(path).lsh.out_features == 8


def test_inputs_too_large_to_be_exact_are_refused_as_a_file(path):
    path.write_bytes(signed(header(input_max=2**20) + bytes(4 * 27)))
    assert refusal(path) == "model_file_sizes"


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
