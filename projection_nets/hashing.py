"""Counter-based random integers: SplitMix64 over (seed, stream, counter), in exact 64-bit arithmetic.

Invariant: a value depends on its three integers alone: not on the machine, the thread count, the
library version or the order of the calls. NumPy's and PyTorch's generators promise none of this
across releases, so what must be regenerated years later on another device comes from here. In C it
is five lines:

    uint64_t mix(uint64_t z) {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9; z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31); }
    uint64_t key = mix(mix(seed) + (stream + 1) * 0x9E3779B97F4A7C15);
    uint64_t bits = mix(key + (counter + 1) * 0x9E3779B97F4A7C15);
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError

Words = npt.NDArray[np.uint64]

LARGEST_SEED = 2**53 - 1
"""Seeds fit a JSON integer, so that a document can carry one."""

# Constants of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators",
# OOPSLA 2014, and its reference program by Vigna (prng.di.unimi.it/splitmix64.c).
GAMMA = 0x9E3779B97F4A7C15
MIX_FACTORS = (0xBF58476D1CE4E5B9, 0x94D049BB133111EB)

_GAMMA = np.uint64(GAMMA)
_FACTOR_1, _FACTOR_2 = (np.uint64(factor) for factor in MIX_FACTORS)


def mix(words: Words) -> Words:
    """SplitMix64's finaliser, a bijection of 64-bit words; array in, new array out."""
    words = (words ^ (words >> np.uint64(30))) * _FACTOR_1
    words = (words ^ (words >> np.uint64(27))) * _FACTOR_2
    return words ^ (words >> np.uint64(31))


def random_words(seed: int, streams: npt.ArrayLike, counters: npt.ArrayLike) -> Words:
    """64 random bits for each (stream, counter), the two broadcast to at least one dimension.

    Raises UsageError (`seed_invalid`) where the seed is not an integer in 0..2^53-1.
    """
    checked_seed(seed)
    base = mix(np.array([seed], dtype=np.uint64))
    keys = mix(base + _weyl(streams))
    return mix(keys + _weyl(counters))


def _weyl(indices: npt.ArrayLike) -> Words:
    # at least one dimension: arrays wrap at 2^64 silently, NumPy's scalars warn of it
    return (np.atleast_1d(np.asarray(indices, dtype=np.uint64)) + np.uint64(1)) * _GAMMA


def permutation(count: int, seed: int, stream: int) -> npt.NDArray[np.int64]:
    """A random order of 0..count-1: the counters sorted by their words."""
    words = random_words(seed, stream, np.arange(count, dtype=np.uint64))
    return np.argsort(words, kind="stable").astype(np.int64)


def checked_seed(seed: object) -> int:
    """`seed`, or UsageError (`seed_invalid`)."""
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed <= LARGEST_SEED:
        raise UsageError(
            f"Expected a seed in 0..{LARGEST_SEED}, got {seed!r:.40}.",
            code="seed_invalid",
            hint="Choose a non-negative integer below 2^53.",
        )
    return seed
