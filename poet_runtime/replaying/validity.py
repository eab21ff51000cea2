"""Whether a step may be used: not once it is closed, and not after a fault has left it half done.

Invariant: a step either completes or is void, and after a void one nothing goes on from there.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager

from poet_core.errors import PoetError, ReplayError


class Validity:
    """`void`: what went wrong, "" while nothing has; `closed`: whether the step has been closed."""

    __slots__ = ("closed", "void")

    def __init__(self) -> None:
        self.void = ""
        self.closed = False

    def check(self) -> None:
        """Raises ReplayError (`step_closed`, `step_void`) where the step may not be used."""
        if self.closed:
            raise ReplayError("This TrainStep is closed.", code="step_closed")
        if self.void:
            raise ReplayError(
                f"An earlier step did not complete, so the state is void: {self.void}",
                code="step_void",
                hint="close() it, load a checkpoint into model and optimizer, and build a new "
                "TrainStep.",
            )

    @contextmanager
    def void_on_fault(self) -> Iterator[None]:
        """Whatever goes wrong inside leaves the state half changed."""
        try:
            yield
        except BaseException as error:
            traceback.clear_frames(error.__traceback__)  # the step's tensors are in them
            self.void = error.message if isinstance(error, PoetError) else repr(error)
            if isinstance(error, PoetError) or not isinstance(error, Exception):
                raise
            raise ReplayError(
                f"The step failed and is void: {error!r}",
                code="step_failed",
                hint="The error above says what failed and why.",
            ) from error
