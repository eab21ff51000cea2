"""What leaves the training machine: a projection's spec, and the head's numbers as numpy arrays.

    net -> stored(net) -> write_model | quantized | C source | ONNX

Invariant: the arrays are exactly what is shipped: a lookup's untouched rows are gone, a quantized
weight is an integer. One unit of a layer's weights is worth `scale`, one unit of its bias and of
its outputs the product of the scales up to it, so a quantized network computes in integers alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from poet_core.errors import DataError, UsageError
from projection_nets.hashed import HashedProjection
from projection_nets.heads import LookupHead
from projection_nets.nets import NetOnBits, ProjectionNet
from projection_nets.spec import ProjectionKind, ProjectionSpec

FLOAT_BITS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLayer:
    """One layer. `weight`: (outputs, inputs), of a lookup (shipped rows, classes).

    `weight_bits`: 32 for float32, 8 or 4 for integers held as int8; `bias` is float32 or int64.
    `shared_bits`: 2, 4 or 8 where the float32 weights are entries of a codebook of so many bits.
    """

    weight: npt.NDArray[Any]
    bias: npt.NDArray[Any]
    weight_bits: int = FLOAT_BITS
    scale: float = 1.0
    shared_bits: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNet:
    """A small network. `rows`: of a lookup, which of the T * 2^d rows are shipped, else None."""

    spec: ProjectionSpec
    classes: int
    layers: tuple[StoredLayer, ...]
    rows: npt.NDArray[np.bool_] | None = None

    @property
    def is_quantized(self) -> bool:
        """Whether weights are integers."""
        return self.layers[0].weight_bits != FLOAT_BITS

    @property
    def parameters(self) -> int:
        """Numbers in the shipped weights and biases."""
        return sum(layer.weight.size + layer.bias.size for layer in self.layers)


def stored(net: NetOnBits) -> StoredNet:
    """The shipped part of a network.

    Raises DataError (`model_not_storable`) where a weight is no finite float32, or where an encoder
    stands before the projection: only raw inputs are the same on every machine.
    """
    if getattr(net, "encoder", None) is not None:
        raise DataError(
            "Expected a network on raw inputs, got one with an encoder before its projection.",
            code="model_not_storable",
            hint="Save it with torch.save; an exported model holds a seed, bits and a head.",
        )
    if isinstance(net.head, LookupHead):
        rows = net.head.touched().cpu().numpy()
        layer = StoredLayer(weight=_array(net.head.table)[rows], bias=_array(net.head.bias))
        return StoredNet(spec=net.lsh.spec, classes=net.classes, layers=(layer,), rows=rows)
    layers = [
        StoredLayer(weight=_array(layer.weight), bias=_array(layer.bias))
        for layer in head_layers(net)
    ]
    return StoredNet(spec=net.lsh.spec, classes=net.classes, layers=tuple(layers))


def restored(model: StoredNet) -> NetOnBits:
    """A network that takes raw inputs (a ProjectionNet), or hashes and weights of features.

    Integers come back as floats, each times its unit: for the integer arithmetic itself see
    `quantize.QuantizedNet`.
    """
    spec = model.spec
    hidden = [len(layer.bias) for layer in model.layers[:-1]]
    lookup = model.rows is not None
    net: NetOnBits
    if spec.kind is ProjectionKind.HASHED:
        net = NetOnBits(HashedProjection(spec), model.classes, hidden=hidden, lookup=lookup)
    else:
        net = ProjectionNet(
            spec.in_features, model.classes, T=spec.functions, d=spec.bits, hidden=hidden,
            lookup=lookup, seed=spec.seed, input_max=spec.input_max, kind=spec.kind,
            values=spec.values,
        )  # fmt: skip
    unit = 1.0
    targets: Sequence[nn.Linear | LookupHead]
    targets = [net.head] if isinstance(net.head, LookupHead) else head_layers(net)
    with torch.no_grad():
        for target, layer in zip(targets, model.layers, strict=True):
            unit *= layer.scale
            weight = torch.from_numpy(layer.weight.astype(np.float64) * layer.scale)
            target.bias.copy_(torch.from_numpy(layer.bias.astype(np.float64) * unit))
            if isinstance(target, LookupHead):
                target.table[torch.from_numpy(_rows(model))] = weight.to(target.table.dtype)
            else:
                target.weight.copy_(weight)
    return net


def _rows(model: StoredNet) -> npt.NDArray[np.bool_]:
    if model.rows is None:
        raise UsageError("Expected a lookup.", code="model_not_storable")
    return model.rows


def head_layers(net: NetOnBits) -> list[nn.Linear]:
    """The linear layers of a dense head, in order."""
    return [module for module in net.head.modules() if isinstance(module, nn.Linear)]


def _array(parameter: torch.Tensor) -> npt.NDArray[np.float32]:
    values: npt.NDArray[np.float32] = parameter.detach().cpu().numpy()
    if values.dtype != np.float32 or not np.isfinite(values).all():
        raise DataError(
            f"Expected finite float32 weights, got {values.dtype} of shape {values.shape}"
            f"{'' if np.isfinite(values).all() else ' with NaN or infinity'}.",
            code="model_not_storable",
            hint="Export a float32 model whose training did not diverge.",
        )
    return values
