"""What is traced, made empty: model, loss and batch as one module over fake parameters.

Fake tensors have shapes and no memory, so tracing allocates neither weights nor activations. Tied
parameters are one parameter here, under the first name that the model gives them; the model's own
forward runs unchanged, through `torch.func.functional_call`, on these, and has its own tensors back
afterwards, also where one module stands in several places of the model.

    FakeStep(p0, p1, .., b0, ..)(batch tensors) -> loss_of(model, loss_fn, batch)

What the loss of a batch is:

    batch        loss_fn               loss_fn None: the model has its loss in what it returns
    a tuple      loss_fn(model(*batch[:-1]), batch[-1])     model(*batch)
    a mapping    loss_fn(model(**batch), batch)             model(**batch)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from typing import Any

import torch
import torch.fx.traceback
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from poet_core.errors import TraceError
from poet_runtime.replaying.inputs import Batch, LossFunction
from poet_runtime.torch_device import device_of

MODULE_KEY = "poet_module"
"""Key of the module path in the metadata of traced nodes."""


class FakeStep(nn.Module):
    """The step as one function of flat tensors. `parameter_names` and `buffer_names` map this
    module's names (p0, b0) to the model's own."""

    def __init__(
        self,
        model: nn.Module,
        loss_fn: LossFunction | None,
        batch: Batch,
        mode: FakeTensorMode,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self._autocast = autocast
        self.device = device_of(model, batch)
        fake_device = self.device
        leaves, self._batch_form = pytree.tree_flatten(batch)
        self._leaves = leaves
        self._tensor_at = [at for at, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self.fake_batch = tuple(
            _faked(leaves[at], mode, fake_device, f"tensor {position} of the batch")
            for position, at in enumerate(self._tensor_at)
        )
        self.parameter_names: dict[str, str] = {}
        self.buffer_names: dict[str, str] = {}
        # A tuple hides it: the model's real parameters must not become this module's.
        self._whole = (_Whole(model, loss_fn),)
        for number, (name, parameter) in enumerate(model.named_parameters()):
            fake = nn.Parameter(
                _faked(parameter, mode, fake_device, f"parameter {name}"),
                requires_grad=parameter.requires_grad,
            )
            self.register_parameter(f"p{number}", fake)
            self.parameter_names[f"p{number}"] = name
        for number, (name, buffer) in enumerate(model.named_buffers()):
            self.register_buffer(f"b{number}", _faked(buffer, mode, fake_device, f"buffer {name}"))
            self.buffer_names[f"b{number}"] = name
        _check_separate(model)
        own_names = {name: own for own, name in (self.parameter_names | self.buffer_names).items()}
        self._places = {place: own_names[name] for place, name in _places(model).items()}

    def forward(self, *tensors: Tensor) -> Tensor:
        leaves = list(self._leaves)
        for at, tensor in zip(self._tensor_at, tensors, strict=True):
            leaves[at] = tensor
        batch = pytree.tree_unflatten(leaves, self._batch_form)
        state = {f"model.{place}": getattr(self, own) for place, own in self._places.items()}
        (whole,) = self._whole
        # Only the forward pass and the loss: backward() is called outside of autocast.
        with _module_paths(whole.model), _casting(self._autocast, self.device):
            loss = torch.func.functional_call(whole, state, (batch,), tie_weights=False)
        return _checked_loss(loss)


class _Whole(nn.Module):
    """Model and loss under one roof: a loss that looks at the model's weights sees the fake ones."""

    def __init__(self, model: nn.Module, loss_fn: LossFunction | None) -> None:
        super().__init__()
        self.model = model
        # Hidden: a loss module's own tensors are constants of the step.
        self._loss_fn = (loss_fn,)

    def forward(self, batch: Batch) -> Any:
        return loss_of(self.model, self._loss_fn[0], batch)


def loss_of(model: nn.Module, loss_fn: LossFunction | None, batch: Batch) -> Any:
    """The loss of one batch, as the table above says. Raises TraceError (`loss_not_found`)."""
    if isinstance(batch, dict):
        output, target = model(**batch), batch
        return _loss_in(output) if loss_fn is None else loss_fn(output, target)
    if loss_fn is None:
        return _loss_in(model(*batch))
    return loss_fn(model(*batch[:-1]), batch[-1])


def _loss_in(output: Any) -> Any:
    """The loss in what a model returns: a tensor, `.loss`, ["loss"], or the first of a tuple."""
    if isinstance(output, Tensor):
        return output
    loss = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if loss is None and isinstance(output, tuple | list) and output:
        loss = output[0]
    if loss is None:
        raise TraceError(
            f"Expected a model that returns its loss, got a {type(output).__name__} without one.",
            code="loss_not_found",
            hint="Give the batch what the model computes its loss from (labels), or pass a loss_fn.",
        )
    return loss


def _casting(dtype: torch.dtype | None, device: torch.device) -> AbstractContextManager[Any]:
    """What is traced runs under autocast, or as it would without us."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


@contextmanager
def _module_paths(model: nn.Module) -> Iterator[None]:
    """Inside, each traced node learns the path of the innermost module that runs."""
    running: list[ExitStack] = []

    def leave(_module: Any, _args: Any, _output: Any) -> None:
        running.pop().close()

    with ExitStack() as handles:
        for path, module in model.named_modules():

            def enter(_module: Any, _args: Any, path: str = path) -> None:
                running.append(ExitStack())
                running[-1].enter_context(torch.fx.traceback.annotate({MODULE_KEY: path}))

            handles.callback(module.register_forward_pre_hook(enter, prepend=True).remove)
            handles.callback(module.register_forward_hook(leave).remove)
        try:
            yield
        finally:
            while running:  # a forward that raised
                running.pop().close()


def _checked_loss(loss: Any) -> Tensor:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.is_floating_point():
        got = (
            f"a {loss.dtype} tensor of shape {tuple(loss.shape)}"
            if isinstance(loss, Tensor)
            else f"a {type(loss).__name__}"
        )
        raise TraceError(
            f"Expected the loss function to return one real number as a tensor, got {got}.",
            code="loss_not_scalar",
            hint="Reduce the loss, for example with .mean(); return only the loss.",
        )
    if not loss.requires_grad:
        raise TraceError(
            "Expected a loss that depends on a trainable parameter, got one without a gradient.",
            code="nothing_to_train",
            hint="Check requires_grad of the parameters, and for detach() or no_grad() on the way.",
        )
    return loss


def _faked(tensor: Tensor, mode: FakeTensorMode, device: torch.device, what: str) -> Tensor:
    """A fake tensor with the same layout in a storage of its own."""
    if tensor.layout is not torch.strided or tensor.is_complex() or tensor.is_quantized:
        kind = "complex" if tensor.is_complex() else str(tensor.layout)
        raise TraceError(
            f"Expected dense real tensors, got {what} ({kind}, {tensor.dtype}).",
            code="tensor_unsupported",
            hint="Use dense real tensors: sparse=False for embeddings, view_as_real for complex.",
        )
    with mode:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device=device
        )


def _places(model: nn.Module) -> dict[str, str]:
    """Where each tensor of the model is held, and its name there: the first place of the tensor.

    A tied tensor has a place in each module that holds it. A module has one place however many
    paths lead to it: swapped once a path, it would be restored to what the first swap put there.
    """
    first: dict[Tensor, str] = {}
    places: dict[str, str] = {}
    for path, module in model.named_modules():  # each module once
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    place = f"{path}.{name}" if path else name
                    places[place] = first.setdefault(tensor, place)
    return places


def _check_separate(model: nn.Module) -> None:
    """Refuse two tensors of the model in one memory: an update of one would change the other."""
    owners: dict[int, str] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not tensor.numel():
            continue
        storage = tensor.untyped_storage()._cdata
        if storage in owners:
            raise TraceError(
                f"Expected {name} to have memory of its own, got a view that shares it with "
                f"{owners[storage]}.",
                code="parameters_overlap",
                hint="Tie parameters by assigning the same nn.Parameter, or clone one of them.",
            )
        owners[storage] = name
