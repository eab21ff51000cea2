"""Results in the memory of operands that die with the op: the same bits, and no cold memory to write.

    COMPUTE relu(bn) -> out;  FREE bn      =>      relu_(bn), which is `out` from then on

Where a schedule frees an operand right after an element-wise op whose result lies as the operand
does, the compiled step may write the result there: what eager autograd does where gradients meet, and
elsewhere it saves a pass through memory. It is a matter of the compiled step: graph, plan and judge
know two storages. Invariants: an operand is overwritten only if nothing but this op and its free
touches it from there on, no copy of it is on its way to flash, and no other view of it is an operand;
and never where the schedule has its peak, so that the measured peak is the planned one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from poet_core.graph import Role, TrainingGraph
from poet_core.plan import Do, Schedule
from poet_runtime.program import OpCall, Program, TensorSpec
from poet_runtime.tracing.drafts import specs_in

_aten = torch.ops.aten

_TO: Mapping[Any, tuple[Any, str]] = {
    _aten.add.Tensor: (_aten.add.out, "out"),
    _aten.sub.Tensor: (_aten.sub.out, "out"),
    _aten.mul.Tensor: (_aten.mul.out, "out"),
    _aten.div.Tensor: (_aten.div.out, "out"),
    _aten.threshold_backward.default: (_aten.threshold_backward.grad_input, "grad_input"),
    _aten.gelu_backward.default: (_aten.gelu_backward.grad_input, "grad_input"),
    _aten.silu_backward.default: (_aten.silu_backward.grad_input, "grad_input"),
    _aten.tanh_backward.default: (_aten.tanh_backward.grad_input, "grad_input"),
    _aten.sigmoid_backward.default: (_aten.sigmoid_backward.grad_input, "grad_input"),
}
"""The same kernel, told where its result goes."""


def in_place_calls(program: Program, schedule: Schedule) -> dict[int, OpCall]:
    """By position among the instructions: the call in the place of the op's own."""
    instructions, graph = schedule.instructions, program.graph
    paged = {one.target for one in instructions if one.do in (Do.PAGE_OUT, Do.PAGE_IN)}
    used = _used_bytes(graph, schedule)
    peak = max(used, default=0)
    found: dict[int, OpCall] = {}
    for at, one in enumerate(instructions):
        if one.do is not Do.COMPUTE or used[at] == peak:
            continue
        dying = _freed_after(schedule, at) - paged
        call = _in_place(program, one.target, dying) if dying else None
        if call is not None:
            found[at] = call
    return found


def _freed_after(schedule: Schedule, at: int) -> set[int]:
    """What the schedule frees before it does anything else."""
    freed: set[int] = set()
    for one in schedule.instructions[at + 1 :]:
        if one.do is not Do.FREE:
            break
        freed.add(one.target)
    return freed


def _in_place(program: Program, op_id: int, dying: set[int]) -> OpCall | None:
    call, graph = program.calls[op_id], program.graph
    relu = call.function is _aten.relu.default
    if len(call.outputs) != 1 or not (relu or call.function in _TO):
        return None
    (result,) = call.outputs
    given = list(specs_in((call.args, call.kwargs)))
    for operand in given:
        if (
            result is not None
            and operand.storage in dying
            and _is_scratch(graph, operand.storage)
            and replace(operand, storage=result.storage) == result
            and graph.storages[operand.storage].size_bytes == _whole_bytes(operand)
            and graph.storages[result.storage].size_bytes == _whole_bytes(operand)
            and all(other == operand for other in given if other.storage == operand.storage)
        ):
            if relu:
                return replace(call, function=_aten.relu_.default)
            function, name = _TO[call.function]
            return replace(call, function=function, kwargs={**call.kwargs, name: operand})
    return None


def _is_scratch(graph: TrainingGraph, storage: int) -> bool:
    """Whether it is born inside the step and nobody wants it afterwards."""
    one = graph.storages[storage]
    return not (one.persistent or one.result or one.role is Role.INPUT)


def _whole_bytes(spec: TensorSpec) -> int:
    """Bytes of a storage that such a tensor fills without gaps."""
    return torch.Size(spec.size).numel() * spec.dtype.itemsize


def _used_bytes(graph: TrainingGraph, schedule: Schedule) -> list[int]:
    """RAM in use at each instruction, but for what the device reserves."""
    sizes = [storage.size_bytes for storage in graph.storages]
    inputs = {s.id for s in graph.storages if graph.begins_resident(s.id) and not s.persistent}
    resident = set(schedule.start_ram) | inputs
    live = sum(sizes[storage] for storage in resident)
    used: list[int] = []
    for one in schedule.instructions:
        workspace = 0
        if one.do is Do.COMPUTE:
            op = graph.ops[one.target]
            live += sum(sizes[storage] for storage in op.writes if storage not in resident)
            resident.update(op.writes)
            workspace = op.workspace_bytes
        elif one.do is Do.PAGE_IN:
            live += sizes[one.target]
            resident.add(one.target)
        used.append(live + workspace)
        if one.do is Do.FREE:
            live -= sizes[one.target]
            resident.discard(one.target)
    return used
