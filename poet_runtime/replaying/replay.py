"""Plan + program -> a callable training step.

`compile_step` writes the step as Python source (see `codegen`) and compiles it. The tensors of a
storage exist exactly from the instruction that brings it into RAM to the one that frees it, so
memory follows the schedule, in program order, whatever the disk does.

Invariant: a compiled step does what its schedule says, in that order, and nothing else; where an
op does not return what the trace promised, the step ends with a ReplayError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from poet_core.errors import ReplayError
from poet_core.plan import Instruction, Schedule
from poet_core.text import printable
from poet_runtime.flash.flash_layout import FlashLayout, lay_out
from poet_runtime.flash.paging import Paging
from poet_runtime.program import Program, TensorSpec
from poet_runtime.replaying.call_facts import flat_specs, returns_one_tensor
from poet_runtime.replaying.codegen import StepSource, instruction_of, write_source
from poet_runtime.torch_device import generator_of, plain_mode

Resident = dict[int, torch.Tensor]
StepFunction = Callable[..., tuple[torch.Tensor, list[torch.Tensor]]]


def compile_step(
    program: Program, schedule: Schedule, layout: FlashLayout | None = None
) -> CompiledStep:
    """The step of `program` under a schedule that the judge has accepted for its graph.

    `layout`: where its copies lie, if that is not its own to choose. Raises ReplayError (`program_contract`) where a call touches what its op does not.
    """
    return CompiledStep(program, schedule, layout)


class CompiledStep:
    """A step as a callable on tensors; it knows neither models nor optimizers.

    `layout` says how large the paging file must be and where persistent storages lie in it.
    """

    def __init__(
        self, program: Program, schedule: Schedule, layout: FlashLayout | None = None
    ) -> None:
        self.program = program
        self.schedule = schedule
        self.layout: FlashLayout = layout or lay_out(program.graph, schedule)
        self._flat = flat_specs(program)
        self._variants: dict[tuple[bool, bool], tuple[StepSource, StepFunction]] = {}
        self.source = self._variant(checked=False, logged=False)[0].text

    def __call__(
        self,
        resident: Resident,
        *,
        pager: Paging | None = None,
        checked: bool = False,
        log: list[Instruction] | None = None,
    ) -> tuple[torch.Tensor, Mapping[int, torch.Tensor]]:
        """One step. `resident`: a tensor for each storage that is in RAM at the start; emptied.

        Returns the loss, and the tensors of those storages of start.ram that have moved.
        `checked`: compare each op's outputs with the trace. `log`: gets each instruction once it
        is executed. Raises ReplayError, or what an op raises.
        """
        source, function = self._variant(checked=checked, logged=log is not None)
        lane = _Lane(pager, self.layout, self._flat, self.program.device)
        note = _noting(log) if log is not None else None
        # What the caller has switched on around the step is not part of the traced program.
        with plain_mode(self.program.device):
            try:
                loss, moved = function(resident, lane.wait, lane.page_out, lane.page_in, note)
            except BaseException:
                lane.quiet()  # before the step's tensors go
                raise
        return loss, dict(zip(source.returned, moved, strict=True))

    def _variant(self, *, checked: bool, logged: bool) -> tuple[StepSource, StepFunction]:
        known = self._variants.get((checked, logged))
        if known is None:
            source = write_source(self.program, self.schedule, checked=checked, logged=logged)
            known = source, self._define(source)
            self._variants[checked, logged] = known
        return known

    def _define(self, source: StepSource) -> StepFunction:
        device = self.program.device
        names: dict[str, Any] = {
            **source.tables,
            "S": torch.as_strided,
            "V": view_as,
            "E": partial(torch.empty, device=device),
            "G": lambda: generator_of(device).get_state(),
            "H": lambda state: generator_of(device).set_state(state),
            "C": self._check_outputs,
        }
        # The text is ours: write_source puts nothing into it but integers and the names above.
        exec(compile(source.text, "<poet step>", "exec"), names)  # noqa: S102 - see the line above
        function: StepFunction = names["step"]
        return function

    def _check_outputs(self, op_id: int, returned: Any, given: Sequence[torch.Tensor]) -> None:
        """Holds what op `op_id` returned to its specs, and to memory of its own."""
        call = self.program.calls[op_id]
        if not call.outputs:
            return
        outputs = [returned] if returns_one_tensor(call) else list(returned)
        if len(outputs) != len(call.outputs):
            self._refuse(op_id, f"{len(outputs)} outputs", f"{len(call.outputs)}")
        inputs = {tensor.untyped_storage().data_ptr() for tensor in given} - {0}
        for tensor, spec in zip(outputs, call.outputs, strict=True):
            if spec is None:
                continue
            if not lies_as(tensor, spec):
                found = _layout(spec_of(tensor, spec.storage))
                self._refuse(op_id, f"a tensor of {found}", _layout(spec))
            if tensor.device != self.program.device:
                expected = f"one on {self.program.device}"
                self._refuse(op_id, f"a tensor on {tensor.device}", expected)
            memory = tensor.untyped_storage()
            expected_bytes = self.program.graph.storages[spec.storage].size_bytes
            if memory.nbytes() != expected_bytes:
                self._refuse(
                    op_id, f"a storage of {memory.nbytes()} bytes", f"{expected_bytes} bytes"
                )
            if memory.data_ptr() in inputs:
                self._refuse(op_id, "the memory of one of its arguments", "memory of its own")

    def _refuse(self, op_id: int, got: str, expected: str) -> None:
        op = self.program.graph.ops[op_id]
        raise ReplayError(
            f"Op {op_id} ({printable(op.kind)}) returned {got}; the trace says {expected}.",
            code="op_output",
            hint="Trace and train with the same torch, thread count and default dtype.",
            details={"op": op_id},
        )


class _Lane:
    """The transfers of one step, by number, on a pager that goes on counting over steps."""

    __slots__ = ("_begin", "_device", "_flat", "_pager", "_transfers")

    def __init__(
        self,
        pager: Paging | None,
        layout: FlashLayout,
        flat: Sequence[TensorSpec],
        device: torch.device,
    ) -> None:
        if pager is None and layout.transfers:
            raise ReplayError("The schedule pages and there is no pager.", code="no_pager")
        self._pager: Any = pager  # None only where no transfer will ask for it
        self._transfers = layout.transfers
        self._flat, self._device = flat, device
        self._begin = pager.tickets if pager is not None else 0

    def page_out(self, number: int, tensor: torch.Tensor) -> None:
        transfer = self._transfers[number]
        self._pager.page_out(transfer.storage, transfer.offset, tensor)

    def page_in(self, number: int) -> torch.Tensor:
        # Allocated here, on the program's thread: memory is counted in program order.
        transfer = self._transfers[number]
        spec = self._flat[transfer.storage]
        tensor = torch.empty(spec.size, dtype=spec.dtype, device=self._device)
        self._pager.page_in(transfer.storage, transfer.offset, tensor)
        return tensor

    def wait(self, count: int) -> None:
        self._pager.wait(self._begin + count)

    def quiet(self) -> None:
        if self._pager is not None:
            self._pager.quiet()


def _noting(log: list[Instruction]) -> Callable[[int, int], None]:
    def note(code: int, target: int) -> None:
        log.append(instruction_of(code, target))

    return note


def view_as(
    base: torch.Tensor,
    dtype: torch.dtype,
    size: tuple[int, ...],
    stride: tuple[int, ...],
    offset: int,
) -> torch.Tensor:
    """A tensor of another element type on the storage of `base`."""
    return torch.empty(0, dtype=dtype, device=base.device).set_(
        base.untyped_storage(), offset, size, stride
    )


def spec_of(tensor: torch.Tensor, storage: int) -> TensorSpec:
    """How `tensor` lies in its storage, which is storage `storage` of the graph."""
    return TensorSpec(
        storage=storage,
        dtype=tensor.dtype,
        size=tuple(tensor.shape),
        stride=tensor.stride(),
        offset=int(tensor.storage_offset()),
    )


def lies_as(tensor: torch.Tensor, spec: TensorSpec) -> bool:
    """Whether `tensor` lies in its storage as `spec` says."""
    same = tensor.dtype == spec.dtype and tuple(tensor.shape) == spec.size
    if not same or tensor.storage_offset() != spec.offset:
        return False
    # A dimension of one element, and every one of an empty tensor, has no stride to speak of.
    pairs = zip(spec.size, tensor.stride(), spec.stride, strict=True)
    return not tensor.numel() or all(a == b for size, a, b in pairs if size != 1)


def tensor_of(base: torch.Tensor, spec: TensorSpec) -> torch.Tensor:
    """The tensor that `spec` names, on the storage of `base`."""
    return view_as(base, spec.dtype, spec.size, spec.stride, spec.offset)


def _layout(spec: TensorSpec) -> str:
    return f"{spec.dtype} {spec.size}, strides {spec.stride}, offset {spec.offset}"
