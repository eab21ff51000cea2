"""ProjectionNet: bits of an LSH projection, then one or two small linear layers (Ravi 2017, Eq. 2).

    x (in_features) ── LSH, T x d bits ── Linear ─────────────────── logits     hidden=None
                                       └─ Linear ── ReLU ── Linear ─ logits     hidden=128

Parameters: T*d*C + C, or T*d*H + H + H*C + C. Only they and a seed leave the device that trains:
`export` writes them to one file, `load` reads it back.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from projection_nets.lsh import LshProjection
from projection_nets.model_file import StoredProjection, read_model, write_model

DEFAULT_SEED = 2017


class ProjectionNet(nn.Module):
    """Raw inputs (batch, in_features), or any (batch, ...) of as many values -> logits (batch, classes).

    `T` functions of `d` bits as in the paper; `hidden` puts a layer of so many ReLU units before
    the classes. Inputs are *raw*, for images float pixels 0..255: then the bits, and so the
    network's input, are the same on every machine (see `projection_nets.lsh`).
    """

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        T: int = 60,  # noqa: N803  the paper's own name, and the README's
        d: int = 12,
        hidden: int | None = None,
        seed: int = DEFAULT_SEED,
        input_max: int = 255,
    ) -> None:
        super().__init__()
        if classes < 1 or (hidden is not None and hidden < 1):
            raise UsageError(
                f"Expected at least one class and one hidden unit, got {classes} and {hidden}.",
                code="projection_invalid",
                hint="Pass positive sizes; hidden=None means no hidden layer.",
            )
        self.classes = classes
        self.hidden = hidden
        self.lsh = LshProjection(in_features, functions=T, bits=d, seed=seed, input_max=input_max)
        bits = self.lsh.out_features
        self.head: nn.Module
        if hidden is None:
            self.head = nn.Linear(bits, classes)
        else:
            self.head = nn.Sequential(
                nn.Linear(bits, hidden), nn.ReLU(), nn.Linear(hidden, classes)
            )

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lsh(inputs.flatten(1)))
        return logits

    def export(self, path: str | Path) -> int:
        """Writes the small model alone (weights, seed and shape, no matrix); returns its bytes.

        Raises DataError (`model_not_storable`) where a weight is not float32 or not finite.
        """
        weights = [weight.detach().cpu() for weight in self.head.parameters()]
        return write_model(
            Path(path),
            StoredProjection(
                in_features=self.lsh.spec.in_features,
                classes=self.classes,
                functions=self.lsh.spec.functions,
                bits=self.lsh.spec.bits,
                hidden=self.hidden,
                seed=self.lsh.spec.seed,
                input_max=self.lsh.spec.input_max,
                weights=tuple(np.asarray(weight.numpy()) for weight in weights),
            ),
        )

    @classmethod
    def load(cls, path: str | Path) -> ProjectionNet:
        """The network of a file that `export` wrote; the matrix is regenerated from its seed.

        Raises DataError (codes `model_file_*`) for any other file.
        """
        stored = read_model(Path(path))
        try:
            net = cls(
                stored.in_features,
                stored.classes,
                T=stored.functions,
                d=stored.bits,
                hidden=stored.hidden,
                seed=stored.seed,
                input_max=stored.input_max,
            )
        except UsageError as error:  # sizes that are in range one by one and impossible together
            raise DataError(
                f"Model file {printable(str(path))}: {error.message}",
                code="model_file_sizes",
                hint="The file is damaged or hostile; export it again.",
            ) from error
        with torch.no_grad():
            for parameter, weight in zip(net.head.parameters(), stored.weights, strict=True):
                parameter.copy_(torch.from_numpy(weight))
        return net
