"""Weights as int8 or int4 after training, and the network in integer arithmetic alone.

    scale     one a layer: the largest weight over 127, or for int4 the one of 40 candidates up to
              the largest over 7 that leaves the smallest squared error
    weight    round(w / scale), within -127..127 or -7..7
    bias      round(b / unit), unit = the product of the scales up to this layer
    forward   sums of weights where a bit is set, ReLU, sums of products: integers throughout

Invariant: every sum that can occur is below 2^53, checked from the weights themselves. So float64
in torch and ONNX, int64 in numpy and the sized integers of the C code all compute the same numbers,
and the answer is the same on every machine, ties included.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.heads import LookupHead
from projection_nets.nets import NetOnBits
from projection_nets.stored import StoredLayer, StoredNet, restored

_EXACT = 2**53
LARGEST = {8: 127, 4: 7}
"""Of a weight of so many bits; symmetric, so -128 and -8 do not occur."""
_CANDIDATES = 40


def quantized(
    model: StoredNet, weight_bits: int, *, scales: Sequence[float] | None = None
) -> StoredNet:
    """The model with weights of 8 or 4 bits. Raises UsageError (`quantization_invalid`).

    `scales`: one a layer, where training has already decided (`quantized_training`).
    """
    if model.is_quantized or weight_bits not in LARGEST:
        raise UsageError(
            f"Expected a float32 model and 8 or 4 bits, got {model.layers[0].weight_bits}-bit "
            f"weights and {weight_bits!r:.20}.",
            code="quantization_invalid",
            hint="Quantize the trained float32 model.",
        )
    layers = []
    unit = 1.0
    if scales is None:
        scales = [weight_scale(layer.weight, weight_bits) for layer in model.layers]
    for layer, scale in zip(model.layers, scales, strict=True):
        unit *= scale
        layers.append(
            StoredLayer(
                weight=_rounded(layer.weight, scale, LARGEST[weight_bits]).astype(np.int8),
                bias=np.rint(layer.bias.astype(np.float64) / unit).astype(np.int64),
                weight_bits=weight_bits,
                scale=scale,
            )
        )
    result = StoredNet(
        spec=model.spec, classes=model.classes, layers=tuple(layers), rows=model.rows
    )
    largest_sums(result)
    return result


def largest_sums(model: StoredNet) -> list[int]:
    """For each layer the largest magnitude that one of its sums can reach.

    Raises UsageError (`quantization_overflow`) at 2^53.
    """
    sums: list[int] = []
    of_input = 1
    for layer in model.layers:
        magnitudes = np.abs(layer.weight.astype(np.int64))
        if model.rows is None:
            most = int(magnitudes.sum(axis=1).max()) * of_input
        else:
            most = int(magnitudes.max(initial=0)) * model.spec.functions
        of_input = most + int(np.abs(layer.bias).max())
        sums.append(of_input)
    if max(sums) >= _EXACT:
        raise UsageError(
            f"Expected sums below 2^53, got up to {max(sums)} after {len(sums)} layers.",
            code="quantization_overflow",
            hint="Use fewer or smaller hidden layers.",
        )
    return sums


class QuantizedNet(nn.Module):
    """A quantized model in torch: what its `NetOnBits` takes -> integer logits, held in float64.

    `unit`: what one unit of the logits is worth.
    """

    def __init__(self, model: StoredNet) -> None:
        super().__init__()
        largest_sums(model)
        net: NetOnBits = restored(model)
        self.lsh = net.lsh
        self.unit = float(np.prod([layer.scale for layer in model.layers]))
        self.lookup = net.head if isinstance(net.head, LookupHead) else None
        weights = [torch.from_numpy(layer.weight.astype(np.float64)) for layer in model.layers]
        if model.rows is not None:
            table = torch.zeros(len(model.rows), model.classes, dtype=torch.float64)
            table[torch.from_numpy(model.rows)] = weights[0]
            weights = [table]
        biases = [torch.from_numpy(layer.bias.astype(np.float64)) for layer in model.layers]
        self.weights = nn.ParameterList(nn.Parameter(w, requires_grad=False) for w in weights)
        self.biases = nn.ParameterList(nn.Parameter(b, requires_grad=False) for b in biases)

    def forward(self, *inputs: Tensor) -> Tensor:
        values = self.lsh(*(x.flatten(1) for x in inputs))
        if self.lookup is not None:
            rows = nn.functional.embedding(self.lookup.rows(values), self.weights[0])
            logits: Tensor = rows.sum(dim=1) + self.biases[0]
            return logits
        values = values.double()
        *before, last = zip(self.weights, self.biases, strict=True)
        for weight, bias in before:
            values = nn.functional.linear(values, weight, bias).relu()
        return nn.functional.linear(values, *last)


def integer_logits(model: StoredNet, bits: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """The same in numpy integers: bits 0 and 1 (n, T * d) -> (n, classes)."""
    values = bits.astype(np.int64)
    if model.rows is not None:
        spec = model.spec
        blocks = values.reshape(len(values), spec.functions, spec.bits)
        indices = (blocks << np.arange(spec.bits)).sum(axis=2)
        indices += np.arange(spec.functions) << spec.bits
        table = np.zeros((len(model.rows), model.classes), dtype=np.int64)
        table[model.rows] = model.layers[0].weight
        summed: npt.NDArray[np.int64] = table[indices].sum(axis=1) + model.layers[0].bias
        return summed
    if model.spec.values == "plus_minus_one":
        values = 2 * values - 1
    for layer, following in pairwise((*model.layers, None)):
        assert layer is not None  # only the end of the pairs is
        values = values @ layer.weight.T.astype(np.int64) + layer.bias
        if following is not None:
            values = np.maximum(values, 0)
    return values


def weight_scale(weight: npt.NDArray[np.float32], weight_bits: int) -> float:
    """What one unit of these weights is worth; 1 where all are 0."""
    largest = float(np.abs(weight).max(initial=0.0))
    if largest == 0.0:
        return 1.0
    widest = largest / LARGEST[weight_bits]
    if weight_bits == 8:
        return widest
    candidates = [widest * (index + 1) / _CANDIDATES for index in range(_CANDIDATES)]

    def squared_error(scale: float) -> float:
        back = _rounded(weight, scale, LARGEST[weight_bits]) * scale
        return float(((weight.astype(np.float64) - back) ** 2).sum())

    return min(candidates, key=squared_error)


def _rounded(
    weight: npt.NDArray[np.float32], scale: float, largest: int
) -> npt.NDArray[np.float64]:
    rounded: npt.NDArray[np.float64] = np.rint(weight.astype(np.float64) / scale)
    return rounded.clip(-largest, largest)
