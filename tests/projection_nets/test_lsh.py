"""The LSH bits: exact on every machine, faithful to Theorem 1, and never stored."""

import io
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from poet_core.errors import DataError, UsageError
from projection_nets.lsh import LshProjection
from projection_nets.matrices import integer_matrix
from projection_nets.spec import BitValues, ProjectionKind
from tests.projection_nets.test_hashing import python_word

PIXELS = 784


def projection_matrix(seed, rows, columns, kind=ProjectionKind.GAUSSIAN):
    return integer_matrix(kind, seed, rows, columns).astype(np.float32)


@pytest.fixture
def _threads_restored():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def lsh(in_features=PIXELS, functions=60, bits=12, seed=2017, **options):
    return LshProjection(in_features, functions=functions, bits=bits, seed=seed, **options)


def raw_pixels(count, features=PIXELS, seed=0):
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (count, features), dtype=np.int64)


def test_entries_are_the_popcounts_of_the_documented_words():
    matrix = projection_matrix(2017, 70, 33)
    for row, column in [(0, 0), (0, 32), (1, 0), (63, 5), (64, 5), (69, 32)]:
        expected = python_word(2017, row, column).bit_count() - 32
        assert matrix[row, column] == expected


def test_entries_have_the_moments_of_a_centred_binomial():
    entries = projection_matrix(1, 720, PIXELS).astype(np.float64).ravel()
    deviation_of_mean = 4 / math.sqrt(entries.size)
    assert abs(entries.mean()) < 4 * deviation_of_mean
    assert abs(entries.var() - 16) < 4 * math.sqrt(2 * 16**2 / entries.size)
    assert entries.min() >= -32
    assert entries.max() <= 32


def test_rows_are_uncorrelated():
    matrix = projection_matrix(3, 720, PIXELS).astype(np.float64)
    products = matrix @ matrix.T / (16 * math.sqrt(PIXELS))  # each about N(0, 1) off the diagonal
    off_diagonal = products[~np.eye(720, dtype=bool)]
    assert np.abs(off_diagonal).max() < 6
    assert abs(off_diagonal.std() - 1) < 0.02


@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [1, 7, 200])
def test_float32_products_equal_exact_integers_at_any_thread_count(threads, batch):
    torch.set_num_threads(threads)
    module = lsh()
    pixels = raw_pixels(batch)
    exact = pixels @ projection_matrix(2017, 720, PIXELS).astype(np.int64).T
    inputs = torch.from_numpy(pixels).float()
    products = torch.nn.functional.linear(inputs, module.matrix)
    assert products.to(torch.int64).tolist() == exact.tolist()
    assert module(inputs).tolist() == (exact > 0).astype(float).tolist()


@given(seed=st.integers(0, 10**6))
@settings(max_examples=20)
def test_products_do_not_depend_on_the_order_of_summation(seed):
    order = np.random.default_rng(seed).permutation(PIXELS)
    pixels = torch.from_numpy(raw_pixels(4, seed=seed)).float()
    matrix = torch.from_numpy(projection_matrix(seed, 24, PIXELS))
    straight = pixels @ matrix.T
    assert torch.equal(pixels[:, order] @ matrix[:, order].T, straight)
    one_by_one = torch.zeros(4, 24)
    for column in order:
        one_by_one += pixels[:, column, None] * matrix[:, column]
    assert torch.equal(one_by_one, straight)


def test_worst_case_pixels_stay_below_the_bound():
    # all 255 where the row is positive: the largest sum that a row of this matrix can reach
    matrix = projection_matrix(2017, 720, PIXELS)
    pixels = np.where(matrix > 0, 255, 0).astype(np.int64)
    largest = (pixels * matrix.astype(np.int64)).sum(axis=1)
    assert largest.max() < 2**24
    assert 2056 * 32 * 255 < 2**24 <= 2057 * 32 * 255
    floats = (torch.from_numpy(pixels).float() * torch.from_numpy(matrix)).sum(dim=1)
    assert floats.to(torch.int64).tolist() == largest.tolist()


def test_factors_survive_rounding_to_bfloat16():
    entries = torch.arange(-32, 33).float()
    pixels = torch.arange(0, 256).float()
    for values in (entries, pixels):
        assert torch.equal(values.to(torch.bfloat16).float(), values)


@pytest.mark.parametrize(("features", "input_max"), [(100_000, 255), (PIXELS, 100_000)])
def test_a_shape_that_float32_cannot_hold_exactly_is_refused(features, input_max):
    with pytest.raises(UsageError) as caught:
        lsh(features, functions=2, bits=2, input_max=input_max)
    assert caught.value.code == "projection_inexact"


def test_ternary_entries_are_the_documented_pairs_of_bits():
    matrix = projection_matrix(2017, 70, 33, ProjectionKind.TERNARY)
    for row, column in [(0, 0), (0, 31), (0, 32), (63, 5), (64, 5), (69, 32)]:
        pair = python_word(2017, row, column // 32) >> 2 * (column % 32) & 3
        assert matrix[row, column] == {0: 0, 1: -1, 2: 1, 3: 0}[pair]


def test_ternary_entries_have_their_chances():
    entries = projection_matrix(1, 720, PIXELS, ProjectionKind.TERNARY).ravel()
    counts = np.array([(entries == value).sum() for value in (-1, 0, 1)])
    expected = entries.size * np.array([0.25, 0.5, 0.25])
    assert ((counts - expected) ** 2 / expected).sum() < 13.8  # 0.1% quantile, 2 degrees of freedom


@pytest.mark.parametrize("kind", [ProjectionKind.GAUSSIAN, ProjectionKind.TERNARY])
def test_a_small_matrix_is_a_corner_of_a_larger_one(kind):
    larger = projection_matrix(3, 130, 100, kind)
    assert np.array_equal(projection_matrix(3, 65, 33, kind), larger[:65, :33])


def test_bits_can_be_minus_one_and_one():
    pixels = torch.from_numpy(raw_pixels(5)).float()
    assert torch.equal(lsh(values=BitValues.PLUS_MINUS_ONE)(pixels), lsh()(pixels) * 2 - 1)


@pytest.mark.parametrize("kind", [ProjectionKind.GAUSSIAN, ProjectionKind.TERNARY])
@pytest.mark.parametrize("angle", [0.1, 0.5, 1.0, math.pi / 2, 2.5, 3.1])
def test_bits_differ_with_probability_angle_over_pi(angle, kind):
    # Theorem 1 of Ravi 2017 (Charikar 2002), for two Gaussian vectors at a known angle
    generator = np.random.default_rng(11)
    first, other = generator.standard_normal((2, 400))
    first /= np.linalg.norm(first)
    other -= (other @ first) * first
    other /= np.linalg.norm(other)
    second = math.cos(angle) * first + math.sin(angle) * other
    module = lsh(400, functions=2000, bits=10, seed=5, kind=kind)
    bits = module(torch.tensor(np.stack([first, second]), dtype=torch.float32))
    share = float((bits[0] != bits[1]).double().mean())
    expected = angle / math.pi
    deviation = math.sqrt(expected * (1 - expected) / 20_000)
    assert abs(share - expected) < 4 * deviation


def test_a_tie_gives_zero():
    assert lsh()(torch.zeros(1, PIXELS)).sum() == 0


def test_bits_are_zeros_and_ones_of_the_inputs_dtype():
    bits = lsh()(torch.from_numpy(raw_pixels(5)).float())
    assert bits.shape == (5, 720)
    assert bits.dtype == torch.float32
    assert set(bits.unique().tolist()) == {0.0, 1.0}


def test_no_gradient_passes():
    module = lsh(8, functions=2, bits=2)
    inputs = torch.randn(3, 8, requires_grad=True)
    assert not module(inputs).requires_grad
    assert list(module.parameters()) == []


@pytest.mark.parametrize("values", list(BitValues))
def test_the_straight_through_gradient_is_that_of_a_ramp(values):
    module = lsh(8, functions=2, bits=3, values=values, gradient_width=1.5)
    hard = lsh(8, functions=2, bits=3, values=values)
    inputs = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).requires_grad_()
    outputs = module(inputs)
    assert torch.equal(outputs, hard(inputs))
    outgoing = torch.randn(40, 6, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(outputs, inputs, outgoing)
    rows = module.matrix / module.matrix.norm(dim=1, keepdim=True)
    inside = ((inputs @ rows.T).abs() < 1.5).float()
    assert 0 < inside.mean() < 1
    slope = {"zero_one": 1 / 3, "plus_minus_one": 2 / 3}[values]
    torch.testing.assert_close(gradient, (outgoing * inside * slope) @ rows)


def test_the_matrix_counts_as_a_buffer_and_is_in_no_checkpoint():
    module = lsh()
    assert sum(buffer.nbytes for buffer in module.buffers()) == 720 * PIXELS * 4
    stored = io.BytesIO()
    torch.save(module.state_dict(), stored)
    assert stored.getbuffer().nbytes < 4096
    assert all(tensor.numel() < 10 for tensor in module.state_dict().values())


def test_a_checkpoint_restores_only_the_same_projection():
    stored = io.BytesIO()
    torch.save(lsh().state_dict(), stored)
    stored.seek(0)
    checkpoint = torch.load(stored, weights_only=True)
    lsh().load_state_dict(checkpoint)
    others = [{"seed": 2018}, {"functions": 12, "bits": 60}, {"in_features": 785}]
    others += [{"kind": ProjectionKind.TERNARY}, {"values": BitValues.PLUS_MINUS_ONE}]
    for other in (lsh(**changed) for changed in others):
        with pytest.raises(DataError) as caught:
            other.load_state_dict(checkpoint)
        assert caught.value.code == "projection_differs"


def test_the_same_seed_gives_the_same_bits_and_another_seed_others():
    pixels = torch.from_numpy(raw_pixels(10)).float()
    bits = lsh()(pixels)
    assert torch.equal(lsh()(pixels), bits)
    assert not torch.equal(lsh(seed=2018)(pixels), bits)


def test_construction_allocates_nothing_under_meta_and_fake_tensors():
    with torch.device("meta"):
        empty = lsh()
    assert empty.matrix.is_meta
    with FakeTensorMode():
        assert isinstance(lsh().matrix, FakeTensor)
    filled = empty.to_empty(device="cpu")
    filled.reset_parameters()
    assert torch.equal(filled.matrix, lsh().matrix)


@pytest.mark.parametrize(
    "wrong",
    [{"functions": 0}, {"bits": -1}, {"in_features": 1.5}, {"input_max": 0}, {"bits": True}],
)
def test_sizes_that_are_no_positive_integers_are_refused(wrong):
    with pytest.raises(UsageError) as caught:
        lsh(**wrong)
    assert caught.value.code == "projection_invalid"
    assert next(iter(wrong)) in caught.value.message


def test_a_matrix_beyond_the_limit_is_refused_before_it_is_made():
    with pytest.raises(UsageError) as caught:
        lsh(functions=10**6, bits=10**6)
    assert caught.value.code == "projection_invalid"


@pytest.mark.parametrize("wrong", [{"kind": ProjectionKind.HASHED}, {"gradient_width": 0.0}])
def test_what_is_no_dense_projection_is_refused(wrong):
    with pytest.raises(UsageError) as caught:
        lsh(**wrong)
    assert caught.value.code == "projection_invalid"
