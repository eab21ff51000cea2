"""The projection vectors of dense inputs, as integers regenerated from a seed (never stored).

| kind     | entry of row k, column c                                              | variance |
|----------|-----------------------------------------------------------------------|----------|
| gaussian | popcount(word(seed, k, c)) - 32: a centred Binomial(64, 1/2)          | 16       |
| ternary  | bits 2i+1, 2i of word(seed, k, c // 32), i = c % 32: 10 -> +1, 01 -> -1, else 0 | 1/2 |

Invariant: a matrix is a prefix, in rows and columns, of every larger one of its seed and kind.
Ternary takes one word for 32 entries and no multiplication: the kind for a small device.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.hashing import random_words
from projection_nets.spec import ProjectionKind, ProjectionSpec

_WORD_BITS = 64
_ENTRIES_A_WORD = 32  # two bits an entry
_FLOAT32_EXACT = 2**24  # every integer up to 2^24 is a float32 (24-bit significand)
_ROWS_AT_A_TIME = 64  # bounds the 64-bit scratch words to 64 rows

Integers = npt.NDArray[np.int8]


def integer_matrix(kind: ProjectionKind, seed: int, rows: int, columns: int) -> Integers:
    """The matrix of `seed`, (rows, columns), entries within -32..32."""
    make = {ProjectionKind.GAUSSIAN: _gaussian, ProjectionKind.TERNARY: _ternary}[kind]
    matrix = np.empty((rows, columns), dtype=np.int8)
    for start in range(0, rows, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, rows)
        matrix[start:stop] = make(seed, np.arange(start, stop, dtype=np.uint64), columns)
    return matrix


def exact_matrix(spec: ProjectionSpec) -> Integers:
    """The matrix of a dense spec, (T * d, in_features).

    Raises UsageError (`projection_inexact`) where an inner product can leave what float32 holds
    exactly: then the bits would depend on the machine.
    """
    matrix = integer_matrix(spec.kind, spec.seed, spec.projected_bits, spec.in_features)
    largest_row = int(np.abs(matrix).sum(axis=1, dtype=np.int64).max())
    largest_sum = largest_row * spec.input_max
    if largest_sum >= _FLOAT32_EXACT:
        raise UsageError(
            "Expected every inner product to stay below 2^24, where float32 is exact; with "
            f"{spec.in_features} inputs of up to {spec.input_max} it can reach {largest_sum}.",
            code="projection_inexact",
            hint="Use fewer inputs or a smaller input_max.",
        )
    return matrix


def _gaussian(seed: int, rows: npt.NDArray[np.uint64], columns: int) -> Integers:
    words = random_words(seed, rows[:, None], np.arange(columns, dtype=np.uint64))
    return np.bitwise_count(words).astype(np.int8) - np.int8(_WORD_BITS // 2)


def _ternary(seed: int, rows: npt.NDArray[np.uint64], columns: int) -> Integers:
    word_count = -(-columns // _ENTRIES_A_WORD)
    words = random_words(seed, rows[:, None], np.arange(word_count, dtype=np.uint64))
    shifts = np.arange(0, _WORD_BITS, 2, dtype=np.uint64)
    pairs = ((words[:, :, None] >> shifts) & np.uint64(3)).reshape(len(rows), -1)[:, :columns]
    return (pairs >> np.uint64(1)).astype(np.int8) - (pairs & np.uint64(1)).astype(np.int8)
