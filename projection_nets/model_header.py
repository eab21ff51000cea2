"""The header of a model file, checked field by field: a stranger's JSON never sizes an allocation.

Invariant: a `ModelHeader` exists only with sizes that fit together and stay below the limits, so
`payload_bytes` is what the rest of the file must have.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from projection_nets.heads import TABLE_VALUES_LIMIT
from projection_nets.spec import ProjectionSpec

_SIZE_LIMIT = 2**24
_WEIGHTS_LIMIT = 2**26  # 256 MiB of float32
_LAYERS_LIMIT = 64
_WEIGHT_BITS = {"float32": 32, "int8": 8, "int4": 4, "shared2": 2, "shared4": 4, "shared8": 8}
_CODEBOOK_BYTES = {"shared2": 4 * 2**2, "shared4": 4 * 2**4, "shared8": 4 * 2**8}
_BIAS_BYTES = {"float32": 4, "int32": 4, "int64": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHeader:
    """One layer's sizes and types."""

    inputs: int
    outputs: int
    weight: str
    bias: str
    scale: float

    @property
    def weight_bytes(self) -> int:
        """Bytes of the weight in the file, a codebook's included."""
        book = _CODEBOOK_BYTES.get(self.weight, 0)
        return book + (self.inputs * self.outputs * _WEIGHT_BITS[self.weight] + 7) // 8

    @property
    def bias_bytes(self) -> int:
        """Bytes of the bias in the file."""
        return self.outputs * _BIAS_BYTES[self.bias]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelHeader:
    """What the file says of itself."""

    spec: ProjectionSpec
    classes: int
    lookup: bool
    layers: tuple[LayerHeader, ...]

    @property
    def table_rows(self) -> int:
        """Rows of all tables of a lookup, shipped or not."""
        return self.spec.functions << self.spec.bits

    @property
    def bitmap_bytes(self) -> int:
        """Bytes of a lookup's bitmap."""
        return (self.table_rows + 7) // 8 if self.lookup else 0

    @property
    def payload_bytes(self) -> int:
        """Bytes between header and checksum."""
        return self.bitmap_bytes + sum(
            layer.weight_bytes + layer.bias_bytes for layer in self.layers
        )


def checked_header(text: bytes) -> ModelHeader:
    """The header of a file, or DataError (`model_file_header`, `model_file_sizes`)."""
    try:
        document = json.loads(text.decode("ascii"))
        header = ModelHeader(
            spec=ProjectionSpec.from_document(document["projection"]),
            classes=_size(document["classes"], least=1),
            lookup=_boolean(document["lookup"]),
            layers=tuple(_layer(layer) for layer in _list(document["layers"])),
        )
    except UsageError as error:
        raise _refused("model_file_sizes", error.message) from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f"its header does not describe a model ({type(error).__name__}: {error})"
        raise _refused("model_file_header", printable(reason)) from error
    _check_sizes(header)
    return header


def _check_sizes(header: ModelHeader) -> None:
    wrong = _wrong_chain(header)
    if sum(layer.inputs * layer.outputs for layer in header.layers) > _WEIGHTS_LIMIT:
        wrong = f"expected at most {_WEIGHTS_LIMIT} weights"
    if len({layer.weight for layer in header.layers}) != 1:
        wrong = "expected one type of weights"
    if any(layer.weight.startswith("int") == (layer.bias == "float32") for layer in header.layers):
        wrong = "expected integer biases beside integer weights only"
    if wrong:
        raise _refused("model_file_sizes", wrong)


def _wrong_chain(header: ModelHeader) -> str | None:
    if header.lookup:
        one_layer = len(header.layers) == 1 and header.layers[0].outputs == header.classes
        # compared by exponent first: 2^d itself may be too large to be a number
        small = header.spec.bits < 32 and header.table_rows * header.classes <= TABLE_VALUES_LIMIT
        if not (one_layer and small and header.layers[0].inputs <= header.table_rows):
            return "expected one table within its limits"
        return None
    widths = [header.spec.projected_bits, *(layer.outputs for layer in header.layers)]
    if [layer.inputs for layer in header.layers] != widths[:-1] or widths[-1] != header.classes:
        return f"expected layers that follow each other to {header.classes} classes, got {widths}"
    if not all(layer.inputs and layer.outputs for layer in header.layers):
        return "expected layers that are not empty"
    return None


def _layer(document: Any) -> LayerHeader:
    weight, bias, scale = document["weight"], document["bias"], document["scale"]
    if weight not in _WEIGHT_BITS or bias not in _BIAS_BYTES:
        raise ValueError(f"types {weight!r:.20} and {bias!r:.20}")
    if not isinstance(scale, float) or not math.isfinite(scale) or scale <= 0:
        raise ValueError(f"scale {scale!r:.20}")
    return LayerHeader(
        inputs=_size(document["inputs"], least=0),
        outputs=_size(document["outputs"], least=1),
        weight=weight,
        bias=bias,
        scale=scale,
    )


def _size(value: Any, *, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= _SIZE_LIMIT:
        raise UsageError(f"expected a size in {least}..{_SIZE_LIMIT}, got {value!r:.40}")
    return value


def _boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"lookup is {value!r:.20}")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list) or not 1 <= len(value) <= _LAYERS_LIMIT:
        raise TypeError(f"expected 1 to {_LAYERS_LIMIT} layers")
    return value


def _refused(code: str, reason: str) -> DataError:
    return DataError(
        reason.rstrip("."), code=code, hint="The file is damaged or hostile; export it again."
    )
