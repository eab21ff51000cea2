"""Training whose forward pass is that of the exported integers (quantization-aware training).

    weight   round(w / scale), within -127..127 or -7..7      forward
             1 / scale inside that range, 0 outside           backward (straight-through)

    careful = QuantizedTraining(net, 8)     # scales from the weights as they are: train `net` first
    ... train `careful` as any network; careful.refresh_scales() now and then ...
    small = careful.stored()                # integers, for model_file, c_export, onnx_export

Invariant: for the same weights, forward computes what `QuantizedNet(careful.stored())` does, integer
by integer (in float64, where both are exact), times the unit of the logits. Scales change only in
`refresh_scales`, so a step traces to one fixed graph and export takes the scales of training.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from projection_nets.heads import LookupHead
from projection_nets.nets import NetOnBits
from projection_nets.quantize import LARGEST, quantized
from projection_nets.stored import StoredNet, head_layers, stored


class QuantizedTraining(nn.Module):
    """What `net` takes -> float32 logits of its weights rounded to 8 or 4 bits.

    Its parameters are `net`'s. Raises what `stored` and `quantized` raise.
    """

    scales: Tensor

    def __init__(self, net: NetOnBits, weight_bits: int) -> None:
        super().__init__()
        self.net = net
        self.weight_bits = weight_bits
        found = [layer.scale for layer in quantized(stored(net), weight_bits).layers]
        self.register_buffer("scales", torch.tensor(found, dtype=torch.float64))

    def refresh_scales(self) -> None:
        """Chooses the scales again, from the weights as they are now."""
        found = [layer.scale for layer in quantized(stored(self.net), self.weight_bits).layers]
        self.scales.copy_(torch.tensor(found, dtype=torch.float64))

    def forward(self, *inputs: Tensor) -> Tensor:
        values = self.net.lsh(*(part.flatten(1) for part in inputs))
        head = self.net.head
        if isinstance(head, LookupHead):
            table, bias = self._rounded(head.table, head.bias, 0)
            rows = nn.functional.embedding(head.rows(values), table)
            return self._logits(rows.sum(dim=1) + bias)
        values = values.double()
        for number, layer in enumerate(head_layers(self.net)):
            if number:
                values = values.relu()
            values = nn.functional.linear(values, *self._rounded(layer.weight, layer.bias, number))
        return self._logits(values)

    def stored(self) -> StoredNet:
        """The network in integers, with the scales of training."""
        return quantized(stored(self.net), self.weight_bits, scales=self.scales.tolist())

    def _rounded(self, weight: Any, bias: Any, number: int) -> tuple[Tensor, Tensor]:
        unit = self.scales[: number + 1].prod()
        largest = LARGEST[self.weight_bits]
        ratio = (weight.double() / self.scales[number]).clamp(-largest, largest)
        return _round_through(ratio), _round_through(bias.double() / unit)

    def _logits(self, integers: Tensor) -> Tensor:
        logits: Tensor = (integers * self.scales.prod()).float()
        return logits


def _round_through(values: Tensor) -> Tensor:
    """The nearest integers (halves to even, as numpy), with the gradient of the identity."""
    # values minus itself is exactly 0, so that the forward result is exactly an integer
    return values.detach().round() + (values - values.detach())
