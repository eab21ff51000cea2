"""The switches of a model that decide what its step does: training or evaluating, frozen or not.

Eager code reads them in every step, a trace has them built in. Invariant: a step never runs in
another mode than it was traced for without saying so.
"""

from __future__ import annotations

from torch import nn

from poet_core.errors import ReplayError
from poet_core.text import printable


class ModelModes:
    """The modes of `model` as they are now."""

    def __init__(self, model: nn.Module) -> None:
        self._training = [(module, module.training) for module in model.modules()]
        self._trainable = [(tensor, tensor.requires_grad) for tensor in model.parameters()]
        self._model = model

    def check(self) -> None:
        """Raises ReplayError (`mode_changed`) where one has changed."""
        for module, training in self._training:
            if module.training is not training:
                names = (name for name, other in self._model.named_modules() if other is module)
                mode = "train()" if training else "eval()"
                raise _changed(f"module {next(names)!r}", f"in {mode} mode", f"call {mode} on it")
        for tensor, trainable in self._trainable:
            if tensor.requires_grad is not trainable:
                named = self._model.named_parameters()
                names = (name for name, other in named if other is tensor)
                expected = f"with requires_grad={trainable}"
                raise _changed(f"parameter {next(names, '')!r}", expected, "set it back")


def _changed(what: str, expected: str, remedy: str) -> ReplayError:
    return ReplayError(
        f"Expected {printable(what)} {expected}, as when the step was traced, got it otherwise.",
        code="mode_changed",
        hint=f"{remedy.capitalize()} before the step, or build a new TrainStep for the new mode.",
    )
