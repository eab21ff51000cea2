"""Packed bits: the same bits as the modules', eight to a byte."""

import json

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets.hashed import hashed_bits
from projection_nets.lsh import LshProjection
from projection_nets.packing import PackedBits, pack, packed_bits, unpack
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures

TEXT = ProjectionSpec(kind=ProjectionKind.HASHED, functions=5, bits=7, text=TextFeatures())


def test_bit_k_is_in_byte_k_over_8_at_k_modulo_8():
    bits = np.zeros((1, 11), dtype=np.uint8)
    bits[0, [0, 3, 9]] = 1
    assert pack(bits).tolist() == [[0b1001, 0b10]]
    assert np.array_equal(unpack(pack(bits), 11), bits)


@pytest.mark.parametrize("kind", [ProjectionKind.GAUSSIAN, ProjectionKind.TERNARY])
@pytest.mark.parametrize("values", list(BitValues))
def test_packed_pixels_unpack_to_what_the_projection_gives(kind, values):
    module = LshProjection(20, functions=5, bits=7, seed=3, kind=kind, values=values)
    pixels = np.random.default_rng(0).integers(0, 256, (600, 20), dtype=np.uint8)
    packed = packed_bits(module.spec, pixels)
    assert packed.shape == (600, 5)
    unpacked = PackedBits(module.spec)(torch.from_numpy(packed))
    assert torch.equal(unpacked, module(torch.from_numpy(pixels).float()))


def test_packed_texts_are_the_bits_of_their_features():
    texts = [f"set an alarm for {number}" for number in range(300)] + [""]
    expected = hashed_bits(TEXT, [TEXT.text.hashes(text) for text in texts])
    assert np.array_equal(unpack(packed_bits(TEXT, texts), 35), expected)


@pytest.mark.parametrize("spec", [TEXT, ProjectionSpec(in_features=20, seed=9)])
def test_a_spec_survives_json(spec):
    assert ProjectionSpec.from_document(json.loads(json.dumps(spec.to_document()))) == spec


@pytest.mark.parametrize(
    ("spec", "inputs"),
    [
        (TEXT, "one text"),
        (TEXT, np.zeros((2, 3), dtype=np.uint8)),
        (ProjectionSpec(kind=ProjectionKind.HASHED), ["no text options"]),
        (ProjectionSpec(in_features=3), np.zeros((2, 4), dtype=np.uint8)),
        (ProjectionSpec(in_features=3), np.zeros((2, 3), dtype=np.float32)),
        (ProjectionSpec(in_features=3), np.full((2, 3), 256)),
        (ProjectionSpec(in_features=3), ["text"]),
    ],
)
def test_inputs_of_another_kind_are_refused(spec, inputs):
    with pytest.raises(UsageError) as caught:
        packed_bits(spec, inputs)
    assert caught.value.code == "projection_input"


def test_a_kind_may_be_a_plain_string():
    assert ProjectionSpec(kind="ternary", in_features=4).kind is ProjectionKind.TERNARY
    for wrong in ({"kind": "sparse"}, {"values": "bits"}):
        with pytest.raises(UsageError) as caught:
            ProjectionSpec(in_features=4, **wrong)
        assert caught.value.code == "projection_invalid"
