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
from poet_runtime.program import TensorSpec
from poet_runtime.tracing.accumulation import copied_to_layout
from poet_runtime.tracing.clipping import Clip
from poet_runtime.tracing.drafts import Block, Draft, specs_in
from poet_runtime.update_rule import GroupRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """What one call of an update works on: some rows of a parameter, of its gradient and of its
    state. `number`: which of the parameter's chunks; None where the call updates all of it."""

    number: int | None = None
    parameter: TensorSpec
    gradient: TensorSpec
    state: tuple[TensorSpec, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Update:
    """One parameter's update: its rule and the tensors that it works on, in one chunk or several.
    `clip`: what is done to the gradient right before. `spent`: nobody needs the gradient
    afterwards, even if it persists."""

    name: str
    module: str
    rule: GroupRule
    chunks: tuple[Chunk, ...]
    clip: Clip | None = None
    spent: bool = False

    @property
    def parameter(self) -> int:
        """The parameter's storage."""
        return self.chunks[0].parameter.storage

    @property
    def gradient(self) -> TensorSpec:
        """The gradient, or the first rows of it."""
        return self.chunks[0].gradient


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
        at = max(complete, last_touch.get(update.parameter, complete))
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
    """Clipping, if any, and the update; of one chunk after the other."""
    gradient = update.gradient.storage
    free = (blocks[gradient].transient or update.spent) and gradient not in read_later
    drafts: list[Draft] = []
    for chunk in update.chunks:
        if update.clip is None:
            drafts.append(_update(update, chunk, chunk.gradient, free=free))
            continue
        clip, clipped = _clip(update, chunk, update.clip, blocks, free=free)
        drafts += clip, _update(update, chunk, clipped, free=True)
    return tuple(drafts)


def _clip(
    update: Update, chunk: Chunk, how: Clip, blocks: list[Block], *, free: bool
) -> tuple[Draft, TensorSpec]:
    """The gradient's clipping, and where the clipped gradient is."""
    gradient = clipped = chunk.gradient
    if not free:
        name = _numbered(f"{update.name}.clipped", chunk)
        clipped = replace(chunk.parameter, storage=len(blocks), dtype=gradient.dtype)
        size_bytes = blocks[update.parameter].size_bytes
        if chunk.number is not None:  # whose rows are contiguous
            clipped = replace(clipped, offset=0)
            size_bytes = _bytes_of(clipped)
        blocks.append(Block(name=name, size_bytes=size_bytes, role=Role.GRADIENT))
    op = how.in_place if free else how.copying
    draft = Draft(
        name=_numbered(f"{update.name}.clip", chunk),
        kind=str(op),
        phase=Phase.UPDATE,
        module=update.module,
        function=op,
        args=(gradient, *how.args),
        outputs=() if free else (clipped,),
        mutates=(gradient.storage,) if free else (),
        flops=torch.Size(gradient.size).numel(),
        touched_bytes=_touched_bytes(chunk, (gradient, clipped)[: 1 if free else 2]),
    )
    return draft, clipped


def _update(update: Update, chunk: Chunk, gradient: TensorSpec, *, free: bool) -> Draft:
    """`free`: the gradient may be overwritten."""
    parameter, state = chunk.parameter, chunk.state
    count = torch.Size(gradient.size).numel()
    scratch = free and update.rule.wants_scratch() and gradient.dtype == parameter.dtype
    changed = (parameter, *state) + ((gradient,) if scratch else ())
    return Draft(
        name=_numbered(f"{update.name}.update", chunk),
        kind=update.rule.kind,
        phase=Phase.UPDATE,
        module=update.module,
        function=update.rule.update,
        args=(update.name, scratch, parameter, gradient, *state),
        mutates=tuple(spec.storage for spec in changed),
        flops=update.rule.flops_per_element * count,
        touched_bytes=_touched_bytes(chunk, (parameter, gradient, *state)),
        recomputable=False,
    )


def _numbered(name: str, chunk: Chunk) -> str:
    return name if chunk.number is None else f"{name}.{chunk.number}"


def _touched_bytes(chunk: Chunk, specs: Sequence[TensorSpec]) -> int | None:
    return None if chunk.number is None else sum(map(_bytes_of, specs))


def _bytes_of(spec: TensorSpec) -> int:
    return torch.Size(spec.size).numel() * spec.dtype.itemsize
