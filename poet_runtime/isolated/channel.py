"""Messages between a process and its worker: a JSON object, then the bytes of tensors it announces.

    length of the object, 8 bytes little-endian | the object | tensors, contiguous, one by one

Invariant: tensors are sent from and read into their own memory; no buffer of their size is made.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, Any

import torch

from poet_runtime.isolated.tensors import Shape, bytes_of

_MESSAGE_MOST = 1 << 26
_SKIP_BYTES = 1 << 16


class Channel:
    """One end. `read` and `write` are unbuffered or flushed by us."""

    def __init__(self, read: IO[bytes], write: IO[bytes]) -> None:
        self._read, self._write = read, write

    def send(self, message: Mapping[str, Any], tensors: Iterable[torch.Tensor] = ()) -> None:
        """Sends a message and the tensors. Raises OSError where the other end is gone."""
        data = json.dumps(message).encode()
        self._write.write(len(data).to_bytes(8, "little") + data)
        for tensor in tensors:
            contiguous = tensor.detach().contiguous()
            self._write.write(bytes_of(contiguous))
        self._write.flush()

    def receive(self) -> dict[str, Any] | None:
        """The next message, or None where the other end has closed."""
        head = self._read.read(8)
        if len(head) < 8 or (length := int.from_bytes(head, "little")) > _MESSAGE_MOST:
            return None
        data = self._read.read(length)
        if len(data) < length:
            return None
        message: dict[str, Any] = json.loads(data)
        return message

    def receive_tensors(
        self, shapes: Sequence[Shape], make: Callable[[Sequence[Shape]], list[torch.Tensor]]
    ) -> list[torch.Tensor]:
        """The tensors that follow a message, in memory from `make`. Raises EOFError; what `make`
        raises leaves the channel at the next message."""
        try:
            tensors = make(shapes)
        except (RuntimeError, MemoryError):
            left = sum(shape.size_bytes for shape in shapes)
            while left and (skipped := len(self._read.read(min(left, _SKIP_BYTES)))):
                left -= skipped
            raise
        for tensor in tensors:
            view = bytes_of(tensor)
            while len(view):
                count = self._read.readinto(view)  # type: ignore[attr-defined]
                if not count:
                    raise EOFError("the other end closed amid a tensor")
                view = view[count:]
        return tensors
