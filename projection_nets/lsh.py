"""Locality-sensitive hashing of a dense input to T x d bits: the projection of a ProjectionNet.

| paper (Ravi 2017, section 3.2) | here                                                     |
|--------------------------------|----------------------------------------------------------|
| T projection functions P^1..T  | `functions`: blocks of rows of `matrix`                  |
| d bits a function              | `bits`: rows a block; row t * bits + j is bit j of P^t   |
| sgn<x, P_k>, as {0, 1}         | 1 where the inner product is > 0, else 0 (a tie gives 0) |

**The matrix is regenerated, never stored.** An entry is popcount(64 random bits) - 32: a centred
Binomial(64, 1/2), an integer in -32..32 with variance 16, so nearly Gaussian, and Theorem 1 holds:
the bits of two vectors differ with probability angle / pi. It lives in a non-persistent buffer:
RAM counts it, checkpoints and exports do not hold it. A checkpoint carries the seed and shape
instead and refuses to be loaded over another projection.

**The bits are the same on every machine** where the inputs are integers in 0..input_max: inputs
and entries are integers, and every partial sum of an inner product, in whatever order, is an
integer of at most `input_max` x (the row's sum of magnitudes). The constructor demands that this
bound is below 2^24, so every partial sum is exact in float32, fused multiply-add or not; for 8-bit
inputs also where a device rounds the factors to TF32 or bfloat16, which hold 0..256 exactly. For
raw pixels that is guaranteed up to 2056 inputs (2056 x 32 x 255 < 2^24) and in practice reached at
about 20,000. For other inputs a bit can depend on the machine where the product is nearly zero.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import DataError, UsageError
from projection_nets.hashing import checked_seed, random_words

MATRIX_ENTRIES_LIMIT = 2**28
"""1 GiB in float32: more than that is a wrong number in a file or a call, not a small model."""

_WORD_BITS = 64
_FLOAT32_EXACT = 2**24  # every integer up to 2^24 is a float32 (24-bit significand)
_ROWS_AT_A_TIME = 64  # bounds the 64-bit scratch words to 64 rows


def projection_matrix(seed: int, rows: int, columns: int) -> npt.NDArray[np.float32]:
    """The integer matrix of `seed` as float32, (rows, columns); a prefix of any larger one."""
    matrix = np.empty((rows, columns), dtype=np.float32)
    counters = np.arange(columns, dtype=np.uint64)
    for start in range(0, rows, _ROWS_AT_A_TIME):
        stop = min(start + _ROWS_AT_A_TIME, rows)
        words = random_words(seed, np.arange(start, stop, dtype=np.uint64)[:, None], counters)
        matrix[start:stop] = np.bitwise_count(words)
    matrix -= _WORD_BITS // 2
    return matrix


class LshProjection(nn.Module):
    """(batch, in_features) -> (batch, functions * bits) of zeros and ones in the input's dtype.

    No gradient passes: a sign has none, and the matrix is a buffer. On the meta device or under
    FakeTensorMode the buffer is as empty as the parameters; `reset_parameters` fills it later.

    Raises UsageError (`projection_invalid`, `seed_invalid`, `projection_inexact`).
    """

    matrix: Tensor

    def __init__(
        self, in_features: int, *, functions: int, bits: int, seed: int, input_max: int = 255
    ) -> None:
        super().__init__()
        sizes = {"in_features": in_features, "functions": functions, "bits": bits}
        for name, size in {**sizes, "input_max": input_max}.items():
            _check_positive(name, size)
        self.in_features = in_features
        self.functions = functions
        self.bits = bits
        self.seed = checked_seed(seed)
        self.input_max = input_max
        entries = in_features * functions * bits
        if entries > MATRIX_ENTRIES_LIMIT:
            raise UsageError(
                f"Expected a projection matrix of at most {MATRIX_ENTRIES_LIMIT} entries, "
                f"got {entries} ({functions} x {bits} x {in_features}).",
                code="projection_invalid",
                hint="Use fewer functions or bits, or a smaller input.",
            )
        # torch.tensor follows the default device and FakeTensorMode; from_numpy would not
        self.register_buffer("matrix", torch.tensor(self._generated()), persistent=False)

    @property
    def out_features(self) -> int:
        """Bits of one input: the paper's T * d."""
        return self.functions * self.bits

    def forward(self, inputs: Tensor) -> Tensor:
        products = nn.functional.linear(inputs, self.matrix)
        return (products > 0).to(inputs.dtype)

    def reset_parameters(self) -> None:
        """Fills the matrix from the seed, as after `to_empty` (PyTorch's name for this)."""
        with torch.no_grad():
            self.matrix.copy_(torch.tensor(self._generated(), device="cpu"))

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, functions={self.functions}, "
            f"bits={self.bits}, seed={self.seed}"
        )

    def get_extra_state(self) -> Tensor:
        """What a checkpoint holds in the matrix's place (40 bytes)."""
        return torch.tensor(self._identity(), dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Refuses a checkpoint of another projection (DataError, `projection_differs`)."""
        stored = [int(value) for value in state.tolist()]
        if stored != self._identity():
            raise DataError(
                "Expected a checkpoint of the projection (in_features, functions, bits, seed) = "
                f"{tuple(self._identity())}, got one of {tuple(stored)[:8]}.",
                code="projection_differs",
                hint="Build the network with the checkpoint's shape and seed: weights trained on "
                "other bits mean nothing.",
            )

    def _identity(self) -> list[int]:
        return [self.in_features, self.functions, self.bits, self.seed]

    def _generated(self) -> npt.NDArray[np.float32]:
        matrix = projection_matrix(self.seed, self.out_features, self.in_features)
        largest_sum = int(np.abs(matrix).sum(axis=1, dtype=np.float64).max()) * self.input_max
        if largest_sum >= _FLOAT32_EXACT:
            raise UsageError(
                "Expected every inner product to stay below 2^24, where float32 is exact; with "
                f"{self.in_features} inputs of up to {self.input_max} it can reach {largest_sum}.",
                code="projection_inexact",
                hint="Use fewer inputs or a smaller input_max.",
            )
        return matrix


def _check_positive(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UsageError(
            f"Expected {name} to be a positive integer, got {value!r:.40}.",
            code="projection_invalid",
            hint=f"Pass an integer of at least 1 as {name}.",
        )
