"""What can be known of a program's calls before any of them runs.

How each storage is allocated when only its bytes count, which tensors an op is given, and which
storages a schedule leaves in another tensor than it found them in.
"""

from __future__ import annotations

import torch

from poet_core.plan import Do, Schedule
from poet_runtime.program import OpCall, Program, TensorSpec
from poet_runtime.tracing.drafts import specs_in


def flat_specs(program: Program) -> tuple[TensorSpec, ...]:
    """Each storage as one row of elements: how it is allocated when only its bytes matter.

    The elements are of the type in which the storage is first seen, so that most views of it need
    no change of type.
    """
    dtypes = _first_dtypes(program)
    specs: list[TensorSpec] = []
    for storage in program.graph.storages:
        dtype = dtypes.get(storage.id, torch.uint8)
        if storage.size_bytes % dtype.itemsize:
            dtype = torch.uint8
        count = storage.size_bytes // dtype.itemsize
        specs.append(TensorSpec(storage=storage.id, dtype=dtype, size=(count,), stride=(1,)))
    return tuple(specs)


def _first_dtypes(program: Program) -> dict[int, torch.dtype]:
    dtypes: dict[int, torch.dtype] = {}
    for binding in program.bindings:
        dtypes.setdefault(binding.spec.storage, binding.spec.dtype)
    for call in program.calls:
        for spec in [*call.outputs, *specs_in((call.args, call.kwargs))]:
            if spec is not None:
                dtypes.setdefault(spec.storage, spec.dtype)
    return dtypes


def moved_storages(program: Program, schedule: Schedule) -> frozenset[int]:
    """Storages of start.ram whose tensor at the end of the step may not be the one it began with."""
    moved: set[int] = set()
    for instruction in schedule.instructions:
        if instruction.do is Do.FREE:
            moved.add(instruction.target)
        elif instruction.do is Do.COMPUTE:
            outputs = program.calls[instruction.target].outputs
            moved.update(spec.storage for spec in outputs if spec is not None)
    persistent = {binding.spec.storage for binding in program.bindings}
    persistent -= {s.id for s in program.graph.storages if not s.persistent}
    return frozenset(moved & persistent)


def returns_one_tensor(call: OpCall) -> bool:
    """Whether a call with one output returns it bare: not so for an op that returns a list."""
    if len(call.outputs) != 1:
        return False
    schema = getattr(call.function, "_schema", None)
    return schema is None or len(schema.returns) != 1 or "List" not in str(schema.returns[0].type)
