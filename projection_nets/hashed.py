"""Hash-once projection of sparse features: the bits of an input from the hashes of its features.

A feature has one 64-bit hash h and an integer weight (a count). Its entry for bit k is an odd
integer in -255..255, byte k % 8 of word k // 8 of the stream that h starts:

    base = mix(h ^ mix(seed))        word j = mix(base + (j + 1) * gamma)        entry = 2 * byte - 255

Bit k is 1 where the sum of weight x entry over the observed features is above 0. No vocabulary, no
matrix; time is linear in the features that an input has, and so is a device's, with T * d sums of
RAM. Entries are uniform, so sums of many are nearly Gaussian and Theorem 1 holds; being odd and
wide they rarely tie. All is integer arithmetic: the bits are the same on every machine.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.hashing import GAMMA, MIX_FACTORS, Words, checked_seed, mix
from projection_nets.signs import as_values
from projection_nets.spec import ProjectionKind, ProjectionSpec

_BYTES_A_WORD = 8
_LARGEST_ENTRY = 255


def hashed_entries(seed: int, hashes: Words, projected_bits: int) -> npt.NDArray[np.int16]:
    """The projection vectors' entries of these features, (features, projected_bits)."""
    word_count = -(-projected_bits // _BYTES_A_WORD)
    key = mix(np.array([checked_seed(seed)], dtype=np.uint64))
    counters = np.arange(1, word_count + 1, dtype=np.uint64) * np.uint64(GAMMA)
    words = mix(mix(hashes ^ key)[:, None] + counters)
    entries = words.astype("<u8").view(np.uint8).reshape(len(hashes), _BYTES_A_WORD * word_count)
    doubled: npt.NDArray[np.int16] = 2 * entries[:, :projected_bits].astype(np.int16) - np.int16(
        _LARGEST_ENTRY
    )
    return doubled


def hashed_bits(
    spec: ProjectionSpec,
    hashes: Sequence[Words],
    weights: Sequence[npt.NDArray[np.int64]] | None = None,
) -> npt.NDArray[np.uint8]:
    """Bits 0 and 1 of each input, (inputs, T * d), from the hashes of its features.

    `weights`: an integer a feature, 1 where left out. No features give zeros.
    """
    _check_hashed(spec)
    unique, positions = np.unique(np.concatenate([*hashes, np.empty(0, np.uint64)]), return_inverse=True)  # fmt: skip
    entries = hashed_entries(spec.seed, unique, spec.projected_bits)
    bits = np.zeros((len(hashes), spec.projected_bits), dtype=np.uint8)
    start = 0
    for index, of_one in enumerate(hashes):
        rows = entries[positions[start : start + len(of_one)]]
        start += len(of_one)
        if weights is None:
            sums = rows.sum(axis=0, dtype=np.int64)
        else:
            sums = weights[index].astype(np.int64) @ rows.astype(np.int64)
        bits[index] = sums > 0
    return bits


class HashedProjection(nn.Module):
    """Hashes and weights, both int64 (batch, features) -> (batch, T * d) values of bits.

    Shorter inputs are filled up with weight 0. Signed hashes stand for the unsigned of the same 64
    bits. The step holds batch x features x T * d integers at a time: where the features do not
    change, compute packed bits once (`packing`) and train on those.
    """

    def __init__(self, spec: ProjectionSpec) -> None:
        super().__init__()
        _check_hashed(spec)
        self.spec = spec

    @property
    def out_features(self) -> int:
        """Bits of one input: the paper's T * d."""
        return self.spec.projected_bits

    def forward(self, hashes: Tensor, weights: Tensor) -> Tensor:
        key = int(mix(np.array([self.spec.seed], dtype=np.uint64)).view(np.int64)[0])
        word_count = -(-self.spec.projected_bits // _BYTES_A_WORD)
        counters = torch.arange(1, word_count + 1, device=hashes.device) * _signed(GAMMA)
        words = _mixed(_mixed(hashes ^ key)[..., None] + counters)
        shifts = torch.arange(0, 8 * _BYTES_A_WORD, 8, device=hashes.device)
        entries = ((words[..., None] >> shifts) & 0xFF) * 2 - _LARGEST_ENTRY
        sums = (entries.flatten(2) * weights[..., None]).sum(dim=1)
        return as_values(sums[:, : self.spec.projected_bits] > 0, self.spec.values, torch.float32)


def _mixed(words: Tensor) -> Tensor:
    # int64 wraps as uint64 does; its right shift brings in the sign, so that is masked away
    words = (words ^ ((words >> 30) & (2**34 - 1))) * _signed(MIX_FACTORS[0])
    words = (words ^ ((words >> 27) & (2**37 - 1))) * _signed(MIX_FACTORS[1])
    return words ^ ((words >> 31) & (2**33 - 1))


def _signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def _check_hashed(spec: ProjectionSpec) -> None:
    if spec.kind is not ProjectionKind.HASHED:
        raise UsageError(
            f"Expected a spec of kind hashed, got {spec.kind}.",
            code="projection_invalid",
            hint="Dense inputs are LshProjection's.",
        )
