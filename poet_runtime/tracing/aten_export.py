"""The step as one ATen program, forward and backward, without memory and without running it.

Wraps `torch._functorch.aot_autograd.aot_export_joint_with_descriptors`, the only private API that
yields forward and backward in one functional graph with the meaning of every input and output;
tests/runtime/test_canary_torch_private_api.py watches it. Invariant: the model, the generator and
the grad mode are afterwards as they were.
"""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.fx.traceback
from torch import nn
from torch._functorch._aot_autograd import descriptors as aot
from torch._functorch.aot_autograd import aot_export_joint_with_descriptors
from torch._subclasses import fake_tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from poet_core.errors import PoetError, TraceError
from poet_runtime.replaying.inputs import Batch, LossFunction
from poet_runtime.tracing.dropout import exported_as
from poet_runtime.tracing.subject import FakeStep

_DATA_DEPENDENT = (
    fake_tensor.DataDependentOutputException,
    fake_tensor.DynamicOutputShapeException,
)
_OWN_FOLDERS = (Path(torch.__file__).parent, Path(__file__).parents[1])


@dataclass(frozen=True, slots=True, kw_only=True)
class JointProgram:
    """The exported program. Nodes are named by the model's own names.

    `parameters`, `buffers`: placeholder of each; `batch`: of each tensor of the batch, in order;
    `tangent`: the gradient of the loss with respect to itself; `gradients`: by parameter;
    `new_buffers`: the value of each changed buffer at the end; `device`: where all of it is.
    """

    module: torch.fx.GraphModule
    mode: FakeTensorMode
    device: torch.device
    parameters: Mapping[str, torch.fx.Node]
    buffers: Mapping[str, torch.fx.Node]
    batch: tuple[torch.fx.Node, ...]
    tangent: torch.fx.Node
    loss: torch.fx.Node
    gradients: Mapping[str, torch.fx.Node]
    new_buffers: Mapping[str, torch.fx.Node]


def export_joint(
    model: nn.Module,
    loss_fn: LossFunction | None,
    batch: Batch,
    autocast: torch.dtype | None = None,
) -> JointProgram:
    """Exports the step. Raises TraceError."""
    # Constants of the model (attributes that are no buffers) are real tensors inside.
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    step = FakeStep(model, loss_fn, batch, mode, autocast)
    if not any(parameter.requires_grad for parameter in step.parameters()):
        raise TraceError(
            "Expected a model with a trainable parameter, got none with requires_grad.",
            code="nothing_to_train",
            hint="Set requires_grad on the parameters that the optimizer trains.",
        )
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.enable_grad(),
            _compiling(),
            mode,
            torch.fx.traceback.preserve_node_meta(),
            ExitStack() as stack,
        ):
            joint = aot_export_joint_with_descriptors(
                stack, step, step.fake_batch, decompositions=exported_as(step.device)
            )
    except PoetError:
        raise
    except _DATA_DEPENDENT as error:
        raise _located(
            error,
            "the step depends on the values of tensors, which tracing does not have",
            code="data_dependent",
            hint="Replace .item(), if on a tensor, nonzero and boolean indexing with tensor "
            "operations such as torch.where; the step must be the same for every batch.",
        ) from error
    except Exception as error:
        raise _located(
            error,
            f"the model, the loss or torch's tracer raised {type(error).__name__}: "
            f"{str(error).strip()[:500]}",
            code="trace_failed",
            hint="Run loss_fn(model(*batch[:-1]), batch[-1]) outside of the tracer first.",
        ) from error
    return _described(joint.graph_module, mode, step)


@contextmanager
def _compiling() -> Iterator[None]:
    """Inside, torch.compiler.is_compiling() holds, as it does under torch.export: libraries then
    leave out their checks of tensor values."""
    flags = ("_is_compiling_flag", "_is_exporting_flag")
    before = {flag: getattr(torch.compiler, flag) for flag in flags}
    try:
        for flag in flags:
            setattr(torch.compiler, flag, True)
        yield
    finally:
        for flag, value in before.items():
            setattr(torch.compiler, flag, value)


def _described(module: torch.fx.GraphModule, mode: FakeTensorMode, step: FakeStep) -> JointProgram:
    """Sort inputs and outputs by their descriptors; refuse what a step may not do."""
    parameters, buffers, batch, tangent = _described_inputs(module, step)
    losses: list[torch.fx.Node] = []
    gradients: dict[str, torch.fx.Node] = {}
    new_buffers: dict[str, torch.fx.Node] = {}
    (output,) = module.graph.find_nodes(op="output")
    for node, described in zip(output.args[0], output.meta["desc"], strict=True):
        if node is None:
            continue
        if isinstance(described, aot.PlainAOTOutput):
            losses.append(node)
        elif isinstance(described, aot.GradAOTOutput):
            if isinstance(described.grad_of, aot.ParamAOTInput):
                gradients[step.parameter_names[described.grad_of.target]] = node
        elif isinstance(described, aot.InputMutationAOTOutput):
            new_buffers[_mutated_buffer(described.mutated_input, step)] = node
        else:
            raise _unexpected(described)
    if len(losses) != 1:
        raise _unexpected(f"{len(losses)} losses")
    return JointProgram(
        module=module,
        mode=mode,
        device=step.device,
        parameters=parameters,
        buffers=buffers,
        batch=batch,
        tangent=tangent,
        loss=losses[0],
        gradients=gradients,
        new_buffers=new_buffers,
    )


def _described_inputs(
    module: torch.fx.GraphModule, step: FakeStep
) -> tuple[
    dict[str, torch.fx.Node], dict[str, torch.fx.Node], tuple[torch.fx.Node, ...], torch.fx.Node
]:
    """Parameters, buffers, batch and tangent."""
    parameters: dict[str, torch.fx.Node] = {}
    buffers: dict[str, torch.fx.Node] = {}
    batch: dict[int, torch.fx.Node] = {}
    tangents: list[torch.fx.Node] = []
    for node in module.graph.find_nodes(op="placeholder"):
        described = node.meta["desc"]
        if isinstance(described, aot.ParamAOTInput):
            parameters[step.parameter_names[described.target]] = node
        elif isinstance(described, aot.BufferAOTInput):
            buffers[step.buffer_names[described.target]] = node
        elif isinstance(described, aot.PlainAOTInput):
            batch[described.idx] = node
        elif isinstance(described, aot.TangentAOTInput):
            if isinstance(described.output, aot.InputMutationAOTOutput):
                name = _mutated_buffer(described.output.mutated_input, step)
                raise _input_mutated(f"buffer {name} that a gradient flows through")
            tangents.append(node)
        else:
            raise _unexpected(described)
    if len(tangents) != 1:
        raise _unexpected(f"{len(tangents)} differentiable outputs")
    return parameters, buffers, tuple(batch[at] for at in range(len(batch))), tangents[0]


def _mutated_buffer(described: aot.AOTInput, step: FakeStep) -> str:
    if isinstance(described, aot.BufferAOTInput):
        return step.buffer_names[described.target]
    if isinstance(described, aot.ParamAOTInput):
        what = f"parameter {step.parameter_names[described.target]}"
    elif isinstance(described, aot.PlainAOTInput):
        what = f"tensor {described.idx} of the batch"
    else:
        raise _unexpected(described)
    raise _input_mutated(what)


def _input_mutated(what: str) -> TraceError:
    return TraceError(
        f"Expected the step to leave its inputs as they are, got an in-place change of {what}.",
        code="input_mutated",
        hint="Work on a clone, or change a buffer under torch.no_grad().",
    )


def _unexpected(what: object) -> TraceError:
    return TraceError(
        f"Expected parameters, buffers, a batch and one loss, got {str(what)[:200]}.",
        code="trace_unexpected",
        hint="The model does something that the tracer has no place for; please report it.",
    )


def _located(error: Exception, reason: str, *, code: str, hint: str) -> TraceError:
    """A TraceError that names the innermost line that is neither torch's nor ours."""
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not any(Path(frame.filename).is_relative_to(folder) for folder in _OWN_FOLDERS)
        and Path(frame.filename).is_file()
    ]
    if not frames:
        return TraceError(f"Tracing stopped: {reason}.", code=code, hint=hint)
    frame = frames[-1]
    source = linecache.getline(frame.filename, frame.lineno or 0).strip()
    return TraceError(
        f"Tracing stopped at {frame.filename}:{frame.lineno} ({source}): {reason}.",
        code=code,
        hint=hint,
        details={"file": frame.filename, "line": frame.lineno, "function": frame.name},
    )
