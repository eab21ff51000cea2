"""When checkpoints are written and read, on the I/O thread, and what their faults are called.

A write that fails leaves the older checkpoint and the training state as they were: training may
go on. Invariant: a run never writes over checkpoints that it has neither resumed from nor made.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from poet_core.errors import ReplayError, UsageError
from poet_core.text import printable
from poet_runtime.checkpointing.checkpoints import Key, Resumed, TrainingState
from poet_runtime.checkpointing.slots import Checkpoint, CheckpointSlots, StoredPart
from poet_runtime.flash.io_lane import IoLane
from poet_runtime.flash.paging_file import FlashOptions


class Checkpointer:
    """The checkpoints of one run at `path.0` and `path.1`, both allocated here.

    `every`: steps between two, None for only those asked for. Raises ReplayError
    (`checkpoint_full`, `checkpoint_io`) and UsageError (`checkpoint_every`, `checkpoint_busy`,
    `checkpoint_foreign`).
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        every: int | None,
        state: TrainingState,
        lane: IoLane,
        options: FlashOptions,
    ) -> None:
        if every is not None and every < 1:
            raise UsageError(
                f"Expected checkpoint_every of at least 1 step, got {every}.",
                code="checkpoint_every",
            )
        state.facts(0, {})  # what cannot be written is named now, not after the first interval
        self._every, self._state, self._lane = every, state, lane
        self._path = Path(path)
        try:
            self._slots = CheckpointSlots(
                self._path, direct=options.direct, open_disk=options.open_disk
            )
            # Closed by the thread: nobody closes a file in which a dead disk still holds a call.
            lane.at_end(self._slots.close)
            self._slots.reserve(state.size_bytes())
        except OSError as error:
            raise _fault(error, self._path) from error
        self._found: Checkpoint | None = None
        self._look()
        self._ours = self._found is None

    @property
    def bytes_written(self) -> int:
        """Bytes of the checkpoints that this run has completed."""
        return self._slots.bytes_written

    def begin(self) -> None:
        """Before a step. Raises UsageError (`checkpoint_exists`) where the step would lead to
        writing over checkpoints that nobody has resumed from."""
        if not self._ours:
            raise UsageError(
                f"There is a checkpoint at {printable(str(self._path))!r} from which this run did "
                "not resume; going on would write over it.",
                code="checkpoint_exists",
                hint="Call resume() before the first step, or give another checkpoint_path.",
            )

    def due(self, steps: int) -> bool:
        """Whether a checkpoint is to be written after `steps` steps."""
        return self._every is not None and steps % self._every == 0

    def write(self, steps: int, notes: Mapping[str, Any]) -> None:
        """Writes a checkpoint of the parked state.

        Raises ReplayError: `checkpoint_full` or `checkpoint_io` where only the checkpoint failed,
        `flash_...` where the state itself could not be read.
        """
        self.begin()
        self._found = None
        facts = self._state.facts(steps, notes)
        try:
            json.dumps(facts)
        except (TypeError, ValueError) as error:
            raise UsageError(
                f"The notes cannot be written as JSON: {error}.", code="checkpoint_value"
            ) from error
        progress = self._lane.progress()
        try:
            self._lane.call(
                lambda: self._slots.write(facts, self._state.parts(), progress),
                "writing a checkpoint",
            )
        except OSError as error:
            raise _fault(error, self._path) from error

    def find(self) -> tuple[Checkpoint, Mapping[Key, StoredPart]] | None:
        """The newest whole checkpoint, if it fits. Raises DataError (`checkpoint_mismatch`)."""
        if self._found is None:
            self._look()
        found = self._found
        return None if found is None else (found, self._state.check(found))

    def restore(self, checkpoint: Checkpoint, parts: Mapping[Key, StoredPart]) -> Resumed:
        """Puts it into model, optimizer and generator. Raises DataError and ReplayError, and then
        the state is half changed."""
        progress = self._lane.progress()
        try:
            self._lane.call(
                lambda: self._state.restore(self._slots, checkpoint, parts, progress),
                "reading a checkpoint",
            )
        except OSError as error:
            raise _fault(error, self._path) from error
        self._ours = True
        facts = checkpoint.facts
        return Resumed(steps=facts["steps"], notes=facts["notes"], skipped=checkpoint.skipped)

    def _look(self) -> None:
        progress = self._lane.progress()

        def look() -> None:
            self._found = self._slots.newest(progress)

        self._lane.call(look, "looking for a checkpoint")


def _fault(error: OSError, path: Path) -> ReplayError:
    full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    return ReplayError(
        f"The checkpoint at {printable(str(path))!r} failed: {error.strerror or error}.",
        code="checkpoint_full" if full else "checkpoint_io",
        hint="The checkpoint before it is untouched. "
        + ("Make room" if full else "Look at the disk")
        + ", or give another checkpoint_path.",
        details={"errno": error.errno},
    )
