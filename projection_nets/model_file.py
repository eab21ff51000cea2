"""The small model in one file that describes itself. No matrix, no pickle, no code.

    offset  bytes  what
    0       8      magic, the last byte is the format's version
    8       4      length of the header, little-endian
    12      ...    the header: JSON in ASCII, {"projection": the spec, "classes": n, "lookup": bool,
                   "layers": [{"inputs", "outputs", "weight": float32 | int8 | int4 | shared2 | shared4 | shared8,
                   "bias": float32 | int32 | int64, "scale"}]}; of a lookup one layer, whose inputs
                   are the shipped rows and whose outputs are the classes
    ...     ...    a lookup's bitmap of the shipped rows, one bit a row, lowest first
    ...     ...    each layer's weight, row-major, then its bias, little-endian; int4: two to a byte,
                   the first in the low half, in two's complement; shared: a codebook of 2^2, 2^4
                   or 2^8 float32 values, then indices of so many bits, the first lowest in its byte
    end-32  32     SHA-256 of everything before

Invariant: every length follows from the header, whose sizes are bounded before anything is
allocated. `reader.py` reads the same file with numpy alone.
"""

from __future__ import annotations

import hashlib
import json
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poet_core.errors import DataError
from poet_core.text import printable
from projection_nets.model_header import LayerHeader, ModelHeader, checked_header
from projection_nets.replacing import replace_file
from projection_nets.stored import FLOAT_BITS, StoredLayer, StoredNet

MAGIC = b"POETNET\x02"
_LENGTH = struct.Struct("<I")
_PREFIX_BYTES = len(MAGIC) + _LENGTH.size
_DIGEST_BYTES = hashlib.sha256().digest_size
_HEADER_LIMIT = 2**16
_FILE_LIMIT = 2**29

_WEIGHT_NAMES = {FLOAT_BITS: "float32", 8: "int8", 4: "int4"}
_WEIGHT_BITS = {name: bits for bits, name in _WEIGHT_NAMES.items()}
_SHARED_BITS = {"shared2": 2, "shared4": 4, "shared8": 8}
_DTYPES = {"float32": "<f4", "int8": "i1", "int32": "<i4", "int64": "<i8"}


def write_model(path: Path, model: StoredNet) -> int:
    """Writes the file whole or not at all (a rename ends it); returns its size in bytes."""
    content = model_bytes(model)
    replace_file(path, content, what="model file")
    return len(content)


def model_bytes(model: StoredNet) -> bytes:
    """The content of the file."""
    header = {
        "projection": model.spec.to_document(),
        "classes": model.classes,
        "lookup": model.rows is not None,
        "layers": [
            {
                "inputs": layer.weight.shape[0 if model.rows is not None else 1],
                "outputs": len(layer.bias),
                "weight": _weight_name(layer),
                "bias": _bias_name(layer.bias),
                "scale": layer.scale,
            }
            for layer in model.layers
        ],
    }
    text = json.dumps(header, separators=(",", ":")).encode("ascii")
    body = MAGIC + _LENGTH.pack(len(text)) + text
    if model.rows is not None:
        body += np.packbits(model.rows, bitorder="little").tobytes()
    for layer in model.layers:
        body += _weight_bytes(layer) + layer.bias.astype(_DTYPES[_bias_name(layer.bias)]).tobytes()
    return body + hashlib.sha256(body).digest()


def read_model(path: Path) -> StoredNet:
    """Reads and checks a file of `write_model`; a DataError says what is wrong with any other."""
    content = _read_regular(path)
    if content[: len(MAGIC)] != MAGIC:
        raise _refused(
            path,
            "model_file_magic",
            f"expected it to begin with {MAGIC!r}, got {content[: len(MAGIC)]!r}",
            "Pass a file that `export` of this version wrote.",
        )
    if len(content) < _PREFIX_BYTES:
        raise _cut(path, _PREFIX_BYTES, len(content))
    (length,) = _LENGTH.unpack_from(content, len(MAGIC))
    if length > _HEADER_LIMIT or len(content) < _PREFIX_BYTES + length:
        raise _cut(path, _PREFIX_BYTES + length, len(content))
    try:
        header = checked_header(content[_PREFIX_BYTES : _PREFIX_BYTES + length])
    except DataError as error:
        raise _refused(path, error.code, error.message, error.hint) from error
    expected = _PREFIX_BYTES + length + header.payload_bytes + _DIGEST_BYTES
    if len(content) != expected:
        raise _cut(path, expected, len(content))
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        raise _refused(
            path,
            "model_file_checksum",
            "its SHA-256 does not match its content",
            "The file was damaged; copy or export it again.",
        )
    model = _parsed(header, memoryview(content)[_PREFIX_BYTES + length :])
    for layer in model.layers:
        if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
            raise _refused(path, "model_file_weights", "a weight is not finite", "Export it again.")
    if model.rows is not None and int(model.rows.sum()) != header.layers[0].inputs:
        raise _refused(
            path,
            "model_file_weights",
            f"its bitmap has {int(model.rows.sum())} rows, its header {header.layers[0].inputs}",
            "Export it again.",
        )
    return model


def _parsed(header: ModelHeader, payload: memoryview) -> StoredNet:
    position = header.bitmap_bytes
    rows = None
    if header.lookup:
        bitmap = np.frombuffer(payload, np.uint8, count=position)
        rows = np.unpackbits(bitmap, count=header.table_rows, bitorder="little").astype(bool)
    layers = []
    for layer in header.layers:
        weight = _weight(layer, payload[position:], header.lookup)
        position += layer.weight_bytes
        dtype = _DTYPES[layer.bias]
        bias = np.frombuffer(payload[position:], dtype, count=layer.outputs)
        position += layer.bias_bytes
        layers.append(
            StoredLayer(
                weight=weight,
                bias=bias.astype(np.float32 if layer.bias == "float32" else np.int64),
                weight_bits=_WEIGHT_BITS.get(layer.weight, FLOAT_BITS),
                scale=layer.scale,
                shared_bits=_SHARED_BITS.get(layer.weight, 0),
            )
        )
    return StoredNet(spec=header.spec, classes=header.classes, layers=tuple(layers), rows=rows)


def _weight(layer: LayerHeader, payload: memoryview, lookup: bool) -> npt.NDArray[Any]:
    count = layer.inputs * layer.outputs
    shape = (layer.inputs, layer.outputs) if lookup else (layer.outputs, layer.inputs)
    if layer.weight == "int4":
        packed = np.frombuffer(payload, np.uint8, count=layer.weight_bytes)
        halves = _unpacked(packed, 4, count).astype(np.int8)
        return ((halves ^ 8) - 8).reshape(shape)
    if layer.weight in _SHARED_BITS:
        width = _SHARED_BITS[layer.weight]
        codebook = np.frombuffer(payload, "<f4", count=2**width)
        packed = np.frombuffer(payload, np.uint8, layer.weight_bytes)[codebook.nbytes :]
        return codebook.astype(np.float32)[_unpacked(packed, width, count)].reshape(shape)
    values = np.frombuffer(payload, _DTYPES[layer.weight], count=count).reshape(shape)
    return values.astype(values.dtype.newbyteorder("="))


def _weight_name(layer: StoredLayer) -> str:
    return f"shared{layer.shared_bits}" if layer.shared_bits else _WEIGHT_NAMES[layer.weight_bits]


def _weight_bytes(layer: StoredLayer) -> bytes:
    if layer.shared_bits:
        return _shared_bytes(layer)
    if layer.weight_bits == 4:
        return packed_halves(layer.weight)
    return layer.weight.astype(_DTYPES[_WEIGHT_NAMES[layer.weight_bits]]).tobytes()


def _shared_bytes(layer: StoredLayer) -> bytes:
    used, codes = np.unique(layer.weight, return_inverse=True)
    entries = 2**layer.shared_bits
    if len(used) > entries:
        raise DataError(
            f"Expected at most {entries} different weights, got {len(used)}.",
            code="model_not_storable",
            hint="Make the layers with `sharing.SharedTraining`.",
        )
    codebook = np.zeros(entries, dtype="<f4")
    codebook[: len(used)] = used
    return codebook.tobytes() + _packed(codes, layer.shared_bits)


def packed_halves(weight: npt.NDArray[Any]) -> bytes:
    """Integers of -8..7, two to a byte, the first in the low half."""
    return _packed(weight.astype(np.uint8) & 15, 4)


def _packed(codes: npt.NDArray[Any], width: int) -> bytes:
    """Numbers below 2^width, 8 / width to a byte, the first lowest."""
    flat = codes.reshape(-1).astype(np.uint8)
    flat = np.append(flat, np.zeros(-flat.size % (8 // width), dtype=np.uint8))
    places = np.arange(0, 8, width, dtype=np.uint8)
    packed: npt.NDArray[np.uint8] = np.bitwise_or.reduce(
        flat.reshape(-1, 8 // width) << places, axis=1
    )
    return packed.tobytes()


def _unpacked(packed: npt.NDArray[np.uint8], width: int, count: int) -> npt.NDArray[np.uint8]:
    places = np.arange(0, 8, width, dtype=np.uint8)
    codes: npt.NDArray[np.uint8] = (packed[:, None] >> places) & np.uint8(2**width - 1)
    return codes.reshape(-1)[:count]


def _bias_name(bias: npt.NDArray[Any]) -> str:
    if bias.dtype == np.float32:
        return "float32"
    return "int32" if np.abs(bias).max() < 2**31 else "int64"


def _read_regular(path: Path) -> bytes:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "model_file_unreadable", "not a regular file", "Pass a file.")
        if status.st_size > _FILE_LIMIT:
            raise _cut(path, _FILE_LIMIT, status.st_size)
        with path.open("rb") as file:
            return file.read(_FILE_LIMIT + 1)
    except OSError as error:
        raise _refused(
            path, "model_file_unreadable", error.strerror or "cannot be read", "Check the path."
        ) from error


def _cut(path: Path, expected: int, got: int) -> DataError:
    return _refused(
        path,
        "model_file_size",
        f"expected {expected} bytes for its sizes, got {got}",
        "The file was cut off or added to; copy it again.",
    )


def _refused(path: Path, code: str, reason: str, hint: str) -> DataError:
    return DataError(f"Model file {printable(str(path))}: {reason}.", code=code, hint=hint)
