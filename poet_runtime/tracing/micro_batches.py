"""Gradient accumulation: several calls add up gradients, the last of them takes the optimizer's step.

Each call is one run of the whole step's program on one micro-batch. Gradients add up in storages
that persist between calls, `.grad` of the parameters when somebody looks; updates and what belongs
to them run in the last call only.

    call 1        ..  call k-1        call k
    grad = g1     ..  grad += g       grad += g, clip, update

Why so: the arithmetic is AccumulateGrad's own (the first gradient is taken over, the others are
added in their order), state is true between any two calls, one plan of the size of one micro-batch
serves all calls, and its memory holds for the largest of them, the last. The others leave out what
only updates want: optimizer states stay on flash, and parameters are not written there again.

Invariant: an accumulator counts only from the first gradient of its round on; before, its content
is whatever the last update has left.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from poet_core.graph import Phase, Role
from poet_core.plan import Do, Schedule
from poet_runtime.flash.flash_layout import FlashLayout
from poet_runtime.program import Program, TensorSpec, UpdateRule
from poet_runtime.tracing.drafts import Block, Draft


class MicroBatches:
    """Counts calls and adds up gradients; an update rule that works on accumulators.

    `places`: group and position in the optimizer of each parameter that trains.
    """

    def __init__(self, places: Mapping[str, tuple[int, int]], calls: int) -> None:
        self._places = dict(places)
        self._calls = calls
        self.restart()

    @property
    def last(self) -> bool:
        """Whether the next call is the one that takes the optimizer's step."""
        return self.done == self._calls - 1

    @property
    def begun(self) -> frozenset[str]:
        """Parameters whose accumulators count now."""
        return frozenset(self._places) - self._fresh

    def restart(self) -> None:
        """Forgets what has been added up."""
        self.done = 0
        self._fresh = frozenset(self._places)

    def load(self, optimizer: Any) -> None:
        """A gradient that is not there counts as none, as in torch; the first call needs none."""
        groups = optimizer.param_groups
        self._fresh = frozenset(
            name
            for name, (group, position) in self._places.items()
            if not self.done or groups[group]["params"][position].grad is None
        )

    def begin_step(self, optimizer: Any) -> None:
        """Nothing to read."""

    def end_step(self) -> None:
        """Counts a completed call; to be told after the other rules, which ask whether it is last."""
        self.done = (self.done + 1) % self._calls
        self._fresh = frozenset() if self.done else frozenset(self._places)

    def store(self, optimizer: Any) -> None:
        """The runtime shows `.grad` (`Holders.show_gradients`)."""

    def update(self, name: str, total: Tensor, gradient: Tensor) -> None:
        """Adds a gradient up, as AccumulateGrad does."""
        if name in self._fresh:
            total.copy_(gradient)
        else:
            total.add_(gradient)


class LastCallRule:
    """A rule that counts the last call of each round only."""

    def __init__(self, rule: UpdateRule, micro_batches: MicroBatches) -> None:
        self._rule, self._micro_batches = rule, micro_batches
        self.load, self.begin_step, self.store = rule.load, rule.begin_step, rule.store

    def end_step(self) -> None:
        """See `program.UpdateRule`."""
        if self._micro_batches.last:
            self._rule.end_step()


class OnLastCall:
    """A function that changes its arguments, in the last call of a round only."""

    __slots__ = ("function", "micro_batches")

    def __init__(self, function: Callable[..., Any], micro_batches: MicroBatches) -> None:
        self.function = function
        self.micro_batches = micro_batches

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        if self.micro_batches.last:
            self.function(*args, **kwargs)


def added_up(
    drafts: Sequence[Draft],
    blocks: list[Block],
    gradients: Mapping[str, TensorSpec],
    micro_batches: MicroBatches,
) -> tuple[list[Draft], dict[str, TensorSpec]]:
    """The drafts with each gradient added to its accumulator where it is complete, and the
    accumulators, which are the gradients from now on. Appends their storages to `blocks`."""
    changed_at = {storage: at for at, draft in enumerate(drafts) for storage in draft.changes}
    after: dict[int, list[Draft]] = {}
    totals: dict[str, TensorSpec] = {}
    for name, gradient in gradients.items():
        form = torch.empty_strided(
            gradient.size, gradient.stride, dtype=gradient.dtype, device="meta"
        )
        size_bytes = form.untyped_storage().nbytes()
        blocks.append(
            Block(name=f"{name}.grad", size_bytes=size_bytes, role=Role.GRADIENT, persistent=True)
        )
        totals[name] = replace(gradient, storage=len(blocks) - 1, offset=0)
        draft = Draft(
            name=f"{name}.accumulate",
            kind="poet.accumulate",
            phase=Phase.BACKWARD,
            module=name.rpartition(".")[0],
            function=micro_batches.update,
            args=(name, totals[name], gradient),
            mutates=(totals[name].storage,),
            flops=torch.Size(gradient.size).numel(),
            recomputable=False,
        )
        after.setdefault(changed_at[gradient.storage], []).append(draft)
    ordered: list[Draft] = []
    for at, original in enumerate(drafts):
        ordered += [original, *after.get(at, ())]
    return ordered, totals


def on_last_call(drafts: Sequence[Draft], micro_batches: MicroBatches) -> list[Draft]:
    """The drafts, those of the update phase that change their arguments in the last call only.
    Buffers are written back in every call."""
    return [
        replace(draft, function=OnLastCall(draft.function, micro_batches))
        if draft.phase is Phase.UPDATE and not draft.outputs
        else draft
        for draft in drafts
    ]


def without_updates(
    program: Program, schedule: Schedule, layout: FlashLayout
) -> tuple[Schedule, FlashLayout]:
    """The schedule of every call but the last, with its transfers at the places of `layout`.

    Left out are the updates, every move of a storage that is on flash between calls and only
    updates touch, and every page-out of one that has its home there and only updates change. So
    flash and RAM hold at the end what they hold after the whole schedule, in an older version, and
    RAM never holds more than under the whole schedule.
    """
    graph = program.graph
    updates = {
        op.id
        for op, call in zip(graph.ops, program.calls, strict=True)
        if isinstance(call.function, OnLastCall)
    }
    others = [op for op in graph.ops if op.id not in updates]
    at_home = set(schedule.start_flash)
    idle = at_home - set(schedule.start_ram) - {s for op in others for s in op.touches}
    unchanged = at_home - {s for op in others for s in (*op.writes, *op.mutates)}
    left_out = {
        Do.COMPUTE: updates, Do.PAGE_OUT: idle | unchanged, Do.PAGE_IN: idle, Do.FREE: idle,
    }  # fmt: skip
    whole = schedule.instructions
    kept = [at for at, one in enumerate(whole) if one.target not in left_out[one.do]]
    transfers = iter(layout.transfers)
    placed = {
        at: next(transfers)
        for at, one in enumerate(whole)
        if one.do in (Do.PAGE_OUT, Do.PAGE_IN)
    }  # fmt: skip
    return (
        replace(schedule, instructions=tuple(whole[at] for at in kept)),
        replace(layout, transfers=tuple(placed[at] for at in kept if at in placed)),
    )
