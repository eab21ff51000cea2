"""poet_runtime: the companion runtime, PyTorch in and PyTorch out.

from poet_runtime import TrainStep

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
