"""Locality-sensitive hashing of a dense input to T x d bits: the projection of a ProjectionNet.

| paper (Ravi 2017, section 3.2) | here                                                     |
|--------------------------------|----------------------------------------------------------|
| T projection functions P^1..T  | `functions`: blocks of rows of `matrix`                  |
| d bits a function              | `bits`: rows a block; row t * bits + j is bit j of P^t   |
| sgn<x, P_k>, as {0, 1}         | 1 where the inner product is > 0, else 0 (a tie gives 0) |

**The matrix is regenerated, never stored** (`matrices`). Its entries are integers, nearly Gaussian
or ternary, so Theorem 1 holds: the bits of two vectors differ with probability angle / pi. It lives
in a non-persistent buffer: RAM counts it, checkpoints and exports do not hold it. A checkpoint
carries seed, shape and kind instead and refuses to be loaded over another projection.

**The bits are the same on every machine** where the inputs are integers in 0..input_max: inputs
and entries are integers, and every partial sum of an inner product, in whatever order, is an
integer of at most `input_max` x (the row's sum of magnitudes). The constructor demands that this
bound is below 2^24, so every partial sum is exact in float32, fused multiply-add or not; for 8-bit
inputs also where a device rounds the factors to TF32 or bfloat16, which hold 0..256 exactly. For
raw pixels Gaussian entries guarantee that up to 2056 inputs (2056 x 32 x 255 < 2^24), and in
practice reach about 20,000. For other inputs, a trained layer's among them, a bit can depend on the
machine where the product is nearly zero.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import DataError, UsageError
from projection_nets.matrices import exact_matrix
from projection_nets.signs import as_values, straight_through
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec


class LshProjection(nn.Module):
    """(batch, in_features) -> (batch, functions * bits) values of bits in the input's dtype.

    Without `gradient_width` no gradient passes: a sign has none, and the matrix is a buffer. With
    it the straight-through gradient does (`signs`), for use over something that is trained; the
    width is in units of the inner product with a vector of length 1.

    On the meta device or under FakeTensorMode the buffer is as empty as the parameters;
    `reset_parameters` fills it later.

    Raises UsageError (`projection_invalid`, `seed_invalid`, `projection_inexact`).
    """

    matrix: Tensor

    def __init__(
        self,
        in_features: int,
        *,
        functions: int,
        bits: int,
        seed: int,
        input_max: int = 255,
        kind: ProjectionKind = ProjectionKind.GAUSSIAN,
        values: BitValues = BitValues.ZERO_ONE,
        gradient_width: float | None = None,
    ) -> None:
        super().__init__()
        self.spec = ProjectionSpec(
            kind=kind,
            in_features=in_features,
            functions=functions,
            bits=bits,
            seed=seed,
            input_max=input_max,
            values=values,
        )
        if self.spec.kind is ProjectionKind.HASHED:
            raise _invalid("a dense kind, gaussian or ternary", kind)
        if gradient_width is not None and not 0 < gradient_width < math.inf:
            raise _invalid("a gradient_width above 0, or None", gradient_width)
        self.gradient_width = gradient_width
        # torch.tensor follows the default device and FakeTensorMode; from_numpy would not
        self.register_buffer("matrix", torch.tensor(self._generated()), persistent=False)

    @property
    def out_features(self) -> int:
        """Bits of one input: the paper's T * d."""
        return self.spec.projected_bits

    def forward(self, inputs: Tensor) -> Tensor:
        products = nn.functional.linear(inputs, self.matrix)
        if self.gradient_width is None:
            return as_values(products > 0, self.spec.values, inputs.dtype)
        lengths = torch.linalg.vector_norm(self.matrix, dim=1)
        return straight_through(products / lengths, self.spec.values, self.gradient_width)

    def reset_parameters(self) -> None:
        """Fills the matrix from the seed, as after `to_empty` (PyTorch's name for this)."""
        with torch.no_grad():
            self.matrix.copy_(torch.tensor(self._generated(), device="cpu"))

    def extra_repr(self) -> str:
        spec = self.spec
        return (
            f"in_features={spec.in_features}, functions={spec.functions}, bits={spec.bits}, "
            f"seed={spec.seed}, kind={spec.kind}, values={spec.values}"
        )

    def get_extra_state(self) -> Tensor:
        """What a checkpoint holds in the matrix's place (48 bytes)."""
        return torch.tensor(self._identity(), dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Refuses a checkpoint of another projection (DataError, `projection_differs`)."""
        stored = [int(value) for value in state.tolist()]
        if stored != self._identity():
            raise DataError(
                "Expected a checkpoint of the projection (in_features, functions, bits, seed, "
                f"kind, values) = {tuple(self._identity())}, got one of {tuple(stored)[:8]}.",
                code="projection_differs",
                hint="Build the network with the checkpoint's shape and seed: weights trained on "
                "other bits mean nothing.",
            )

    def _identity(self) -> list[int]:
        spec = self.spec
        kind = list(ProjectionKind).index(spec.kind)
        values = list(BitValues).index(spec.values)
        return [spec.in_features, spec.functions, spec.bits, spec.seed, kind, values]

    def _generated(self) -> npt.NDArray[np.float32]:
        return exact_matrix(self.spec).astype(np.float32)


def _invalid(expected: str, got: object) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {got!r:.40}.",
        code="projection_invalid",
        hint="Hashed features are HashedProjection's.",
    )
