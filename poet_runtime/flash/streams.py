"""What a device with copy engines offers: copies that run beside the program, ordered by marks.

    the program's stream     what the program has issued on the device, in program order
    the copy stream          copies, first come first served

A mark is a point in one of the two. `copy` starts when the program's stream has reached the mark
`after`; `hold` lets what the program issues from now on wait for a copy, without stopping the
program itself. Invariant: between `copy` and a `hold` or `finish` for it nobody but the copy stream
may write its source, or touch its target.

`cuda_streams.CudaStreams` is the real one; tests have one that copies as late as the rules allow.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch

Mark = Any


class Streams(Protocol):
    """The two streams of one device."""

    def mark(self) -> Mark:
        """What the program has issued so far."""

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        """Issues a copy; returns the mark at which it is done."""

    def hold(self, mark: Mark) -> None:
        """What the program issues from now on happens after `mark`."""

    def finish(self, mark: Mark) -> None:
        """Returns when `mark` has been reached: for who looks at host memory."""


def bytes_of(memory: torch.UntypedStorage) -> torch.Tensor:
    """A storage as a row of bytes, on whatever device it is."""
    whole = torch.empty(0, dtype=torch.uint8, device=memory.device)
    return whole.set_(memory)
