"""Are the bits the same? Drafts run before and after a rewrite, on random data of the true shapes.

Floats are uniform around zero, in a range in which signs, sums and exponentials all matter;
integers are what the rule says is valid. Only digests of the first run's results are held while the second runs.
Invariant: a pair that was compared once, by shapes, layouts and constants, is not compared again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from poet_runtime.kernels import AsTraced
from poet_runtime.tracing.drafts import Draft, map_specs, specs_in
from poet_runtime.tracing.measure import tensor_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Integers:
    """Valid values of an integer operand: from 0 up to `below`, and now and then `also`."""

    below: int
    also: int | None = None


class Exactness:
    """Compares drafts with their replacement. `sizes`: bytes of each storage, by number;
    `range_of_floats`: the largest absolute value of an operand."""

    def __init__(self, sizes: Sequence[int], *, range_of_floats: float = 4.0) -> None:
        self._sizes = sizes
        self._range = range_of_floats

    def same_bits(
        self,
        before: Sequence[Draft],
        after: Sequence[Draft],
        results: Mapping[int, int | tuple[int, ...]],
        integers: Mapping[int, Integers],
    ) -> bool:
        """Whether both leave the same bits. `results`: storages that are needed afterwards, by
        their number in `before`, with their number in `after`, or those of the pieces that together
        are one; `integers`: by storage."""
        form = self._form(before, after, results, integers)
        key = (form, self._range, torch.get_num_threads())
        if key not in _KNOWN:
            with torch.random.fork_rng(devices=[]), torch.no_grad():
                whole = [(storage,) for storage in results]
                pieces = [one if isinstance(one, tuple) else (one,) for one in results.values()]
                expected = self._run(before, before, whole, integers)
                found = self._run(before, after, pieces, integers)
            _KNOWN[key] = expected == found
        return _KNOWN[key]

    def _run(
        self,
        original: Sequence[Draft],
        drafts: Sequence[Draft],
        results: Sequence[tuple[int, ...]],
        integers: Mapping[int, Integers],
    ) -> list[str]:
        """Digests of the results, and of the generator's state."""
        generator = torch.Generator("cpu").manual_seed(0)
        memory = {
            storage: self._filled(storage, dtype, integers.get(storage), generator)
            for storage, dtype in _begins_with(original).items()
        }
        torch.manual_seed(1)
        needed = {storage for pieces in results for storage in pieces}
        last = {storage: at for at, draft in enumerate(drafts) for storage in draft.operands}
        for at, draft in enumerate(drafts):
            _execute(draft, memory)
            for storage in draft.operands:
                if last[storage] == at and storage not in needed:
                    del memory[storage]
        digests = [
            _digest([(memory[storage], self._sizes[storage]) for storage in pieces])
            for pieces in results
        ]
        return [*digests, hashlib.sha256(torch.get_rng_state().numpy().data).hexdigest()]

    def _filled(
        self,
        storage: int,
        dtype: torch.dtype,
        integers: Integers | None,
        generator: torch.Generator,
    ) -> Tensor:
        count = self._sizes[storage] // dtype.itemsize
        values = torch.empty(count, dtype=dtype, device="cpu")
        if dtype.is_floating_point:
            return values.uniform_(-self._range, self._range, generator=generator)
        if dtype is torch.bool:
            return values.random_(0, 2, generator=generator)
        if integers is None:
            return values.zero_()
        values.random_(0, max(1, integers.below), generator=generator)
        if integers.also is not None:
            values[::3] = integers.also
        return values

    def _form(
        self,
        before: Sequence[Draft],
        after: Sequence[Draft],
        results: Mapping[int, int | tuple[int, ...]],
        integers: Mapping[int, Integers],
    ) -> str:
        """Equal for pairs that do the same work: storages by order of appearance."""
        local: dict[int, int] = {}
        for draft in (*before, *after):
            for storage in (*draft.operands, *draft.changes):
                local.setdefault(storage, len(local))
        forms = [
            (draft.kind, moved.args, sorted(moved.kwargs.items()), moved.outputs, moved.mutates)
            for draft in (*before, *after)
            for moved in (draft.renumbered(local),)
        ]
        compared = [
            (
                local[one],
                [local[piece] for piece in (other if isinstance(other, tuple) else (other,))],
            )
            for one, other in results.items()
        ]
        valid = {local[storage]: values for storage, values in integers.items()}
        sizes = [self._sizes[storage] for storage in local]
        return repr((len(before), forms, compared, valid, sizes))


_KNOWN: dict[Any, bool] = {}


def _begins_with(drafts: Sequence[Draft]) -> dict[int, torch.dtype]:
    """Storages that are read before any of the drafts has written them, with their types."""
    found: dict[int, torch.dtype] = {}
    made: set[int] = set()
    for draft in drafts:
        for spec in specs_in((draft.args, draft.kwargs)):
            if spec.storage not in made:
                found.setdefault(spec.storage, spec.dtype)
        made.update(draft.writes)
    return found


def _execute(draft: Draft, memory: dict[int, Tensor]) -> None:
    args = map_specs(lambda spec: tensor_of(spec, memory[spec.storage]), draft.args)
    kwargs = map_specs(lambda spec: tensor_of(spec, memory[spec.storage]), dict(draft.kwargs))
    if not draft.outputs:
        draft.function(*args, **kwargs)
        return
    returned = AsTraced(draft.function, draft.outputs)(*args, **kwargs)
    outputs = returned if isinstance(returned, tuple | list) else (returned,)
    for spec, output in zip(draft.outputs, outputs, strict=True):
        if spec is not None:
            memory[spec.storage] = output


def _digest(pieces: Sequence[tuple[Tensor, int]]) -> str:
    """Of so many bytes of each tensor's storage, one after the other."""
    digest = hashlib.sha256()
    for tensor, size_bytes in pieces:
        flat = torch.empty(0, dtype=torch.uint8, device="cpu")
        flat.set_(tensor.untyped_storage(), 0, (size_bytes,), (1,))
        digest.update(flat.numpy().data)
    return digest.hexdigest()
