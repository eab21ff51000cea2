"""What cannot be traced is refused with a code, a hint, and the user's own line."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.errors import TraceError
from poet_runtime.tracing.trace import trace

BATCH = (torch.rand(3, 4), torch.rand(3, 2))


def refused(
    model: nn.Module | None = None,
    loss_fn: Any = nn.functional.mse_loss,
    optimizer: Callable[[Any], torch.optim.Optimizer] | None = None,
    batch: Any = BATCH,
) -> TraceError:
    model = model or nn.Linear(4, 2)
    made = optimizer(model) if optimizer else torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TraceError) as caught:
        trace(model, loss_fn, made, batch)
    assert caught.value.message
    return caught.value


class Forward(nn.Module):
    """A linear layer whose output goes through a function."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.inner = nn.Linear(4, 2)
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        return self.function(self.inner(inputs))


def branching(values: Tensor) -> Tensor:
    if values.sum() > 0:
        return values
    return -values


def counting(values: Tensor) -> Tensor:
    return values[values > 0]


@pytest.mark.parametrize(("function", "line"), [(branching, 1), (counting, 1)])
def test_data_dependent_control_flow_names_the_users_line(
    function: Callable[[Tensor], Tensor], line: int
) -> None:
    error = refused(Forward(function))
    assert error.code == "data_dependent"
    assert error.details["file"] == __file__
    assert error.details["line"] == inspect.getsourcelines(function)[1] + line
    assert error.details["function"] == function.__name__
    assert "torch.where" in error.hint


def test_a_failed_trace_leaves_no_hook_and_no_mode() -> None:
    model = Forward(branching)
    refused(model)
    assert not model.inner._forward_hooks
    assert not model.inner._forward_pre_hooks
    assert not torch.compiler.is_compiling()
    assert torch.ones(1).item() == 1.0


def test_a_model_that_fails_by_itself_names_the_line() -> None:
    error = refused(Forward(lambda values: values @ values))
    assert error.code == "trace_failed"
    assert error.details["file"] == __file__
    assert "RuntimeError" in error.message


def unsupported_optimizers() -> dict[str, tuple[str, Callable[[nn.Module], Any]]]:
    class Own(torch.optim.SGD):
        pass

    def hooked(model: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        optimizer.register_step_post_hook(lambda *_: None)
        return optimizer

    foreign = nn.Parameter(torch.ones(1))
    return {
        "other": ("optimizer_unsupported", lambda m: torch.optim.Adagrad(m.parameters())),
        "subclass": ("optimizer_unsupported", lambda m: Own(m.parameters(), lr=0.1)),
        "amsgrad": ("optimizer_unsupported", lambda m: torch.optim.Adam(m.parameters(), amsgrad=True)),
        "none": ("optimizer_unsupported", lambda m: None),
        "tensor decay": (
            "optimizer_unsupported",
            lambda m: torch.optim.SGD(m.parameters(), lr=0.1, weight_decay=torch.tensor(0.1)),
        ),
        "hooks": ("optimizer_hooks", hooked),
        "foreign": ("parameter_unknown", lambda m: torch.optim.SGD([*m.parameters(), foreign], lr=1)),
        "idle": ("parameter_unknown", lambda m: torch.optim.SGD([foreign], lr=1)),
    }  # fmt: skip


@pytest.mark.parametrize("name", unsupported_optimizers())
def test_optimizers_that_are_not_supported(name: str) -> None:
    code, make = unsupported_optimizers()[name]
    error = refused(optimizer=make)
    assert error.code == code
    assert error.hint


def test_loss_and_batch() -> None:
    assert refused(loss_fn=lambda out, target: out).code == "loss_not_scalar"
    assert refused(loss_fn=lambda out, target: 1.0).code == "loss_not_scalar"
    assert refused(loss_fn=lambda out, target: (out - target).argmax()).code == "loss_not_scalar"
    assert refused(loss_fn=lambda out, target: out.detach().sum()).code == "nothing_to_train"
    assert refused(nn.Linear(4, 2).requires_grad_(False)).code == "nothing_to_train"
    assert refused(batch=list(BATCH)).code == "batch_not_tuple"
    assert refused(batch=BATCH[:1]).code == "batch_not_tuple"


def test_a_model_that_is_none() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(1))], lr=0.1)
    with pytest.raises(TraceError, match=r"torch\.nn\.Module") as caught:
        trace(lambda inputs: inputs, nn.functional.mse_loss, optimizer, BATCH)  # type: ignore[arg-type]
    assert caught.value.code == "model_unsupported"


def test_tensors_that_are_no_dense_real_numbers() -> None:
    assert refused(batch=(torch.rand(3, 4).to_sparse(), BATCH[1])).code == "tensor_unsupported"
    complex_batch = (torch.rand(3, 4, dtype=torch.complex64), BATCH[1])
    assert refused(batch=complex_batch).code == "tensor_unsupported"
    inside = Forward(lambda values: torch.view_as_complex(values).abs())
    assert refused(inside, batch=(BATCH[0], torch.rand(3))).code == "op_unsupported"


def test_in_place_changes_of_inputs_and_parameters() -> None:
    class Changing(nn.Module):
        def __init__(self, *, parameter: bool) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 2)
            self.parameter = parameter

        def forward(self, inputs: Tensor) -> Tensor:
            with torch.no_grad():
                (self.inner.weight if self.parameter else inputs).mul_(2)
            result: Tensor = self.inner(inputs)
            return result

    for parameter, what in ((False, "tensor 0 of the batch"), (True, "parameter inner.weight")):
        error = refused(Changing(parameter=parameter))
        assert error.code == "input_mutated"
        assert what in error.message


def test_a_buffer_that_takes_a_gradient_along() -> None:
    class Remembering(nn.Module):
        last: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 2)
            self.register_buffer("last", torch.zeros(2))

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = self.inner(inputs) + self.last
            self.last.copy_(result.mean(0))
            return result

    error = refused(Remembering())
    assert error.code == "input_mutated"
    assert "buffer last" in error.message


def test_parameters_that_share_memory_without_being_one() -> None:
    model = nn.Linear(4, 4)
    model.register_parameter("view", nn.Parameter(model.weight.detach()[:2]))
    error = refused(model, batch=(torch.rand(3, 4), torch.rand(3, 4)))
    assert error.code == "parameters_overlap"


def test_hooks_on_parameters() -> None:
    model = nn.Linear(4, 2)
    model.weight.register_hook(lambda gradient: gradient * 2)
    assert refused(model).code == "parameter_hooks"
