"""What a mentor says of each example, in one file: for a mentee on a device that the mentor never sees.

    offset  bytes  what
    0       8      magic, the last byte is the format's version
    8       4      length of the header, little-endian
    12      ...    the header: JSON in ASCII, {"examples", "chunk_examples", "values": float32 |
                   float16, "inputs_sha256", "parts": [{"name", "shape"}]}; the first part is logits
    ...     32     SHA-256 of everything before
    ...     ...    the chunks: of each example all parts, row-major, little-endian; then the SHA-256
                   of (the header's SHA-256, the chunk's number in 8 bytes, the chunk)

The file is mapped into memory and read where a batch needs it; a chunk is checked when it is first
touched, so opening a large file costs nothing. Logits, not probabilities: the temperature is chosen
later. Where a mentor gives probabilities only, their logarithms are logits. No pickle, no code.

Invariant: what `rows` returns is finite and was in a chunk whose checksum holds.
"""

from __future__ import annotations

import hashlib
import stat
import struct
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

import numpy as np
import numpy.typing as npt

from poet_core.errors import DataError, UsageError
from poet_core.text import printable
from projection_nets.recording_header import DIGEST_BYTES, RecordingHeader
from projection_nets.replacing import replacing

MAGIC = b"POETREC\x01"
LOGITS = "logits"

_LENGTH = struct.Struct("<I")
_CHUNK_NUMBER = struct.Struct("<Q")
_PREFIX_BYTES = len(MAGIC) + _LENGTH.size
_HEADER_LIMIT = 2**18
_DTYPES = {"float32": "<f4", "float16": "<f2"}

Rows = npt.NDArray[np.float32]


def write_recording(
    path: Path, header: RecordingHeader, batches: Iterable[Sequence[npt.NDArray[np.floating]]]
) -> int:
    """Writes the file whole or not at all, a chunk in memory at a time; returns its bytes.

    `batches`: each a part after the other, (examples, ...) in the header's shapes, `examples` in
    all. Raises UsageError (`recording_sizes`) where they are not, DataError
    (`recording_not_finite`, `model_file_unwritable`).
    """
    text = header.to_bytes()
    start = MAGIC + _LENGTH.pack(len(text)) + text
    digest = hashlib.sha256(start).digest()
    with replacing(path, what="recording") as file:
        file.write(start + digest)
        _write_chunks(file, header, digest, batches)
    return len(start) + DIGEST_BYTES + header.payload_bytes


def _write_chunks(
    file: BinaryIO,
    header: RecordingHeader,
    digest: bytes,
    batches: Iterable[Sequence[npt.NDArray[np.floating]]],
) -> None:
    waiting, chunk, rows = b"", 0, 0
    full = header.chunk_examples * header.row_bytes
    for batch in batches:
        waiting += _batch_bytes(header, batch)
        rows += len(batch[0])
        while len(waiting) >= full or (waiting and rows == header.examples):
            content, waiting = waiting[:full], waiting[full:]
            file.write(content + _digest(digest, chunk, content))
            chunk += 1
    if rows != header.examples:
        raise UsageError(
            f"Expected {header.examples} examples, got {rows}.",
            code="recording_sizes",
            hint="Record every example of the data set once, in its order.",
        )


def _batch_bytes(header: RecordingHeader, batch: Sequence[npt.NDArray[np.floating]]) -> bytes:
    shapes = [(len(batch[0]), *shape) for shape in header.shapes.values()]
    if [part.shape for part in batch] != shapes:
        raise UsageError(
            f"Expected parts of {shapes}, got {[part.shape for part in batch]}.",
            code="recording_sizes",
            hint="The parts are the logits and one target a mapped layer.",
        )
    rows = np.concatenate([part.reshape(len(part), -1) for part in batch], axis=1)
    with np.errstate(over="ignore"):  # found in the next line
        values = rows.astype(_DTYPES[header.values])
    if not np.isfinite(values).all():
        raise DataError(
            f"Expected finite numbers that {header.values} holds, got {rows.min()} to {rows.max()}.",
            code="recording_not_finite",
            hint="Record float32; if it is, look at the mentor.",
        )
    return values.tobytes()


class Recording:
    """A recording, open for reading. `with Recording(path) as recording: ...`

    Raises DataError: `recording_unreadable`, `recording_magic`, `recording_header`,
    `recording_size`, `recording_checksum`. A file that another program cuts off while it is open
    ends the process, as with every mapped file.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self.header, self._start, self._digest = self._opened()
        try:
            # an array over the mapped file: nothing is read yet
            self._bytes: npt.NDArray[np.uint8] = np.memmap(self._path, np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise self._refused("recording_unreadable", "cannot be mapped into memory") from error
        self._checked = bytearray(self.header.chunks)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Each part's shape for one example."""
        return self.header.shapes

    def __len__(self) -> int:
        return self.header.examples

    def rows(self, order: npt.NDArray[np.int64]) -> tuple[Rows, ...]:
        """Each part of these examples, float32 (len(order), ...)."""
        header = self.header
        if len(order) and not 0 <= int(order.min()) <= int(order.max()) < header.examples:
            raise UsageError(
                f"Expected examples of 0..{header.examples - 1}, got {order.min()}..{order.max()}.",
                code="recording_sizes",
                hint="The recording is of another data set.",
            )
        values = np.empty((len(order), header.row_bytes), dtype=np.uint8)
        for at, example in enumerate(order.tolist()):
            chunk, row = divmod(example, header.chunk_examples)
            if not self._checked[chunk]:
                self._check(chunk)
            first = self._start + header.offset_of(chunk) + row * header.row_bytes
            values[at] = self._bytes[first : first + header.row_bytes]
        flat = values.view(_DTYPES[header.values]).astype(np.float32)
        parts, first = [], 0
        for shape in header.shapes.values():
            size = int(np.prod(shape))
            parts.append(flat[:, first : first + size].reshape(len(order), *shape))
            first += size
        return tuple(parts)

    def check(self) -> None:
        """Reads and checks every chunk now."""
        for chunk in range(self.header.chunks):
            self._check(chunk)

    def close(self) -> None:
        """Gives the mapping back; the recording cannot be read any more."""
        self._bytes = np.empty(0, dtype=np.uint8)
        self._checked = bytearray(self.header.chunks)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace_back: TracebackType | None,
    ) -> None:
        self.close()

    def _check(self, chunk: int) -> None:
        header = self.header
        first = self._start + header.offset_of(chunk)
        stop = first + len(header.rows_of(chunk)) * header.row_bytes
        content = self._bytes[first:stop].tobytes()
        expected = self._bytes[stop : stop + DIGEST_BYTES].tobytes()
        if _digest(self._digest, chunk, content) != expected:
            raise self._refused("recording_checksum", f"chunk {chunk} does not match its SHA-256")
        if not np.isfinite(np.frombuffer(content, _DTYPES[header.values])).all():
            raise self._refused("recording_checksum", f"chunk {chunk} has a number that is none")
        self._checked[chunk] = True

    def _opened(self) -> tuple[RecordingHeader, int, bytes]:
        """The header, where the chunks begin, and the header's checksum."""
        try:
            status = self._path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise self._refused("recording_unreadable", "is not a regular file")
            with self._path.open("rb") as file:
                prefix = file.read(_PREFIX_BYTES)
                if prefix[: len(MAGIC)] != MAGIC:
                    reason = f"expected it to begin with {MAGIC!r}, got {prefix[: len(MAGIC)]!r}"
                    raise self._refused("recording_magic", reason)
                length = int.from_bytes(prefix[len(MAGIC) :], "little")
                if len(prefix) < _PREFIX_BYTES or length > _HEADER_LIMIT:
                    raise self._refused("recording_size", "is cut off or has no header")
                text, digest = file.read(length), file.read(DIGEST_BYTES)
        except OSError as error:
            reason = f"cannot be read ({error.strerror})"
            raise self._refused("recording_unreadable", reason) from error
        if len(text) < length or len(digest) < DIGEST_BYTES:
            raise self._refused("recording_size", "is cut off in its header")
        if hashlib.sha256(prefix + text).digest() != digest:
            raise self._refused("recording_checksum", "its header does not match its SHA-256")
        try:
            header = RecordingHeader.from_bytes(text)
        except DataError as error:
            raise self._refused(error.code, error.message) from error
        start = _PREFIX_BYTES + length + DIGEST_BYTES
        if status.st_size != start + header.payload_bytes:
            reason = f"expected {start + header.payload_bytes} bytes, got {status.st_size}"
            raise self._refused("recording_size", reason)
        return header, start, digest

    def _refused(self, code: str, reason: str) -> DataError:
        return DataError(
            f"Recording {printable(str(self._path))}: {reason}.",
            code=code,
            hint="The file was damaged or is something else; copy or record it again.",
        )


def _digest(header_digest: bytes, chunk: int, content: bytes) -> bytes:
    return hashlib.sha256(header_digest + _CHUNK_NUMBER.pack(chunk) + content).digest()
