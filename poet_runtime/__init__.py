"""poet_runtime: the companion runtime, PyTorch in and PyTorch out.

from poet_runtime import TrainStep

    tracing         model, loss, optimizer, batch -> a program, each op measured
    splitting       large ops in parts, where the bits stay the same
    replaying       a program under a schedule, on the model's and the optimizer's own state
    flash           storages out of memory and back
    checkpointing   two slots, one of them whole at any moment
    memory          what bounds memory, and what measures it
    isolated        the same in a lean process of its own, under a cap

Importing the package costs nothing; torch comes with the first name that is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poet_runtime.train_step import TrainStep

__all__ = ["TrainStep"]


def __getattr__(name: str) -> Any:
    if name == "TrainStep":
        from poet_runtime.train_step import TrainStep

        return TrainStep
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
