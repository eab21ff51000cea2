"""Program + schedule -> the source of a Python function that carries out one step.

The source holds integers only: ops, constants and shapes are looked up in tables made from the
client's own trace, so nothing from a document's text can become code. Names in it:

    t5, t5_2     storage 5: its tensor, and other views of it     f7   the call of op 7
    p7           the call of op 7 in the place of an operand (see `in_place`)
    k3           an entry of the table of constants               x7   the last keywords of op 7
    g4           the generator's state before random op 4         W    waits for a transfer
    O, I         page out, page in (by number of the transfer)    S, V, E  view, dtype view, empty
    G, H         read and set the generator's state               C    checks what an op returned
    L            logs an executed instruction

Invariants: statements stand in the order of the schedule; after the statements of a free no name
refers to the storage; a view is made after the content of its storage is known to be there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from poet_core.errors import ReplayError
from poet_core.graph import Op
from poet_core.plan import Do, Instruction, Schedule
from poet_runtime.program import OpCall, Program, TensorSpec
from poet_runtime.replaying.call_facts import flat_specs, moved_storages, returns_one_tensor
from poet_runtime.replaying.in_place import in_place_calls
from poet_runtime.tracing.drafts import specs_in

LOG_CODES = (Do.COMPUTE, Do.PAGE_OUT, Do.PAGE_IN, Do.FREE)
"""An instruction is logged as (position in this tuple, target)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSource:
    """`text` defines `step(resident, W, O, I, L)`; `tables` are the globals that it needs.

    `step` takes the tensors out of `resident` (by storage id) and returns the loss and a list of
    the storages in `returned`.
    """

    text: str
    tables: Mapping[str, Any]
    returned: tuple[int, ...]


@dataclass(slots=True)
class _Resident:
    """A storage in RAM, at this point of the source: which names refer to it."""

    views: dict[TensorSpec, str]
    others: int = 0

    @property
    def names(self) -> list[str]:
        return list(self.views.values())


@dataclass(slots=True)
class _Source:
    """The source so far."""

    program: Program
    schedule: Schedule
    flat: tuple[TensorSpec, ...]
    checked: bool
    logged: bool
    lines: list[str] = field(default_factory=list)
    tables: dict[str, Any] = field(default_factory=dict)
    constants: dict[Any, str] = field(default_factory=dict)
    resident: dict[int, _Resident] = field(default_factory=dict)
    arriving: dict[int, int] = field(default_factory=dict)
    departing: dict[int, int] = field(default_factory=dict)
    transfers: int = 0
    waited: int = 0
    runs_left: Counter[int] = field(default_factory=Counter)
    runs_planned: Counter[int] = field(default_factory=Counter)
    in_place: Mapping[int, OpCall] = field(default_factory=dict)
    position: int = 0


def write_source(
    program: Program, schedule: Schedule, *, checked: bool = False, logged: bool = False
) -> StepSource:
    """The source for a schedule that the judge has accepted for `program.graph`.

    `checked`: each op's outputs are compared with what the trace promised. `logged`: each executed
    instruction is reported. Raises ReplayError (`program_contract`) where a call touches what its
    op does not.
    """
    runs = Counter(i.target for i in schedule.instructions if i.do is Do.COMPUTE)
    source = _Source(
        program, schedule, flat_specs(program), checked, logged,
        runs_left=Counter(runs), runs_planned=runs,
        # A checked step holds each op to memory of its own, so every op has it there.
        in_place={} if checked else in_place_calls(program, schedule),
    )  # fmt: skip
    _begin(source)
    for source.position, instruction in enumerate(schedule.instructions):
        _STATEMENTS[instruction.do](source, instruction.target)
        if logged:
            _line(source, f"L({LOG_CODES.index(instruction.do)}, {instruction.target})")
    returned = _end(source)
    text = "def step(resident, W, O, I, L):\n    " + "\n    ".join(source.lines) + "\n"
    return StepSource(text=text, tables=source.tables, returned=returned)


def _line(source: _Source, text: str) -> None:
    source.lines.append(text)


def _begin(source: _Source) -> None:
    program, at_start = source.program, set(source.schedule.start_ram)
    for binding in program.bindings:
        storage = program.graph.storages[binding.spec.storage]
        if storage.id in at_start or not storage.persistent or not storage.size_bytes:
            _line(source, f"t{storage.id} = resident.pop({storage.id})")
            source.resident[storage.id] = _Resident({binding.spec: f"t{storage.id}"})


def _end(source: _Source) -> tuple[int, ...]:
    _wait(source, source.transfers)
    loss = _tensor(source, source.program.loss)
    moved = moved_storages(source.program, source.schedule)
    returned = tuple(sorted(moved & source.resident.keys()))
    names = [source.resident[storage].names[0] for storage in returned]
    _line(source, f"return {loss}, [{', '.join(names)}]")
    return returned


def _compute(source: _Source, op_id: int) -> None:
    op, call = source.program.graph.ops[op_id], source.program.calls[op_id]
    _check_contract(op, call)
    pending = [source.arriving.get(storage, 0) for storage in op.touches]
    pending += [source.departing.get(storage, 0) for storage in op.writes + op.mutates]
    _wait(source, max(pending, default=0))
    fresh = {spec.storage for spec in call.outputs if spec is not None}
    for storage in op.writes:
        if storage not in fresh and storage not in source.resident:
            _new(source, storage)
    own = source.in_place.get(source.position)
    expression, arguments = _call(source, op_id, own or call)
    before, after = _generator_lines(source, op)
    source.lines += before
    _assign(source, op_id, expression, arguments)
    source.lines += after


def _assign(source: _Source, op_id: int, expression: str, arguments: list[str]) -> None:
    """The call, its outputs bound to names, what they replace and what nobody wants dropped."""
    call = source.program.calls[op_id]
    if source.checked:
        _line(source, f"r = {expression}")
        _line(source, f"C({op_id}, r, ({', '.join([*arguments, ''])}))")
        expression = "r"
    if not call.outputs:
        if not source.checked:
            _line(source, expression)
        else:
            _line(source, "del r")
        return
    stale: list[str] = []
    names: list[str] = []
    bound: dict[int, _Resident] = {}
    for spec in call.outputs:
        if spec is None:
            names.append("_")
        elif spec.storage in bound:
            names.append(_other_name(bound[spec.storage], spec))
        else:
            old = source.resident.get(spec.storage)
            if old is not None:
                stale += [name for name in old.names if name != f"t{spec.storage}"]
            # Numbers of other names go on, so that a stale one is never mistaken for a new one.
            bound[spec.storage] = _Resident(
                {spec: f"t{spec.storage}"}, others=old.others if old else 0
            )
            names.append(f"t{spec.storage}")
    source.resident.update(bound)
    single = len(names) == 1 and returns_one_tensor(call)
    _line(source, f"{', '.join(names)}{'' if single or len(names) > 1 else ','} = {expression}")
    dropped = (["r"] if source.checked else []) + (["_"] if "_" in names else []) + stale
    if dropped:
        _line(source, f"del {', '.join(dropped)}")


def _call(source: _Source, op_id: int, call: OpCall) -> tuple[str, list[str]]:
    """The call as an expression, and the names of the tensors that it is given."""
    # `_op` is the operator itself, without the Python dispatch of OpOverload.__call__.
    name = f"f{op_id}" if call is source.program.calls[op_id] else f"p{op_id}"
    source.tables[name] = getattr(call.function, "_op", call.function)
    used: list[str] = []
    parts = [_expression(source, argument, used) for argument in call.args]
    plain = {key: value for key, value in call.kwargs.items() if not any(specs_in(value))}
    mixed = [key for key in call.kwargs if key not in plain]
    if mixed:
        pairs = [
            f"{_constant(source, key)}: {_expression(source, call.kwargs[key], used)}"
            for key in mixed
        ]
        parts.append(f"**{{{', '.join(pairs)}}}")
    if plain:
        source.tables[f"x{op_id}"] = plain
        parts.append(f"**x{op_id}")
    return f"{name}({', '.join(parts)})", used


def _expression(source: _Source, value: Any, used: list[str]) -> str:
    if isinstance(value, TensorSpec):
        name = _tensor(source, value)
        used.append(name)
        return name
    if isinstance(value, list | tuple) and any(specs_in(value)):
        return f"[{', '.join(_expression(source, item, used) for item in value)}]"
    return _constant(source, value)


def _constant(source: _Source, value: Any) -> str:
    """The name of a constant. Equal shapes share one; anything else has its own."""
    integers = isinstance(value, tuple) and all(type(item) is int for item in value)
    key = ("shape", value) if integers else ("object", id(value))
    if key not in source.constants:
        source.constants[key] = f"k{len(source.constants)}"
        source.tables[source.constants[key]] = value  # also keeps the id in use
    return source.constants[key]


def _tensor(source: _Source, spec: TensorSpec) -> str:
    """The name of a resident tensor; a view that has no name yet gets its statement."""
    resident = source.resident.get(spec.storage)
    if resident is None:
        raise ReplayError(
            f"Storage {spec.storage} is used where the schedule has not put it in RAM.",
            code="program_contract",
            details={"storage": spec.storage},
        )
    known = resident.views.get(spec)
    if known is not None:
        return known
    size, stride = _constant(source, spec.size), _constant(source, spec.stride)
    anchor = next((n for s, n in resident.views.items() if s.dtype == spec.dtype), None)
    base = resident.names[0]
    name = _other_name(resident, spec)
    if anchor is not None:
        _line(source, f"{name} = S({anchor}, {size}, {stride}, {spec.offset})")
    else:
        dtype = _constant(source, spec.dtype)
        _line(source, f"{name} = V({base}, {dtype}, {size}, {stride}, {spec.offset})")
    return name


def _other_name(resident: _Resident, spec: TensorSpec) -> str:
    resident.others += 1
    name = f"t{spec.storage}_{resident.others}"
    resident.views[spec] = name
    return name


def _new(source: _Source, storage: int) -> None:
    """Memory for an op that fills what it is given instead of returning a tensor."""
    spec = source.flat[storage]
    size, dtype = _constant(source, spec.size), _constant(source, spec.dtype)
    _line(source, f"t{storage} = E({size}, dtype={dtype})")
    source.resident[storage] = _Resident({spec: f"t{storage}"})


def _generator_lines(source: _Source, op: Op) -> tuple[list[str], list[str]]:
    """A random op that runs again finds the generator as its first run did, and leaves it alone."""
    first = source.runs_left[op.id] == source.runs_planned[op.id]
    source.runs_left[op.id] -= 1
    if not op.random or source.runs_planned[op.id] == 1:
        return [], []
    if first:
        return [f"g{op.id} = G()"], []
    before = ["h = G()", f"H(g{op.id})"]
    if source.runs_left[op.id] == 0:
        before.append(f"del g{op.id}")
    return before, ["H(h)", "del h"]


def _page_out(source: _Source, storage: int) -> None:
    _line(source, f"O({source.transfers}, {source.resident[storage].names[0]})")
    source.transfers += 1
    source.departing[storage] = source.transfers


def _page_in(source: _Source, storage: int) -> None:
    spec = source.flat[storage]
    _line(source, f"t{storage} = I({source.transfers})")
    source.resident[storage] = _Resident({spec: f"t{storage}"})
    source.transfers += 1
    source.arriving[storage] = source.transfers


def _free(source: _Source, storage: int) -> None:
    _wait(source, max(source.arriving.get(storage, 0), source.departing.get(storage, 0)))
    names = source.resident.pop(storage).names
    _line(source, f"del {', '.join(names)}")


def _wait(source: _Source, transfer: int) -> None:
    """Transfers finish in order: a wait for one is a wait for all before it."""
    if transfer > source.waited:
        _line(source, f"W({transfer})")
        source.waited = transfer


def _check_contract(op: Op, call: OpCall) -> None:
    given = {spec.storage for spec in specs_in((call.args, call.kwargs))}
    returned = {spec.storage for spec in call.outputs if spec is not None}
    wrong = (given - set(op.touches)) | (returned - set(op.writes))
    wrong |= set(op.writes) - returned - given
    if wrong:
        raise ReplayError(
            f"The call of op {op.id} and the op disagree about storages {sorted(wrong)}.",
            code="program_contract",
            hint="This is a defect of the tracer: please report it with the model.",
            details={"op": op.id},
        )


_STATEMENTS = {
    Do.COMPUTE: _compute,
    Do.PAGE_OUT: _page_out,
    Do.PAGE_IN: _page_in,
    Do.FREE: _free,
}


def instruction_of(code: int, target: int) -> Instruction:
    """An entry of the log as an instruction."""
    return Instruction(LOG_CODES[code], target)
