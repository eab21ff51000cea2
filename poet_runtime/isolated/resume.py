"""Resuming where the state is larger than the RAM: a checkpoint goes to flash, value by value.

TrainStep's own `resume` brings the whole state into RAM first, which a worker under a cap cannot.
Here each value is read, put where the plan keeps it between steps, and let go. Requires a parked
state; ensures that it stays parked. Invariant: as with TrainStep, a checkpoint that does not fit is
refused before anything has changed, and a fault after that voids the step.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from poet_core.errors import DataError
from poet_runtime.checkpointing.checkpointer import Checkpointer, _fault
from poet_runtime.checkpointing.checkpoints import Key, Resumed, _decoded, _read
from poet_runtime.checkpointing.slots import Checkpoint, StoredPart
from poet_runtime.replaying.running_step import RunningStep
from poet_runtime.replaying.wholes import Whole


def resume_parked(checkpointer: Checkpointer, running: RunningStep) -> Resumed | None:
    """Puts the newest whole checkpoint into a parked step; None where there is none.

    Raises DataError (`checkpoint_mismatch`, `checkpoint_corrupt`) before anything has changed.
    """
    running.park()
    found = checkpointer.find()
    if found is None:
        return None
    checkpoint, parts = found
    missing = [key for key in checkpointer._state._bound if key not in parts]
    if missing:
        raise DataError(
            f"The checkpoint does not fit: it has no {'.'.join(filter(None, missing[0]))}.",
            code="checkpoint_mismatch",
            hint="Resume with the model and optimizer that wrote it, or give another "
            "checkpoint_path.",
        )
    with running.validity.void_on_fault():
        for key, part in parts.items():
            _restore(checkpointer, running, key, _value(checkpointer, checkpoint, part))
        _restore_numbers(checkpointer, running, checkpoint)
    checkpointer._ours = True
    if running.micro_batches is not None:
        running.micro_batches.restart()
    facts = checkpoint.facts
    return Resumed(steps=facts["steps"], notes=facts["notes"], skipped=checkpoint.skipped)


def _restore(
    checkpointer: Checkpointer, running: RunningStep, key: Key, value: torch.Tensor
) -> None:
    state, (owner, name, entry) = checkpointer._state, key
    whole = state._bound.get(key)
    if whole is not None:
        for storage, rows in _storages(whole, value):
            _put(running, storage, rows)
    elif owner == "model":
        state._model[name].data.copy_(value)
    elif owner == "optimizer":
        running.optimizer.state[dict(state._trained())[name]][entry] = value
    elif owner == "group":
        state._set_group(int(name), entry, value)
    else:
        torch.set_rng_state(value)


def _restore_numbers(
    checkpointer: Checkpointer, running: RunningStep, checkpoint: Checkpoint
) -> None:
    """What is no tensor; rules read step counts afterwards."""
    state = checkpointer._state
    trained = dict(state._trained())
    for name, values in checkpoint.facts["state"].items():
        known = running.optimizer.state[trained[name]]
        known.update((key, _decoded(value)) for key, value in values.items())
    for number, group in enumerate(checkpoint.facts["groups"]):
        for key, value in group.items():
            state._set_group(number, key, _decoded(value))
    for rule in running.program.update_rules:
        rule.load(running.optimizer)


def _value(checkpointer: Checkpointer, checkpoint: Checkpoint, part: StoredPart) -> torch.Tensor:
    """A tensor of the checkpoint, read on the I/O thread as all that it reads."""
    found: list[torch.Tensor] = []
    try:
        checkpointer._lane.call(
            lambda: found.append(_read(checkpointer._slots, checkpoint, part)),
            "reading a checkpoint",
        )
    except OSError as error:
        raise _fault(error, checkpointer._path) from error
    return found.pop()


def _storages(whole: Whole, value: torch.Tensor) -> Iterator[tuple[int, torch.Tensor]]:
    if whole.split:
        yield from whole.views(value)
    else:
        yield whole.storages[0], value


def _put(running: RunningStep, storage: int, value: torch.Tensor) -> None:
    """Makes `value` what the step finds in the storage, on flash, in RAM or both."""
    schedule, holders = running.compiled.schedule, running.holders
    tensor = holders.blank(storage)
    tensor.copy_(value)
    on_flash = storage in schedule.start_flash
    if on_flash:
        assert running.pager is not None, "what starts on flash has a pager"
        place = running.compiled.layout.homes[storage]
        running.pager.wait(running.pager.page_out(storage, place, tensor))
    if not on_flash or storage in schedule.start_ram:
        holders.assign(storage, tensor)
