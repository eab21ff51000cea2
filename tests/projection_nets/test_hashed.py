"""Hash-once projections: numpy, torch and plain integers agree, and Theorem 1 holds."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poet_core.errors import UsageError
from projection_nets.hashed import HashedProjection, hashed_bits, hashed_entries
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures
from tests.projection_nets.test_hashing import GAMMA, MASK, python_mix


def spec(functions=5, bits=7, **options):
    return ProjectionSpec(kind=ProjectionKind.HASHED, functions=functions, bits=bits, **options)


def python_entry(seed, feature, bit):
    base = python_mix(feature ^ python_mix(seed))
    word = python_mix((base + (bit // 8 + 1) * GAMMA) & MASK)
    return 2 * (word >> 8 * (bit % 8) & 0xFF) - 255


FEATURES = st.lists(st.tuples(st.integers(0, MASK), st.integers(-9, 9)), max_size=12)


@given(inputs=st.lists(FEATURES, min_size=1, max_size=4), seed=st.integers(0, 2**53 - 1))
@settings(max_examples=40)
def test_torch_numpy_and_plain_integers_give_the_same_bits(inputs, seed):
    one = spec(seed=seed)
    expected = [
        [int(sum(w * python_entry(seed, h, k) for h, w in features) > 0) for k in range(35)]
        for features in inputs
    ]
    hashes = [np.array([h for h, _ in features], dtype=np.uint64) for features in inputs]
    weights = [np.array([w for _, w in features], dtype=np.int64) for features in inputs]
    assert hashed_bits(one, hashes, weights).tolist() == expected

    longest = max(map(len, inputs))
    padded = np.zeros((2, len(inputs), longest), dtype=np.int64)
    for row, (of_one, their) in enumerate(zip(hashes, weights, strict=True)):
        padded[0, row, : len(of_one)] = of_one.view(np.int64)
        padded[1, row, : len(their)] = their
    bits = HashedProjection(one)(*torch.from_numpy(padded))
    assert bits.dtype == torch.float32
    assert bits.tolist() == expected
    signs = HashedProjection(spec(seed=seed, values=BitValues.PLUS_MINUS_ONE))
    assert torch.equal(signs(*torch.from_numpy(padded)), bits * 2 - 1)


def test_a_repeated_feature_counts_like_its_weight():
    hashes = np.array([3, 7, 7, 7, 9], dtype=np.uint64)
    once = np.array([3, 7, 9], dtype=np.uint64)
    counted = hashed_bits(spec(), [once], [np.array([1, 3, 1])])
    assert np.array_equal(hashed_bits(spec(), [hashes]), counted)


def test_fewer_bits_are_the_first_of_more():
    hashes = [np.arange(20, dtype=np.uint64)]
    assert np.array_equal(
        hashed_bits(spec(3, 5), hashes)[0], hashed_bits(spec(9, 9), hashes)[0, :15]
    )


def test_no_features_give_zeros():
    assert hashed_bits(spec(), [np.empty(0, dtype=np.uint64)]).sum() == 0


def test_entries_are_uniform_and_uncorrelated():
    entries = hashed_entries(1, np.arange(2000, dtype=np.uint64), 400).astype(np.float64)
    variance = (256**2 - 1) / 3  # of the odd integers within -255..255
    assert abs(entries.mean()) < 4 * math.sqrt(variance / entries.size)
    assert entries.var() == pytest.approx(variance, rel=0.01)
    columns = entries.T @ entries / (variance * math.sqrt(len(entries)))
    assert np.abs(columns[~np.eye(400, dtype=bool)]).max() < 6


@pytest.mark.parametrize("angle", [0.1, 0.5, 1.0, math.pi / 2, 2.5, 3.1])
def test_bits_differ_with_probability_angle_over_pi(angle):
    # Theorem 1 for two sparse inputs of 300 features with integer weights at about this angle
    generator = np.random.default_rng(3)
    first, other = generator.standard_normal((2, 300))
    other -= (other @ first) / (first @ first) * first
    other *= np.linalg.norm(first) / np.linalg.norm(other)
    rotated = math.cos(angle) * first + math.sin(angle) * other
    weights = [np.rint(1000 * v).astype(np.int64) for v in (first, rotated)]
    cosine = weights[0] @ weights[1] / math.prod(np.linalg.norm(w) for w in weights)
    hashes = generator.integers(0, 2**63, 300).astype(np.uint64)
    bits = hashed_bits(spec(2000, 10, seed=5), [hashes, hashes], weights)
    expected = math.acos(cosine) / math.pi
    deviation = math.sqrt(expected * (1 - expected) / 20_000)
    assert abs(float((bits[0] != bits[1]).mean()) - expected) < 4 * deviation


def test_similar_texts_get_similar_bits():
    features = TextFeatures()
    texts = ["wake me up at seven tomorrow", "wake me up at eight tomorrow", "what is my balance"]
    bits = hashed_bits(spec(60, 12), [features.hashes(text) for text in texts])
    near, far = ((bits[0] != other).mean() for other in bits[1:])
    assert near < 0.35
    assert 0.4 < far < 0.6


@pytest.mark.parametrize(
    "wrong",
    [{"in_features": 5}, {"functions": 0}, {"seed": -1}, {"functions": 2**12, "bits": 2**12}],
)
def test_wrong_specs_are_refused(wrong):
    with pytest.raises(UsageError):
        ProjectionSpec(kind=ProjectionKind.HASHED, **wrong)


def test_a_dense_spec_is_not_hashed():
    dense = ProjectionSpec(in_features=4)
    for use in (HashedProjection, lambda s: hashed_bits(s, [])):
        with pytest.raises(UsageError) as caught:
            use(dense)
        assert caught.value.code == "projection_invalid"
