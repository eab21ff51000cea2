"""One eager training step with the interface of TrainStep, checkpoints included.

Invariant: a checkpoint is written whole or not at all, and holds all that the next step depends on:
model, optimizer, the generator that dropout draws from, and the number of steps.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from poet_core.errors import DataError
from poet_core.text import printable
from poet_runtime.checkpointing.checkpoints import Resumed
from projection_nets.replacing import replace_file


class EagerStep:
    """zero_grad, forward, backward, optimizer.step(); the loss comes back detached."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: Callable[[Any, Tensor], Tensor],
        optimizer: torch.optim.Optimizer,
        *,
        checkpoint_path: Path | None = None,
        checkpoint_every: int | None = None,
    ) -> None:
        self._model, self._loss_fn, self._optimizer = model, loss_fn, optimizer
        self._path, self._every = checkpoint_path, checkpoint_every
        self.steps = 0

    def __call__(self, *batch: Tensor) -> Tensor:
        self._optimizer.zero_grad(set_to_none=True)
        loss = self._loss_fn(self._model(*batch[:-1]), batch[-1])
        torch.autograd.backward(loss)
        self._optimizer.step()
        self.steps += 1
        if self._path is not None and self._every and self.steps % self._every == 0:
            self.checkpoint()
        return loss.detach()

    def checkpoint(self) -> None:
        """Writes the state as it is after the newest step; raises DataError where it cannot."""
        assert self._path is not None  # asked for by resume or by the path itself
        content = io.BytesIO()
        state = {
            "steps": self.steps,
            "model": self._model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "generator": torch.get_rng_state(),
        }
        torch.save(state, content)
        replace_file(self._path, content.getvalue(), what="checkpoint")

    def resume(self) -> Resumed:
        """Puts the checkpoint into model, optimizer and generator, where there is one.

        Raises DataError (`checkpoint_corrupt`, `checkpoint_mismatch`, `projection_differs`).
        """
        assert self._path is not None  # as above
        if not self._path.exists():
            return Resumed(steps=0, notes={})
        try:
            state = torch.load(self._path, weights_only=True)
            steps, model, optimizer = state["steps"], state["model"], state["optimizer"]
            generator = state["generator"]
        except (OSError, RuntimeError, ValueError, KeyError, TypeError, EOFError, pickle.UnpicklingError) as error:  # fmt: skip
            raise self._refused("checkpoint_corrupt", "is no whole checkpoint") from error
        try:
            self._model.load_state_dict(model)
            self._optimizer.load_state_dict(optimizer)
            torch.set_rng_state(generator)
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise self._refused("checkpoint_mismatch", "is of another model") from error
        self.steps = steps
        return Resumed(steps=steps, notes={})

    def _refused(self, code: str, reason: str) -> DataError:
        return DataError(
            f"The checkpoint {printable(str(self._path))} {reason}.",
            code=code,
            hint="Delete it to start anew, or pass the path of this training's checkpoint.",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        pass
