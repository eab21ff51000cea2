"""The small model in one file: sizes, seed, weights and a checksum. No matrix, no pickle, no code.

    offset  bytes  what
    0       8      magic, the last byte is the format's version
    8       56     seven little-endian uint64: in_features, classes, functions, bits,
                   hidden (0: no hidden layer), seed, input_max
    64      4 x n  the weights, little-endian float32, row-major: weight and bias of each layer in
                   order, a weight as (outputs, inputs)
    end-32  32     SHA-256 of everything before

Invariant: n follows from the seven integers, which are bounded before anything is allocated, so a
reader never takes a length from a stranger.
"""

from __future__ import annotations

import hashlib
import math
import os
import stat
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poet_core.errors import DataError
from poet_core.text import printable
from projection_nets.hashing import LARGEST_SEED
from projection_nets.spec import MATRIX_ENTRIES_LIMIT

MAGIC = b"POETNET\x01"
_INTEGERS = struct.Struct("<7Q")
_HEADER_BYTES = len(MAGIC) + _INTEGERS.size
_DIGEST_BYTES = hashlib.sha256().digest_size
_SIZE_LIMIT = 2**20  # inputs, bits, classes, hidden units: far above any small model
_WEIGHTS_LIMIT = 2**26  # 256 MiB of float32

Weights = tuple[npt.NDArray[np.float32], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProjection:
    """What the file holds; `weights` are weight and bias of each layer, in order."""

    in_features: int
    classes: int
    functions: int
    bits: int
    hidden: int | None
    seed: int
    input_max: int
    weights: Weights


def weight_shapes(projected_bits: int, hidden: int | None, classes: int) -> list[tuple[int, ...]]:
    """Shapes of the weights, in the file's order."""
    if hidden is None:
        return [(classes, projected_bits), (classes,)]
    return [(hidden, projected_bits), (hidden,), (classes, hidden), (classes,)]


def write_model(path: Path, stored: StoredProjection) -> int:
    """Writes the file whole or not at all (a rename ends it); returns its size in bytes.

    Raises DataError (`model_not_storable`) where a weight is not a finite float32.
    """
    shapes = weight_shapes(stored.functions * stored.bits, stored.hidden, stored.classes)
    for weight, shape in zip(stored.weights, shapes, strict=True):
        if weight.dtype != np.float32 or weight.shape != shape or not np.isfinite(weight).all():
            raise DataError(
                f"Expected finite float32 weights of shape {shape}, got {weight.dtype} of shape "
                f"{weight.shape}{'' if np.isfinite(weight).all() else ' with NaN or infinity'}.",
                code="model_not_storable",
                hint="Export a float32 model whose training did not diverge.",
            )
    integers = (
        stored.in_features,
        stored.classes,
        stored.functions,
        stored.bits,
        stored.hidden or 0,
        stored.seed,
        stored.input_max,
    )
    body = MAGIC + _INTEGERS.pack(*integers)
    body += b"".join(weight.astype("<f4").tobytes(order="C") for weight in stored.weights)
    content = body + hashlib.sha256(body).digest()
    _replace(path, content)
    return len(content)


def read_model(path: Path) -> StoredProjection:
    """Reads and checks a file of `write_model`; a DataError says what is wrong with any other."""
    content = _read_regular(path)
    if content[: len(MAGIC)] != MAGIC:
        raise _refused(
            path,
            "model_file_magic",
            f"expected it to begin with {MAGIC!r}, got {content[: len(MAGIC)]!r}",
            "Pass a file that ProjectionNet.export wrote.",
        )
    if len(content) < _HEADER_BYTES:
        raise _refused(
            path,
            "model_file_size",
            f"expected at least {_HEADER_BYTES} bytes, got {len(content)}",
            "The file was cut off; copy it again.",
        )
    sizes = _checked_integers(path, _INTEGERS.unpack_from(content, len(MAGIC)))
    in_features, classes, functions, bits, hidden_or_0, seed, input_max = sizes
    hidden = hidden_or_0 or None
    shapes = weight_shapes(functions * bits, hidden, classes)
    counts = [math.prod(shape) for shape in shapes]
    if sum(counts) > _WEIGHTS_LIMIT:
        raise _refused(
            path,
            "model_file_sizes",
            f"expected at most {_WEIGHTS_LIMIT} weights, got {sum(counts)}",
            "No small model is that large; the file is damaged or hostile.",
        )
    expected = _HEADER_BYTES + 4 * sum(counts) + _DIGEST_BYTES
    if len(content) != expected:
        raise _refused(
            path,
            "model_file_size",
            f"expected {expected} bytes for its sizes, got {len(content)}",
            "The file was cut off or added to; copy it again.",
        )
    if hashlib.sha256(content[:-_DIGEST_BYTES]).digest() != content[-_DIGEST_BYTES:]:
        raise _refused(
            path,
            "model_file_checksum",
            "its SHA-256 does not match its content",
            "The file was damaged; copy or export it again.",
        )
    flat = np.frombuffer(content, dtype="<f4", count=sum(counts), offset=_HEADER_BYTES)
    if not np.isfinite(flat).all():
        raise _refused(path, "model_file_weights", "a weight is not finite", "Export it again.")
    pieces = np.split(flat.astype(np.float32), np.cumsum(counts)[:-1])
    return StoredProjection(
        in_features=in_features,
        classes=classes,
        functions=functions,
        bits=bits,
        hidden=hidden,
        seed=seed,
        input_max=input_max,
        weights=tuple(piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)),
    )


def _checked_integers(path: Path, integers: tuple[int, ...]) -> tuple[int, ...]:
    in_features, classes, functions, bits, hidden, seed, input_max = integers
    sizes = {"in_features": in_features, "classes": classes, "functions": functions}
    sizes |= {"bits": bits, "input_max": input_max}
    wrong = [f"{name} {size}" for name, size in sizes.items() if not 1 <= size <= _SIZE_LIMIT]
    if hidden > _SIZE_LIMIT:
        wrong.append(f"hidden {hidden}")
    if seed > LARGEST_SEED:
        wrong.append(f"seed {seed}")
    if not wrong and functions * bits * in_features > MATRIX_ENTRIES_LIMIT:
        wrong.append(f"a projection matrix of {functions * bits} x {in_features}")
    if wrong:
        raise _refused(
            path,
            "model_file_sizes",
            f"out of range: {', '.join(wrong)}",
            "The file is damaged or hostile; export it again.",
        )
    return integers


def _read_regular(path: Path) -> bytes:
    limit = _HEADER_BYTES + 4 * _WEIGHTS_LIMIT + _DIGEST_BYTES
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise _refused(path, "model_file_unreadable", "not a regular file", "Pass a file.")
        if status.st_size > limit:
            raise _refused(
                path,
                "model_file_size",
                f"expected at most {limit} bytes, got {status.st_size}",
                "Pass a file that ProjectionNet.export wrote.",
            )
        with path.open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise _refused(
            path, "model_file_unreadable", error.strerror or "cannot be read", "Check the path."
        ) from error


def _replace(path: Path, content: bytes) -> None:
    """Writes beside `path` and renames, so that a crash leaves the old file or the new one."""
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)  # mkstemp makes it private; an exported model is to be shared
        temporary.replace(path)
        temporary = None
    except OSError as error:
        raise DataError(
            f"Cannot write model file {printable(str(path))}: {error.strerror}.",
            code="model_file_unwritable",
            hint="Check that the folder exists, is writable and has room.",
        ) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _refused(path: Path, code: str, reason: str, hint: str) -> DataError:
    return DataError(f"Model file {printable(str(path))}: {reason}.", code=code, hint=hint)
