"""Weight sharing: each layer's weights are entries of a small codebook (Han, Mao, Dally 2016).

    k-means    codes from the trained weights, from evenly spaced values on, in one dimension
    forward    weight = codes[place]; the places never change
    backward   a code's gradient is the sum of those of the weights that share it

    shared = SharedTraining(net, 4)       # 16 values a layer; train `net` first
    ... train `shared` as any network: codes and biases learn ...
    write_model(path, shared.stored())    # codebooks and packed indices: bits / 32 of the weights

Invariant: what `stored()` ships is what forward computed with. Of a lookup the rows that training
has touched before are shared, the others stay 0 and are not shipped.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.heads import LookupHead
from projection_nets.nets import NetOnBits
from projection_nets.stored import StoredLayer, StoredNet, head_layers, stored

SHARED_BITS = (2, 4, 8)
"""Of an index: what packs into bytes without a rest."""

_ROUNDS = 100


def codebook(
    weights: npt.NDArray[np.float32], entries: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """k-means in one dimension: the values (entries,), and each weight's place among them.

    Begins with evenly spaced values, which keep the few large weights apart (Han et al., section
    3.2); a value that no weight is nearest to stays where it is.
    """
    ordered = np.sort(weights.reshape(-1)).astype(np.float64)
    if not len(ordered):
        return np.zeros(entries, np.float32), np.zeros(weights.shape, np.int64)
    centres = np.linspace(ordered[0], ordered[-1], entries)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    for _ in range(_ROUNDS):
        borders = np.searchsorted(ordered, (centres[1:] + centres[:-1]) / 2)
        edges = np.concatenate([[0], borders, [len(ordered)]])
        counts = np.diff(edges)
        means = np.diff(sums[edges]) / np.maximum(counts, 1)
        moved = np.where(counts > 0, means, centres)
        if np.array_equal(moved, centres):
            break
        centres = moved
    places = np.searchsorted((centres[1:] + centres[:-1]) / 2, weights.astype(np.float64))
    return centres.astype(np.float32), places.astype(np.int64)


class SharedTraining(nn.Module):
    """What `net` takes -> logits, with weights of 2^shared_bits different values a layer.

    Trains the codes and `net`'s biases; `net`'s own weights stay as they are and take no part.
    Raises UsageError (`sharing_invalid`) and what `stored` raises.
    """

    def __init__(self, net: NetOnBits, shared_bits: int) -> None:
        super().__init__()
        if shared_bits not in SHARED_BITS:
            raise UsageError(
                f"Expected indices of 2, 4 or 8 bits, got {shared_bits!r:.20}.",
                code="sharing_invalid",
                hint="4 bits share 16 values a layer.",
            )
        self.net = net
        self.shared_bits = shared_bits
        self.model = stored(net)
        made = [codebook(layer.weight, 2**shared_bits) for layer in self.model.layers]
        self.codes = nn.ParameterList(nn.Parameter(torch.from_numpy(codes)) for codes, _ in made)
        self.places = nn.ParameterList(
            nn.Parameter(torch.from_numpy(places), requires_grad=False) for _, places in made
        )
        head = net.head
        if isinstance(head, LookupHead):
            self.rows = nn.Parameter(head.touched().nonzero()[:, 0], requires_grad=False)
            head.table.requires_grad_(False)
        for layer in head_layers(net):
            layer.weight.requires_grad_(False)

    def forward(self, *inputs: Tensor) -> Tensor:
        values = self.net.lsh(*(part.flatten(1) for part in inputs))
        head = self.net.head
        weights = [codes[places] for codes, places in zip(self.codes, self.places, strict=True)]
        if isinstance(head, LookupHead):
            table = torch.zeros_like(head.table).index_copy(0, self.rows, weights[0])
            found = nn.functional.embedding(head.rows(values), table)
            summed: Tensor = found.sum(dim=1) + head.bias
            return summed
        for number, (layer, weight) in enumerate(zip(head_layers(self.net), weights, strict=True)):
            if number:
                values = values.relu()
            values = nn.functional.linear(values, weight, layer.bias)
        logits: Tensor = values
        return logits

    def stored(self) -> StoredNet:
        """The network with codebooks and indices."""
        model = self.model
        layers = tuple(
            StoredLayer(weight=weight, bias=bias, shared_bits=self.shared_bits)
            for weight, bias in zip(self._weights(), self._biases(), strict=True)
        )
        return StoredNet(spec=model.spec, classes=model.classes, layers=layers, rows=model.rows)

    def _weights(self) -> Iterable[npt.NDArray[np.float32]]:
        for codes, places in zip(self.codes, self.places, strict=True):
            yield codes.detach().cpu().numpy()[places.cpu().numpy()]

    def _biases(self) -> Iterable[npt.NDArray[np.float32]]:
        head = self.net.head
        layers = [head] if isinstance(head, LookupHead) else head_layers(self.net)
        for layer in layers:
            yield layer.bias.detach().cpu().numpy().copy()
