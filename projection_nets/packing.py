"""Bits in bytes: eight to a byte, bit k of an input in byte k // 8 at position k % 8.

The bits of raw inputs never change, so they can be computed once and kept: T * d / 8 bytes an input
(90 at [60,12], where an MNIST image has 784), and a training step needs no matrix and no hashes.

    packed = packed_bits(spec, images)            # numpy, once
    net = NetOnBits(PackedBits(spec), classes)    # learns from rows of `packed`

Invariant: the bits beyond T * d in the last byte are 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.hashed import hashed_bits
from projection_nets.matrices import exact_matrix
from projection_nets.signs import as_values
from projection_nets.spec import ProjectionKind, ProjectionSpec

Bytes = npt.NDArray[np.uint8]

_ROWS_AT_A_TIME = 256  # bounds the scratch: 256 texts have some 10,000 different features


def pack(bits: npt.NDArray[np.uint8] | npt.NDArray[np.bool_]) -> Bytes:
    """(n, T * d) of 0 and 1 -> (n, bytes)."""
    return np.packbits(bits, axis=1, bitorder="little")


def unpack(packed: Bytes, projected_bits: int) -> Bytes:
    """(n, bytes) -> (n, T * d) of 0 and 1."""
    return np.unpackbits(packed, axis=1, count=projected_bits, bitorder="little")


def packed_bits(spec: ProjectionSpec, inputs: npt.NDArray[np.integer] | Sequence[str]) -> Bytes:
    """The packed bits of raw inputs: integers (n, in_features), or texts where the spec has `text`.

    Raises UsageError (`projection_input`) for inputs that the spec is not for.
    """
    if spec.kind is ProjectionKind.HASHED:
        return _packed_texts(spec, inputs)
    return _packed_rows(spec, inputs)


def _packed_texts(spec: ProjectionSpec, texts: object) -> Bytes:
    if spec.text is None or isinstance(texts, str | np.ndarray) or not isinstance(texts, Sequence):
        raise _wrong("a sequence of texts, and a spec that says how to read them", texts)
    packed = np.empty((len(texts), spec.packed_bytes), dtype=np.uint8)
    for start in range(0, len(texts), _ROWS_AT_A_TIME):
        hashes = [spec.text.hashes(text) for text in texts[start : start + _ROWS_AT_A_TIME]]
        packed[start : start + len(hashes)] = pack(hashed_bits(spec, hashes))
    return packed


def _packed_rows(spec: ProjectionSpec, inputs: object) -> Bytes:
    if not isinstance(inputs, np.ndarray) or not np.issubdtype(inputs.dtype, np.integer):
        raise _wrong("an array of integers", inputs)
    rows = inputs.reshape(len(inputs), -1)
    if rows.shape[1] != spec.in_features:
        raise _wrong(f"{spec.in_features} numbers an input", rows.shape)
    # exact: the matrix bounds every sum below 2^24, and float32 products are the fast ones
    matrix = exact_matrix(spec).astype(np.float32)
    packed = np.empty((len(rows), spec.packed_bytes), dtype=np.uint8)
    for start in range(0, len(rows), _ROWS_AT_A_TIME):
        chunk = rows[start : start + _ROWS_AT_A_TIME]
        if chunk.min() < 0 or chunk.max() > spec.input_max:
            raise _wrong(f"integers in 0..{spec.input_max}", (int(chunk.min()), int(chunk.max())))
        packed[start : start + len(chunk)] = pack(chunk.astype(np.float32) @ matrix.T > 0)
    return packed


class PackedBits(nn.Module):
    """uint8 (batch, bytes) of `packed_bits` -> float32 (batch, T * d) values of bits."""

    def __init__(self, spec: ProjectionSpec) -> None:
        super().__init__()
        self.spec = spec

    @property
    def out_features(self) -> int:
        """Bits of one input: the paper's T * d."""
        return self.spec.projected_bits

    def forward(self, packed: Tensor) -> Tensor:
        shifts = torch.arange(8, dtype=torch.uint8, device=packed.device)
        bits = ((packed[:, :, None] >> shifts) & 1).flatten(1)[:, : self.spec.projected_bits]
        return as_values(bits, self.spec.values, torch.float32)


def _wrong(expected: str, got: object) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {type(got).__name__} {got!r:.60}.",
        code="projection_input",
        hint="A dense projection takes raw integers, a hashed one with text options takes texts.",
    )
