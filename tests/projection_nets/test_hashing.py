"""Random words that any machine regenerates: known answers, and a second implementation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_core.errors import UsageError
from projection_nets.hashing import LARGEST_SEED, mix, permutation, random_words

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def python_mix(z: int) -> int:
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def python_word(seed: int, stream: int, counter: int) -> int:
    key = python_mix((python_mix(seed) + (stream + 1) * GAMMA) & MASK)
    return python_mix((key + (counter + 1) * GAMMA) & MASK)


def test_mix_gives_the_published_sequence_of_splitmix64():
    # the first outputs of the reference program for seed 1234567 and seed 0
    states = np.array([(1234567 + i * GAMMA) & MASK for i in range(1, 6)], dtype=np.uint64)
    assert mix(states).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]
    assert int(mix(np.array([GAMMA], dtype=np.uint64))[0]) == 0xE220A8397B1DCDAF


@given(
    seed=st.integers(0, LARGEST_SEED),
    streams=st.lists(st.integers(0, 2**40), min_size=1, max_size=4),
    counters=st.lists(st.integers(0, 2**40), min_size=1, max_size=4),
)
def test_words_agree_with_plain_python_integers(seed, streams, counters):
    words = random_words(seed, np.array(streams)[:, None], counters)
    expected = [[python_word(seed, stream, counter) for counter in counters] for stream in streams]
    assert words.tolist() == expected


def test_scalar_stream_and_counter_give_one_word():
    assert random_words(7, 3, 5).tolist() == [python_word(7, 3, 5)]


@given(count=st.integers(0, 300), seed=st.integers(0, 1000), stream=st.integers(0, 1000))
def test_permutation_holds_each_position_once(count, seed, stream):
    order = permutation(count, seed, stream)
    assert sorted(order.tolist()) == list(range(count))


def test_permutation_depends_on_seed_and_stream():
    orders = [permutation(50, seed, stream).tolist() for seed in (0, 1) for stream in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4


def test_every_position_is_equally_likely_to_come_first():
    firsts = np.bincount([permutation(8, 0, stream)[0] for stream in range(4000)], minlength=8)
    chi_squared = float(((firsts - 500) ** 2 / 500).sum())
    assert chi_squared < 24.3  # 0.1% quantile of 7 degrees of freedom


@pytest.mark.parametrize("seed", [-1, LARGEST_SEED + 1, 1.0, True, "1"])
def test_wrong_seeds_are_refused(seed):
    with pytest.raises(UsageError) as caught:
        random_words(seed, 0, 0)
    assert caught.value.code == "seed_invalid"
