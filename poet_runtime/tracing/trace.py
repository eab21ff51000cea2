"""trace: model, loss, optimizer and one batch -> Program.

    export_joint    forward and backward as one ATen program, on fake tensors   (aten_export)
    lower           which tensors share memory: storages and ops                (storages)
    exact_dropout   dropout by a byte mask, with eager's rounding               (dropout)
    pruned ..       dead code, gradients added in place and laid out            (accumulation)
    added_up        gradients added up over calls, if asked for                 (micro_batches)
    clipped         norms of the gradients and the coefficient, if asked for    (clipping)
    chunked_rows    large updates cut by rows, if asked for                     (chunks)
    place_updates   an update as soon as its gradient is complete               (placement)
    split_ops       large ops in place or in pieces, if asked for               (splitting)
    measure         workspace and, if asked for, seconds of each op             (measure)
    assembled       storages numbered for good, graph, calls and bindings       (assembly)

Invariant: neither model, optimizer, batch nor the generator is changed, and nothing of the size of
weights or activations is allocated, except one op's operands at a time where workspace is measured.

The program's arithmetic is eager PyTorch's own, bit for bit at the same thread count, with one
exception: `nn.LSTM` is traced as its cell's ATen ops, which oneDNN's fused kernel (eager's default
in float32) does not match; with torch.backends.mkldnn off, eager runs those ops too.

Batch: a tuple whose last element is the target, or a mapping of the model's arguments (`subject`).
Tensors that the model holds without registering them, and tensors of a loss module, are constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import unset_fake_temporarily

from poet_core.errors import TraceError
from poet_core.graph import Role
from poet_runtime.kernels import AsTraced
from poet_runtime.program import DEVICE_CONDITION, Program, TensorSpec, UpdateRule
from poet_runtime.replaying.inputs import Batch, LossFunction, as_batch
from poet_runtime.splitting.notes import SplitNote
from poet_runtime.splitting.split_pass import split_ops
from poet_runtime.step_options import StepOptions
from poet_runtime.torch_device import without_autocast
from poet_runtime.tracing.accumulation import accumulated_in_place, laid_out, pruned
from poet_runtime.tracing.assembly import assembled
from poet_runtime.tracing.aten_export import export_joint
from poet_runtime.tracing.chunks import Rows, chunk_bytes_within, chunked_rows, rows_of
from poet_runtime.tracing.clipping import Clip, clipped
from poet_runtime.tracing.drafts import Block, Draft
from poet_runtime.tracing.dropout import exact_dropout
from poet_runtime.tracing.measure import Measurement, Measurer
from poet_runtime.tracing.micro_batches import LastCallRule, MicroBatches, added_up, on_last_call
from poet_runtime.tracing.optimizers import check_optimizer, places_in, rules_for, state_of
from poet_runtime.tracing.placement import Chunk, Update, place_updates, write_backs
from poet_runtime.tracing.storages import Lowered, lower
from poet_runtime.update_rule import GroupRule


def trace(
    model: nn.Module,
    loss_fn: LossFunction | None,
    optimizer: torch.optim.Optimizer,
    batch: tuple[Any, ...] | Mapping[str, Any],
    *,
    measure_workspace: bool = True,
    measure_seconds: bool = False,
    name: str = "",
    options: StepOptions | None = None,
) -> Program:
    """The whole training step as a Program.

    `batch` holds tensors or nested structures of them; only shapes, strides and dtypes count.
    `measure_workspace`: run each distinct op once on random data (seconds for small models); without
    it, workspace is only what an op returns and nobody uses, and a plan may not fit.
    `measure_seconds` also times each op, for plans on this machine. `options`: clipping and so on.
    Raises TraceError; its code says what is unsupported.
    """
    options = options or StepOptions()
    whole_batch = _checked_batch(model, loss_fn, batch)
    check_optimizer(optimizer)
    with unset_fake_temporarily():
        joint = export_joint(model, loss_fn, whole_batch, options.autocast)
        if joint.device.type != "cpu":
            # Which parts have the same bits is known of the CPU's kernels only.
            options = replace(options, split_above_bytes=None)
        # The exported program contains autocast's casts: nothing may cast again.
        with without_autocast(joint.device), torch.no_grad():
            lowered = lower(joint)
            whole = _whole_step(lowered, model, optimizer, options)
            drafts, measured = _measured(
                lowered, whole.drafts, workspace=measure_workspace, seconds=measure_seconds
            )
    rules: tuple[UpdateRule, ...] = whole.rules
    if whole.micro_batches is not None:
        drafts = on_last_call(drafts, whole.micro_batches)
        gated = [LastCallRule(rule, whole.micro_batches) for rule in rules]
        rules = (*gated, whole.micro_batches)
    states = whole.states
    conditions = _conditions(model, joint.device)
    program = assembled(
        lowered, drafts, measured, states, whole.totals, rules, conditions, name, options
    )
    return replace(program, splits=whole.splits)


@dataclass(frozen=True, slots=True, kw_only=True)
class _WholeStep:
    """All drafts in document order, the update rules, the optimizer's state tensors by parameter
    and key, in parts where updates are in chunks, and where gradients add up over calls, if they
    do."""

    drafts: list[Draft]
    rules: tuple[GroupRule, ...]
    states: dict[tuple[str, str], tuple[TensorSpec, ...]]
    totals: dict[str, TensorSpec]
    micro_batches: MicroBatches | None
    splits: tuple[SplitNote, ...]


def _measured(
    lowered: Lowered, drafts: list[Draft], *, workspace: bool, seconds: bool
) -> tuple[list[Draft], list[Measurement]]:
    if not (workspace or seconds):
        return drafts, [Measurement(workspace_bytes=draft.unused_bytes) for draft in drafts]
    sizes = [block.size_bytes for block in lowered.blocks]
    measurer = Measurer(sizes, seconds=seconds, device=lowered.device)
    measured = [measurer.measure(draft) for draft in drafts]
    checked = [
        replace(draft, function=AsTraced(draft.function, draft.outputs))
        if found.lies_otherwise
        else draft
        for draft, found in zip(drafts, measured, strict=True)
    ]
    return checked, measured


def _checked_batch(model: object, loss_fn: object, batch: object) -> Batch:
    if not isinstance(model, nn.Module):
        raise TraceError(
            f"Expected the model to be a torch.nn.Module, got {type(model).__name__}.",
            code="model_unsupported",
        )
    whole = as_batch(batch)
    least = 1 if loss_fn is None or isinstance(whole, dict) else 2
    if not isinstance(whole, tuple | dict) or len(whole) < least:
        got = f"a tuple of {len(whole)}" if isinstance(whole, tuple) else type(batch).__name__
        raise TraceError(
            f"Expected the batch as a tuple of the model's inputs and the target, got {got}.",
            code="batch_not_tuple",
            hint="Pass (input, target); the last element is the target, None if there is none. A "
            "model that returns its loss takes loss_fn None and a batch that is all its input, "
            "as a tuple or as a mapping.",
        )
    _check_hooks(model)
    return whole


def _check_hooks(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            raise TraceError(
                f"Expected parameters without hooks, got one on {name}.",
                code="parameter_hooks",
                hint="A hook is Python that the traced step does not run; remove it.",
            )


def _whole_step(
    lowered: Lowered,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    options: StepOptions,
) -> _WholeStep:
    assert lowered.loss is not None
    rules = rules_for(optimizer, model, lowered.gradients)
    trained = {name for _, names in rules for name in names}
    if not trained:
        raise TraceError(
            "Expected the optimizer to hold a parameter that gets a gradient, got none.",
            code="nothing_to_train",
            hint="Build the optimizer from the parameters of this model.",
        )
    # In the model's order, in which clipping adds up.
    gradients = {name: lowered.gradients[name] for name in lowered.parameters if name in trained}
    kept = {lowered.loss.storage, *(spec.storage for spec in lowered.new_buffers.values())}
    wanted = kept | {spec.storage for spec in gradients.values()}
    drafts = pruned(exact_dropout(lowered.drafts, lowered.device), lowered.blocks, wanted)
    drafts, gradients = accumulated_in_place(drafts, lowered.blocks, gradients)
    drafts, gradients = laid_out(drafts, lowered.blocks, gradients, lowered.parameters)
    micro_batches: MicroBatches | None = None
    totals: dict[str, TensorSpec] = {}
    if options.accumulate > 1:
        micro_batches = MicroBatches(places_in(rules), options.accumulate)
        drafts, totals = added_up(drafts, lowered.blocks, gradients, micro_batches)
        gradients = totals
    drafts, clip = clipped(drafts, lowered.blocks, gradients, options)
    states, updates = _updates(
        lowered, model, optimizer, rules, gradients, clip,
        spent=bool(totals), split_above_bytes=options.split_above_bytes,
        chunk_bytes=chunk_bytes_within(options.split_above_bytes),
    )  # fmt: skip
    drafts = place_updates(drafts, updates, lowered.blocks, kept)
    drafts += write_backs(lowered.new_buffers, lowered.buffers)
    splits: tuple[SplitNote, ...] = ()
    if options.split_above_bytes is not None:
        results = {lowered.loss.storage}
        drafts, splits = split_ops(drafts, lowered.blocks, results, options.split_above_bytes)
    return _WholeStep(
        drafts=drafts,
        rules=tuple(rule for rule, _ in rules),
        states=states,
        totals=totals,
        micro_batches=micro_batches,
        splits=splits,
    )


def _updates(
    lowered: Lowered,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    rules: list[tuple[GroupRule, tuple[str, ...]]],
    gradients: dict[str, TensorSpec],
    clip: Clip | None,
    *,
    spent: bool,
    split_above_bytes: int | None,
    chunk_bytes: int,
) -> tuple[dict[tuple[str, str], tuple[TensorSpec, ...]], list[Update]]:
    """State tensors by parameter and key, and one update a parameter."""
    states: dict[tuple[str, str], tuple[TensorSpec, ...]] = {}
    updates: list[Update] = []
    parameters = dict(model.named_parameters())
    for rule, names in rules:
        keys = rule.state_keys()
        for name in names:
            spec, gradient = lowered.parameters[name], gradients[name]
            known = {key: state_of(optimizer, parameters[name], key) for key in keys}
            cuts = chunked_rows(
                rule, name, spec, gradient, list(known.values()), split_above_bytes, chunk_bytes
            )
            for key in keys:
                states[name, key] = _state_specs(lowered, f"{name}.{key}", spec, known[key], cuts)
            updates.append(
                Update(
                    name=name,
                    module=name.rpartition(".")[0],
                    rule=rule,
                    chunks=tuple(
                        Chunk(
                            number=number if cuts else None,
                            parameter=rows_of(spec, rows) if cuts else spec,
                            gradient=rows_of(gradient, rows) if cuts else gradient,
                            state=tuple(states[name, key][number] for key in keys),
                        )
                        for number, rows in enumerate(cuts or ((0, 0),))
                    ),
                    clip=clip,
                    spent=spent,
                )
            )
    return states, updates


def _state_specs(
    lowered: Lowered, name: str, parameter: TensorSpec, known: Tensor | None, cuts: Sequence[Rows]
) -> tuple[TensorSpec, ...]:
    """A state tensor lies as the optimizer holds it, or as `zeros_like` will make it; one that is
    cut is a storage for each of its parts."""
    stride = parameter.stride if known is None else tuple(known.stride())
    dtype = parameter.dtype if known is None else known.dtype
    if not cuts:
        return (_state_spec(lowered, name, parameter.size, stride, dtype),)
    return tuple(
        _state_spec(lowered, f"{name}.{number}", (count, *parameter.size[1:]), stride, dtype)
        for number, (_, count) in enumerate(cuts)
    )


def _state_spec(
    lowered: Lowered, name: str, size: tuple[int, ...], stride: tuple[int, ...], dtype: torch.dtype
) -> TensorSpec:
    form = torch.empty_strided(size, stride, dtype=dtype, device="meta")
    storage = lowered.add_block(
        Block(
            name=name,
            size_bytes=form.untyped_storage().nbytes(),
            role=Role.OPTIMIZER_STATE,
            persistent=True,
        )
    )
    return TensorSpec(storage=storage, dtype=dtype, size=size, stride=stride)


def _conditions(model: nn.Module, device: torch.device) -> dict[str, str]:
    dtypes = Counter(str(parameter.dtype) for parameter in model.parameters())
    conditions = {
        "threads": str(torch.get_num_threads()),
        "dtype": dtypes.most_common(1)[0][0].removeprefix("torch."),
        "torch": str(torch.__version__),
    }
    if device.type != "cpu":
        conditions[DEVICE_CONDITION] = str(device)
    return conditions
