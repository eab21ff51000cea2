"""Clipping of gradients, with the bits of torch.nn.utils.

    by value   a gradient is clamped right before its update
    by norm    two phases: each gradient's norm where it is complete, then the coefficient, which
               waits for all of them; each gradient is scaled right before its update

A gradient is clipped in place where nobody else reads it afterwards (`placement`). Requires complete
gradients that lie as their parameters do; ensures that the drafts are still in a valid order.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._foreach_utils import _group_tensors_by_device_and_dtype

from poet_core.graph import Phase, Role
from poet_runtime.program import TensorSpec
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.drafts import Block, Draft

_aten = torch.ops.aten


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """What is done to a gradient before its update: an operator that changes it or one that makes
    a new one, with the same arguments after the gradient."""

    in_place: torch._ops.OpOverload
    copying: torch._ops.OpOverload
    args: tuple[Any, ...]


def clipped(
    drafts: Sequence[Draft],
    blocks: list[Block],
    gradients: Mapping[str, TensorSpec],
    options: StepOptions,
) -> tuple[list[Draft], Clip | None]:
    """The drafts with the norms that clipping wants, and how each gradient is clipped.

    `gradients`: of the parameters that the optimizer trains, in the model's order. Appends storages
    to `blocks`.
    """
    if options.clip_value is not None:
        limits = (-float(options.clip_value), float(options.clip_value))
        clamps = _aten.clamp_.default, _aten.clamp.default
        return list(drafts), Clip(in_place=clamps[0], copying=clamps[1], args=limits)
    if options.clip_norm is None:
        return list(drafts), None
    changed_at = {storage: at for at, draft in enumerate(drafts) for storage in draft.changes}
    norms: dict[str, TensorSpec] = {}
    after: dict[int, list[Draft]] = {}
    for name, gradient in gradients.items():
        norms[name] = _scalar(blocks, f"{name}.grad_norm", gradient.dtype)
        after.setdefault(changed_at[gradient.storage], []).append(
            _norm(name, gradient, norms[name])
        )
    ordered: list[Draft] = []
    for at, draft in enumerate(drafts):
        ordered += [draft, *after.get(at, ())]
    names = _in_torchs_order(gradients)
    dtype = _common_dtype(spec.dtype for spec in gradients.values())
    coefficient = _scalar(blocks, "clip_coefficient", dtype)
    ordered.append(
        Draft(
            name="clip_coefficient",
            kind="poet.clip_coefficient",
            phase=Phase.BACKWARD,
            function=clip_coefficient,
            args=(float(options.clip_norm), [norms[name] for name in names]),
            outputs=(coefficient,),
            flops=2 * len(names),
        )
    )
    scale = Clip(in_place=_aten.mul_.Tensor, copying=_aten.mul.Tensor, args=(coefficient,))
    return ordered, scale


def clip_coefficient(max_norm: float, norms: list[Tensor]) -> Tensor:
    """What clip_grad_norm_ multiplies every gradient with, from the norms of all of them."""
    total_norm = torch.linalg.vector_norm(torch.stack(norms), 2.0)
    return torch.clamp(max_norm / (total_norm + 1e-6), max=1.0)


def _norm(name: str, gradient: TensorSpec, norm: TensorSpec) -> Draft:
    op = _aten.linalg_vector_norm.default
    return Draft(
        name=f"{name}.grad_norm",
        kind=str(op),
        phase=Phase.BACKWARD,
        module=name.rpartition(".")[0],
        function=op,
        args=(gradient, 2.0),
        outputs=(norm,),
        flops=2 * torch.Size(gradient.size).numel(),
    )


def _scalar(blocks: list[Block], name: str, dtype: torch.dtype) -> TensorSpec:
    blocks.append(Block(name=name, size_bytes=dtype.itemsize, role=Role.GRADIENT))
    return TensorSpec(storage=len(blocks) - 1, dtype=dtype, size=(), stride=())


def _in_torchs_order(gradients: Mapping[str, TensorSpec]) -> list[str]:
    """clip_grad_norm_ adds the norms up by type, in an order that torch's own grouping knows."""
    names = list(gradients)
    stand_ins: list[Tensor | None] = [
        torch.empty(0, dtype=spec.dtype, device="cpu") for spec in gradients.values()
    ]
    groups = _group_tensors_by_device_and_dtype([stand_ins], with_indices=True)
    return [names[index] for _, indices in groups.values() for index in indices]


def _common_dtype(dtypes: Iterable[torch.dtype]) -> torch.dtype:
    first, *rest = dtypes
    for dtype in rest:
        first = torch.promote_types(first, dtype)
    return first
