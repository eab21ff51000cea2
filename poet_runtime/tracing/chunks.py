"""Updates by rows: which parameters are updated in chunks, and what the views of a chunk are.

    weight               |-------- rows --------|            one storage, as ever
    weight.update.0      |-----|                             reads and changes rows of it and of the
    weight.update.1            |-----|                       gradient, and all of its own part of
    ...                                                      each moment (weight.exp_avg.0, ...)

An update is elementwise, so rows may be updated apart; but a kernel treats what fills its vectors and
what is left over with different roundings. Invariant: every cut is where the kernels on the whole
tensor end a vector, in every thread, and a rule that changes a bit all the same, tried on random
numbers, is left whole.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from poet_runtime.program import TensorSpec
from poet_runtime.update_rule import GroupRule

CHUNK_BYTES = 10_000_000
"""Of a parameter, in one chunk: large enough for a disk's full speed, small beside a parameter that
is worth cutting."""

_LEAST_CHUNK_BYTES = 1_000_000
_CHUNKS_OF_LIMIT = 8
"""Where ops above a smaller limit are split, a chunk is this part of it: the update of one, with its
part of the gradient and the moments, takes half of it, and the next one may arrive meanwhile."""

_LARGE = 1.6
"""A parameter of more chunks than this is cut whatever its update takes: about 16 MiB."""

_VECTOR_ELEMENTS = 64
"""Kernels of ATen work on two vectors at a time, of at most 32 elements (bfloat16 in 64 bytes)."""

_GRAIN_ELEMENTS = 32768  # at::internal::GRAIN_SIZE: what a thread takes at least

Rows = tuple[int, int]
"""The first row and how many."""


def chunk_bytes_within(split_above_bytes: int | None) -> int:
    """Bytes of a parameter in one chunk, where ops above a limit are split."""
    if split_above_bytes is None:
        return CHUNK_BYTES
    return min(CHUNK_BYTES, max(_LEAST_CHUNK_BYTES, split_above_bytes // _CHUNKS_OF_LIMIT))


def chunked_rows(
    rule: GroupRule,
    name: str,
    parameter: TensorSpec,
    gradient: TensorSpec,
    state: Sequence[Tensor | None],
    split_above_bytes: int | None,
    chunk_bytes: int,
) -> tuple[Rows, ...]:
    """How the update of a parameter is cut; nothing where it stays whole. `state`: the state tensors
    that the optimizer has already."""
    if split_above_bytes is None:
        return ()
    tensors = 2 + len(state) + rule.temporaries
    needed_bytes = tensors * _bytes_of(parameter)
    if needed_bytes <= split_above_bytes and _bytes_of(parameter) <= _LARGE * chunk_bytes:
        return ()
    alike = _in_rows(parameter) and _in_rows(gradient) and parameter.size == gradient.size
    known = [tensor for tensor in state if tensor is not None]
    if not alike or any(not _lies_alike(tensor, parameter) for tensor in known):
        return ()
    cuts = _cut(parameter, chunk_bytes, torch.get_num_threads())
    if not cuts or not same_in_chunks(rule, name, parameter.dtype, gradient.dtype, known):
        return ()
    return cuts


def rows_of(spec: TensorSpec, rows: Rows) -> TensorSpec:
    """Some rows of a tensor, as a view of it."""
    first, count = rows
    return replace(spec, size=(count, *spec.size[1:]), offset=spec.offset + first * spec.stride[0])


def same_in_chunks(
    rule: GroupRule,
    name: str,
    parameter: torch.dtype,
    gradient: torch.dtype,
    known: Iterable[Tensor] = (),
) -> bool:
    """Whether the rule's update of random numbers has the same bits when it is cut as `chunked_rows`
    cuts; an update is so in its first step and later."""
    states = {tensor.dtype for tensor in known} or {parameter}
    later = copy.deepcopy(rule)
    later.end_step()
    count = 8 * _VECTOR_ELEMENTS * torch.get_num_threads()
    cuts = [0, count // 4, count, count + 13 * (torch.get_num_threads() == 1)]
    for state in states:
        dtypes = [parameter, gradient, *[state] * len(rule.state_keys())]
        generator = torch.Generator("cpu").manual_seed(0)
        numbers = [
            torch.rand(cuts[-1], generator=generator, dtype=torch.float64).to(dtype)
            for dtype in dtypes
        ]
        for tried in (rule, later):
            whole = [tensor.clone() for tensor in numbers]
            tried.update(name, True, *whole)
            for begin, end in itertools.pairwise(cuts):
                tried.update(name, True, *(tensor[begin:end] for tensor in numbers))
            if not all(map(_same_bits, whole, numbers)):
                return False
    return True


def _cut(parameter: TensorSpec, chunk_bytes: int, threads: int) -> tuple[Rows, ...]:
    """Chunks of about the same number of rows; none where the kernels would round otherwise."""
    rows, row_elements = parameter.size[0], math.prod(parameter.size[1:])
    block = _VECTOR_ELEMENTS * threads
    step = block // math.gcd(block, row_elements)
    chunks = math.ceil(_bytes_of(parameter) / chunk_bytes)
    count = math.ceil(rows / chunks / step) * step
    cuts = tuple((first, min(count, rows - first)) for first in range(0, rows, count))
    elements = [rows * row_elements, *(length * row_elements for _, length in cuts)]
    # With one thread what is left over lies at the very end, of the whole and of the last chunk.
    even = threads == 1 or all(_threads_begin_at_vectors(each, threads) for each in elements)
    return cuts if len(cuts) > 1 and even else ()


def _threads_begin_at_vectors(elements: int, threads: int) -> bool:
    used = min(threads, math.ceil(elements / _GRAIN_ELEMENTS))
    return elements % (_VECTOR_ELEMENTS * used) == 0


def _in_rows(spec: TensorSpec) -> bool:
    """Whether a tensor is contiguous, with rows to cut."""
    expected = 1
    for size, stride in zip(reversed(spec.size), reversed(spec.stride), strict=True):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return len(spec.size) > 0 and expected > 0


def _lies_alike(state: Tensor, parameter: TensorSpec) -> bool:
    return tuple(state.shape) == parameter.size and state.is_contiguous()


def _bytes_of(spec: TensorSpec) -> int:
    return math.prod(spec.size) * spec.dtype.itemsize


def _same_bits(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.view(torch.uint8), other.view(torch.uint8))
