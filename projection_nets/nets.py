"""ProjectionNet: bits of a projection, then a small network on them (Ravi 2017, Eq. 2).

    inputs ── projection, T x d bits ── head: dense (hidden layers or none) or lookup ── logits

    NetOnBits       any projection: LshProjection, HashedProjection, PackedBits
    ProjectionNet   the usual one, on dense inputs, optionally on top of an encoder's output

Parameters with a dense head: T*d*C + C, or T*d*H + H + H*C + C. Only they and a seed leave the
device that trains: `export` writes them to one file, `load` reads it back.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from projection_nets.hashed import HashedProjection
from projection_nets.heads import LookupHead, dense_head
from projection_nets.lsh import LshProjection
from projection_nets.packing import PackedBits
from projection_nets.spec import BitValues, ProjectionKind

DEFAULT_SEED = 2017

Projection = LshProjection | HashedProjection | PackedBits


class NetOnBits(nn.Module):
    """What `lsh` takes -> logits (batch, classes).

    `hidden`: units of the hidden ReLU layers, a number for one layer; `lookup` puts tables in the
    place of layers (`heads.LookupHead`). Raises UsageError (`projection_invalid`).
    """

    def __init__(
        self,
        projection: Projection,
        classes: int,
        *,
        hidden: int | Sequence[int] | None = None,
        lookup: bool = False,
    ) -> None:
        super().__init__()
        self.classes = classes
        self.hidden = _layers(hidden)
        self.lsh = projection
        self.head: nn.Module
        if lookup:
            self.head = LookupHead(projection.spec.functions, projection.spec.bits, classes)
        else:
            self.head = dense_head(projection.out_features, self.hidden, classes)

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.head(self.lsh(*inputs))
        return logits

    def export(self, path: str | Path, *, weight_bits: int = 32) -> int:
        """Writes the small model alone (weights, seed and shape, no matrix); returns its bytes.

        `weight_bits`: 32 for float32, 8 or 4 to quantize the weights. Raises DataError
        (`model_not_storable`) where a weight is not float32 or not finite, UsageError
        (`quantization_invalid`, `quantization_overflow`).
        """
        from projection_nets.model_file import write_model
        from projection_nets.quantize import quantized
        from projection_nets.stored import stored

        model = stored(self)
        return write_model(
            Path(path), model if weight_bits == 32 else quantized(model, weight_bits)
        )

    @staticmethod
    def load(path: str | Path) -> NetOnBits:
        """The network of a file that `export` wrote; the matrix is regenerated from its seed.

        Quantized weights come back as floats. Raises DataError (`model_file_*`) for another file.
        """
        from projection_nets.model_file import read_model
        from projection_nets.stored import restored

        model = read_model(Path(path))
        try:
            return restored(model)
        except UsageError as error:  # sizes that are in range one by one and impossible together
            raise DataError(
                f"Model file {printable(str(path))}: {error.message}",
                code="model_file_sizes",
                hint="The file is damaged or hostile; export it again.",
            ) from error


class Borrowed(nn.Module):
    """A module that belongs to another network, for use as an encoder.

    Its parameters are not this network's: they count, train and are saved with their owner alone,
    so a step that holds both networks sees each parameter once.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._module = (module,)  # a tuple hides it from registration

    def forward(self, *inputs: Tensor) -> Tensor:
        outputs: Tensor = self._module[0](*inputs)
        return outputs


class ProjectionNet(NetOnBits):
    """Raw inputs (batch, in_features), or any (batch, ...) of as many values -> logits (batch, classes).

    `T` functions of `d` bits as in the paper. Inputs are *raw*, for images float pixels 0..255:
    then the bits, and so the network's input, are the same on every machine (`projection_nets.lsh`).

    `encoder`: a module between the inputs and the projection, which then projects its output of
    `in_features`, its own or a trainer's first layers (`Borrowed`). With `gradient_width` it learns
    through the bits by the straight-through gradient.
    """

    lsh: LshProjection

    def __init__(
        self,
        in_features: int,
        classes: int,
        *,
        T: int = 60,  # noqa: N803  the paper's own name, and the README's
        d: int = 12,
        hidden: int | Sequence[int] | None = None,
        lookup: bool = False,
        seed: int = DEFAULT_SEED,
        input_max: int = 255,
        kind: ProjectionKind = ProjectionKind.GAUSSIAN,
        values: BitValues = BitValues.ZERO_ONE,
        encoder: nn.Module | None = None,
        gradient_width: float | None = None,
    ) -> None:
        projection = LshProjection(
            in_features,
            functions=T,
            bits=d,
            seed=seed,
            input_max=input_max,
            kind=kind,
            values=values,
            gradient_width=gradient_width,
        )
        super().__init__(projection, classes, hidden=hidden, lookup=lookup)
        self.encoder = encoder

    def forward(self, *inputs: Tensor) -> Tensor:
        (raw,) = inputs
        encoded = raw if self.encoder is None else self.encoder(raw)
        return super().forward(encoded.flatten(1))


def _layers(hidden: int | Sequence[int] | None) -> tuple[int, ...]:
    if hidden is None:
        return ()
    return (hidden,) if isinstance(hidden, int) else tuple(hidden)
