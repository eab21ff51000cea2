"""Where clipping, updates and write-backs stand in the document.

An update comes right after its gradient is complete and after the last other op that touches its
parameter, so no op reads a parameter too late. Buffers are written back at the very end: until then
every op that reads one can run again. Requires drafts in a valid order; ensures that they still are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from poet_core.graph import Phase, Role
from poet_runtime.accumulation import copied_to_layout
from poet_runtime.clipping import Clip
from poet_runtime.drafts import Block, Draft, specs_in
from poet_runtime.program import TensorSpec
from poet_runtime.update_rule import GroupRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One parameter's update: its rule and the tensors that it works on. `clip`: what is done to
    the gradient right before. `spent`: nobody needs the gradient afterwards, even if it persists."""

    name: str
    module: str
    rule: GroupRule
    parameter: TensorSpec
    gradient: TensorSpec
    state: tuple[TensorSpec, ...]
    clip: Clip | None = None
    spent: bool = False


def place_updates(
    drafts: Sequence[Draft], updates: Sequence[Update], blocks: list[Block], kept: set[int]
) -> list[Draft]:
    """The drafts with every update in its place. `kept`: storages that outlive the step or are
    read later by something that is not placed yet; a gradient among them is never scratch. Appends
    storages to `blocks`."""
    last_touch = {
        storage: at for at, draft in enumerate(drafts) for storage in draft.operands + draft.changes
    }
    last_change = {storage: at for at, draft in enumerate(drafts) for storage in draft.changes}
    after: dict[int, list[Update]] = {}
    for update in updates:
        wanted = [update.gradient, *specs_in(update.clip.args if update.clip else ())]
        complete = max(last_change[spec.storage] for spec in wanted)
        at = max(complete, last_touch.get(update.parameter.storage, complete))
        after.setdefault(at, []).append(update)
    ordered: list[Draft | Update] = []
    for at, draft in enumerate(drafts):
        ordered.append(draft)
        ordered += after.get(at, ())
    read_later = set(kept)
    result: list[Draft] = []
    for item in reversed(ordered):
        now = (item,) if isinstance(item, Draft) else _drafted(item, blocks, read_later)
        for draft in reversed(now):
            read_later.update(draft.operands)
            result.append(draft)
    result.reverse()
    return result


def write_backs(new_buffers: Mapping[str, TensorSpec], buffers: Mapping[str, TensorSpec]) -> list[Draft]:  # fmt: skip
    """One op a changed buffer: the new value in, the buffer's new storage out."""
    return [
        Draft(
            name=f"{name}.write_back",
            kind="poet.write_back",
            phase=Phase.UPDATE,
            module=name.rpartition(".")[0],
            function=copied_to_layout,
            args=(value, list(buffers[name].size), list(buffers[name].stride)),
            outputs=(buffers[name],),
            recomputable=False,
        )
        for name, value in new_buffers.items()
    ]


def _drafted(update: Update, blocks: list[Block], read_later: set[int]) -> tuple[Draft, ...]:
    """Clipping, if any, and the update."""
    gradient = update.gradient
    block = blocks[gradient.storage]
    free = (block.transient or update.spent) and gradient.storage not in read_later
    if update.clip is None:
        return (_update(update, gradient, free=free),)
    op = update.clip.in_place if free else update.clip.copying
    clipped = gradient
    if not free:
        name = f"{update.name}.clipped"
        size_bytes = blocks[update.parameter.storage].size_bytes
        blocks.append(Block(name=name, size_bytes=size_bytes, role=Role.GRADIENT))
        clipped = replace(update.parameter, storage=len(blocks) - 1, dtype=gradient.dtype)
    clip = Draft(
        name=f"{update.name}.clip",
        kind=str(op),
        phase=Phase.UPDATE,
        module=update.module,
        function=op,
        args=(gradient, *update.clip.args),
        outputs=() if free else (clipped,),
        mutates=(gradient.storage,) if free else (),
        flops=torch.Size(gradient.size).numel(),
    )
    return clip, _update(update, clipped, free=True)


def _update(update: Update, gradient: TensorSpec, *, free: bool) -> Draft:
    """`free`: the gradient may be overwritten."""
    count = torch.Size(gradient.size).numel()
    scratch = free and update.rule.wants_scratch() and gradient.dtype == update.parameter.dtype
    changed = (update.parameter, *update.state) + ((gradient,) if scratch else ())
    return Draft(
        name=f"{update.name}.update",
        kind=update.rule.kind,
        phase=Phase.UPDATE,
        module=update.module,
        function=update.rule.update,
        args=(update.name, scratch, update.parameter, gradient, *update.state),
        mutates=tuple(spec.storage for spec in changed),
        flops=update.rule.flops_per_element * count,
        recomputable=False,
    )
