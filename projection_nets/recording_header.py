"""The header of a recording, checked field by field: a stranger's JSON never sizes an allocation.

Invariant: a `RecordingHeader` exists only with sizes below the limits, and every offset and length
of the file follows from it.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any

from poet_core.errors import DataError, UsageError
from poet_core.text import printable

DIGEST_BYTES = 32
ITEM_BYTES = {"float32": 4, "float16": 2}

_COUNT_LIMIT = 2**32
_SIZE_LIMIT = 2**24
_ROW_LIMIT = 2**26  # 64 MiB an example
_CHUNK_LIMIT = 2**28  # what is read and checked at a time
_PARTS_LIMIT = 64
_DIMENSIONS_LIMIT = 4
_NAME_LIMIT = 2**11


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingHeader:
    """What a recording says of itself. `shapes`: of each part for one example, in their order."""

    examples: int
    chunk_examples: int
    values: str
    inputs_sha256: str
    shapes: dict[str, tuple[int, ...]]

    @property
    def row_bytes(self) -> int:
        """Bytes of one example."""
        return sum(math.prod(shape) for shape in self.shapes.values()) * ITEM_BYTES[self.values]

    @property
    def chunks(self) -> int:
        """Number of chunks."""
        return -(-self.examples // self.chunk_examples)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all chunks and their checksums."""
        return self.examples * self.row_bytes + self.chunks * DIGEST_BYTES

    def rows_of(self, chunk: int) -> range:
        """The examples in a chunk."""
        first = chunk * self.chunk_examples
        return range(first, min(first + self.chunk_examples, self.examples))

    def offset_of(self, chunk: int) -> int:
        """Where a chunk begins, after the header."""
        return chunk * (self.chunk_examples * self.row_bytes + DIGEST_BYTES)

    def to_bytes(self) -> bytes:
        """The header as the file has it; raises UsageError (`recording_sizes`) beyond the limits."""
        wrong = self.wrong()
        if wrong:
            raise UsageError(
                f"Expected {wrong}.", code="recording_sizes", hint="Map fewer or smaller layers."
            )
        document = {
            "examples": self.examples,
            "chunk_examples": self.chunk_examples,
            "values": self.values,
            "inputs_sha256": self.inputs_sha256,
            "parts": [{"name": name, "shape": shape} for name, shape in self.shapes.items()],
        }
        return json.dumps(document, separators=(",", ":")).encode("ascii")

    @classmethod
    def from_bytes(cls, text: bytes) -> RecordingHeader:
        """The header of a file, or DataError (`recording_header`)."""
        try:
            return _parsed(text)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            reason = printable(f"{type(error).__name__}: {error}")
            raise DataError(
                f"its header does not describe a recording ({reason})",
                code="recording_header",
                hint="The file is damaged or hostile; record it again.",
            ) from error

    def wrong(self) -> str | None:
        """What would have to hold and does not."""
        sizes = [size for shape in self.shapes.values() for size in shape]
        if not (1 <= self.examples <= _COUNT_LIMIT and 1 <= self.chunk_examples <= _COUNT_LIMIT):
            return f"1..{_COUNT_LIMIT} examples and as many a chunk"
        if self.values not in ITEM_BYTES:
            return f"values of {', '.join(ITEM_BYTES)}, got {self.values!r:.20}"
        if not re.fullmatch("[0-9a-f]{64}", self.inputs_sha256):
            return "inputs_sha256 of 64 hexadecimal digits"
        if not 1 <= len(self.shapes) <= _PARTS_LIMIT or max(map(len, self.shapes)) > _NAME_LIMIT:
            return f"1..{_PARTS_LIMIT} parts with names of at most {_NAME_LIMIT} characters"
        if not all(1 <= len(shape) <= _DIMENSIONS_LIMIT for shape in self.shapes.values()):
            return f"parts of 1..{_DIMENSIONS_LIMIT} dimensions"
        if not all(1 <= size <= _SIZE_LIMIT for size in sizes):
            return f"sizes of 1..{_SIZE_LIMIT}"
        # one by one first: a product of many sizes may be a very long number
        if self.row_bytes > _ROW_LIMIT or self.chunk_examples * self.row_bytes > _CHUNK_LIMIT:
            return f"at most {_ROW_LIMIT} bytes an example and {_CHUNK_LIMIT} a chunk"
        return None


def _parsed(text: bytes) -> RecordingHeader:
    document = json.loads(text.decode("ascii"))
    parts = document["parts"]
    if not isinstance(parts, list):
        raise TypeError("parts is no list")
    header = RecordingHeader(
        examples=_count(document["examples"]),
        chunk_examples=_count(document["chunk_examples"]),
        values=_string(document["values"]),
        inputs_sha256=_string(document["inputs_sha256"]),
        shapes={_string(part["name"]): _shape(part["shape"]) for part in parts},
    )
    wrong = header.wrong()
    if wrong or len(header.shapes) != len(parts):
        raise ValueError(wrong or "a part stands there twice")
    return header


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"a count is {value!r:.40}")
    return value


def _string(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a name is {value!r:.40}")
    return value


def _shape(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise TypeError(f"a shape is {value!r:.40}")
    return tuple(_count(size) for size in value)
