"""A step on its way to a worker: a folder with the step as JSON and the state as tensors.

    step.json       program, plan, update rules, the batch's form, names and numbers of the state
    state.tensors   every tensor of model, optimizer, program and generator

Invariant: a worker that reads the folder has the same bits in the same places as the process that
wrote it, and needs none of its code but this package.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from poet_core.documents import parse_json
from poet_core.errors import DocumentError, ReplayError
from poet_core.plan import Plan
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_runtime.isolated.program import (
    decoded,
    encoded,
    program_from_document,
    program_to_document,
)
from poet_runtime.isolated.rules import rules_from_document, rules_to_document
from poet_runtime.isolated.skeleton import (
    SkeletonOptimizer,
    build_skeleton,
    skeleton_document,
    state_tensors,
)
from poet_runtime.isolated.tensors import (
    MappedTensors,
    Shape,
    dtype_named,
    forget_pages,
    read_tensors,
    shape_of,
    write_tensors,
)
from poet_runtime.program import Owner, Program

STEP, STATE, RESULT = "step.json", "state.tensors", "result.tensors"


def write_job(
    folder: Path,
    program: Program,
    plan: Plan,
    model: nn.Module,
    optimizer: Any,
    batch: Any,
    *,
    threads: int,
) -> None:
    """Writes the folder's files; the true values of model and optimizer must be in them.

    Raises ReplayError (`step_not_portable`).
    """
    constants = {
        binding.spec.storage: binding.value
        for binding in program.bindings
        if binding.owner is Owner.CONSTANT and binding.value is not None
    }
    tensors = state_tensors(model, optimizer, constants)
    document = {
        "version": 1,
        "torch": str(torch.__version__),
        "threads": threads,
        "default_dtype": str(torch.get_default_dtype()),
        "mkldnn": torch.backends.mkldnn.enabled,
        "program": program_to_document(program),
        "plan": plan_to_document(plan),
        "rules": rules_to_document(program.update_rules),
        "batch": _form_out(batch),
        **skeleton_document(model, optimizer),
    }
    folder.joinpath(STEP).write_text(json.dumps(document))
    shapes = [shape_of(key, tensor) for key, tensor in tensors.items()]
    write_tensors(folder / STATE, shapes, tensors.values())
    forget_pages(folder / STATE)


class Job:
    """What a worker reads: everything that TrainStep wants.

    Raises DocumentError (`step_invalid`, `step_other_torch`) and DataError (`tensors_invalid`).
    """

    model: nn.Module
    optimizer: SkeletonOptimizer
    program: Program
    plan: Plan
    batch: Any
    state: MappedTensors

    def __init__(self, folder: Path) -> None:
        document = parse_json(folder.joinpath(STEP).read_bytes())
        if document.get("torch") != str(torch.__version__):
            raise DocumentError(
                f"The step was traced with torch {document.get('torch')!s:.40}; this is "
                f"{torch.__version__}.",
                code="step_other_torch",
                hint="Trace and train with the same torch: kernels change between versions.",
            )
        torch.set_num_threads(document["threads"])
        torch.set_default_dtype(dtype_named(document["default_dtype"]))
        torch.backends.mkldnn.enabled = document["mkldnn"]
        self.state = read_tensors(folder / STATE)
        self.model, self.optimizer, constants = build_skeleton(document, self.state.tensors)
        rules = rules_from_document(document["rules"], self.optimizer)
        self.program = program_from_document(document["program"], rules, constants)
        self.plan = plan_from_document(document["plan"])
        self.batch = _form_in(document["batch"])


def empty_like_batch(shapes: Sequence[Shape]) -> list[torch.Tensor]:
    """Memory for a batch, to be read into and donated to the step."""
    return [torch.empty(shape.size, dtype=shape.dtype, device="cpu") for shape in shapes]


def batch_shapes(batch: Any) -> list[Shape]:
    """The tensors of a batch, in the order in which they travel."""
    leaves = [leaf for leaf in pytree.tree_leaves(batch) if isinstance(leaf, torch.Tensor)]
    return [shape_of((str(number),), leaf) for number, leaf in enumerate(leaves)]


def filled_form(batch: Any, tensors: Sequence[torch.Tensor]) -> Any:
    """The batch with other tensors in the places of its own."""
    leaves, form = pytree.tree_flatten(batch)
    rest = iter(tensors)
    whole = [next(rest) if isinstance(leaf, torch.Tensor) else leaf for leaf in leaves]
    return pytree.tree_unflatten(whole, form)


def _form_out(value: Any) -> Any:
    """The structure of a batch: tensors as their shapes, containers and constants as they are."""
    if isinstance(value, torch.Tensor):
        return {"tensor": [str(value.dtype), list(value.shape)]}
    if type(value) in (tuple, list):
        return {type(value).__name__: [_form_out(item) for item in value]}
    if type(value) is dict and all(isinstance(key, str) for key in value):
        return {"dict": {key: _form_out(item) for key, item in value.items()}}
    if value is None or isinstance(value, bool | int | float | str):
        return {"constant": encoded(value)}
    raise ReplayError(
        f"The batch cannot travel to a worker: it holds a {type(value).__name__}.",
        code="step_not_portable",
        hint="Pass tensors in tuples, lists and dictionaries.",
    )


def _form_in(document: Mapping[str, Any]) -> Any:
    ((kind, content),) = document.items()
    if kind == "tensor":
        # Of a batch only shapes and types are asked before the first one comes.
        return torch.empty(content[1], dtype=dtype_named(content[0]), device="meta")
    if kind == "constant":
        return decoded(content)
    if kind == "dict":
        return {key: _form_in(item) for key, item in content.items()}
    items = [_form_in(item) for item in content]
    return tuple(items) if kind == "tuple" else items
