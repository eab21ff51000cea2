"""Where updates and write-backs stand in the document.

An update comes right after its gradient is complete and after the last other op that touches its
parameter, so no op reads a parameter too late. Buffers are written back at the very end: until then
every op that reads one can run again. Requires drafts in a valid order; ensures that they still are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from poet_core.graph import Phase
from poet_runtime.accumulation import copied_to_layout
from poet_runtime.drafts import Block, Draft
from poet_runtime.program import TensorSpec
from poet_runtime.update_rule import GroupRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One parameter's update: its rule and the tensors that it works on."""

    name: str
    module: str
    rule: GroupRule
    parameter: TensorSpec
    gradient: TensorSpec
    state: tuple[TensorSpec, ...]


def place_updates(
    drafts: Sequence[Draft], updates: Sequence[Update], blocks: Sequence[Block], kept: set[int]
) -> list[Draft]:
    """The drafts with every update in its place. `kept`: storages that outlive the step or are
    read later by something that is not placed yet; a gradient among them is never scratch."""
    last_touch = {
        storage: at for at, draft in enumerate(drafts) for storage in draft.operands + draft.changes
    }
    last_change = {storage: at for at, draft in enumerate(drafts) for storage in draft.changes}
    after: dict[int, list[Update]] = {}
    for update in updates:
        complete = last_change[update.gradient.storage]
        at = max(complete, last_touch.get(update.parameter.storage, complete))
        after.setdefault(at, []).append(update)
    ordered: list[Draft | Update] = []
    for at, draft in enumerate(drafts):
        ordered.append(draft)
        ordered += after.get(at, ())
    read_later = set(kept)
    result: list[Draft] = []
    for item in reversed(ordered):
        draft = item if isinstance(item, Draft) else _drafted(item, blocks, read_later)
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


def _drafted(update: Update, blocks: Sequence[Block], read_later: set[int]) -> Draft:
    gradient = update.gradient
    count = torch.Size(gradient.size).numel()
    scratch = (
        update.rule.wants_scratch()
        and blocks[gradient.storage].transient
        and gradient.storage not in read_later
        and gradient.dtype == update.parameter.dtype
    )
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
