"""Hand-made drafts for the tests of splitting, and a step that is run by the tests' interpreter."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poet_core.graph import Phase, Role
from poet_runtime.program import Program, TensorSpec
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.split_pass import split_ops
from poet_runtime.tracing.drafts import Block, Draft
from tests.runtime.interpreter import Interpreter, bits, eager_state, eager_step


def like_eager(
    program: Program, model: Any, loss_fn: Any, optimizer: Any, batches: list[Any]
) -> None:
    """Trains both ways and compares the loss, the generator and every state tensor, step by step."""
    interpreter = Interpreter(program, model, optimizer)
    for batch in batches:
        torch.manual_seed(17)
        traced_loss, traced_generator = interpreter.run(batch), torch.get_rng_state()
        torch.manual_seed(17)
        loss = eager_step(model, loss_fn, optimizer, batch)
        assert bits(loss) == bits(traced_loss)
        assert torch.equal(traced_generator, torch.get_rng_state())
        expected, found = eager_state(model, optimizer), interpreter.state()
        assert {name: bits(value) for name, value in expected.items()} == {
            name: bits(found[name]) for name in expected
        }


class Document:
    """Drafts in the making: tensors that exist before the step, ops on them, and one that reads
    what the step is for."""

    def __init__(self) -> None:
        self.blocks: list[Block] = []
        self.drafts: list[Draft] = []

    def tensor(
        self,
        size: tuple[int, ...],
        dtype: torch.dtype = torch.float32,
        stride: tuple[int, ...] | None = None,
        *,
        before: bool = False,
    ) -> TensorSpec:
        form = torch.empty(size, dtype=dtype, device="meta")
        if stride is not None:
            form = torch.empty_strided(size, stride, dtype=dtype, device="meta")
        role = Role.INPUT if before else Role.ACTIVATION
        size_bytes = form.untyped_storage().nbytes()
        self.blocks.append(Block(name=f"s{len(self.blocks)}", size_bytes=size_bytes, role=role))
        return TensorSpec(
            storage=len(self.blocks) - 1, dtype=dtype, size=size, stride=tuple(form.stride())
        )

    def made(self, size: tuple[int, ...], **form: Any) -> TensorSpec:
        """A transient tensor that an op of the step has made."""
        spec = self.tensor(size, **form)
        self.op(torch.ops.aten.empty.memory_format, list(size), outputs=(spec,))
        return spec

    def op(
        self, function: Any, *args: Any, outputs: tuple[TensorSpec | None, ...], **more: Any
    ) -> None:
        more.setdefault("kind", str(function))
        self.drafts.append(
            Draft(
                name=f"op{len(self.drafts)}", phase=Phase.FORWARD, function=function, args=args,
                outputs=outputs, **more,
            )
        )  # fmt: skip

    def read(self, spec: TensorSpec) -> None:
        total = self.tensor(())
        self.op(torch.ops.aten.sum.default, spec, outputs=(total,))

    def split(
        self, *, above: int = 0, kept: tuple[int, ...] = ()
    ) -> tuple[list[Draft], dict[str, SplitNote]]:
        drafts, notes = split_ops(self.drafts, self.blocks, kept, above)
        return drafts, {note.op: note for note in notes}


def same(one: Tensor, other: Tensor) -> bool:
    """Bit for bit, NaNs included."""
    assert one.shape == other.shape
    assert one.dtype == other.dtype
    return bits(one) == bits(other)
