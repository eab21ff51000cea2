"""A GPU's two streams and its locked memory: the only file here that cannot be tested without one.

Every function is one or two calls of torch's, in the sense that torch's manual gives them; what is
built on them is tested on the CPU with other streams (`streams`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch.cuda._pin_memory_utils import pin_memory, unpin_memory

from poet_runtime.flash.streams import Mark


class CudaStreams:
    """See `streams.Streams`. The program's stream is whichever is current on its thread."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda: Any = torch.cuda  # torch leaves its streams untyped
        self._copying = cuda.Stream(device)

    def mark(self) -> Mark:
        """See Streams."""
        return torch.cuda.current_stream(self._device).record_event()

    def copy(self, target: torch.Tensor, source: torch.Tensor, after: Mark) -> Mark:
        """See Streams."""
        self._copying.wait_event(after)
        with torch.cuda.stream(self._copying):
            target.copy_(source, non_blocking=True)
        return self._copying.record_event()

    def hold(self, mark: Mark) -> None:
        """See Streams."""
        torch.cuda.current_stream(self._device).wait_event(mark)

    def finish(self, mark: Mark) -> None:
        """See Streams."""
        mark.synchronize()


class CudaPageLock:
    """See `host_memory.PageLock`: cudaHostRegister and cudaHostUnregister."""

    def lock(self, address: int, size_bytes: int) -> None:
        """See PageLock."""
        pin_memory(address, size_bytes)

    def unlock(self, address: int) -> None:
        """See PageLock."""
        unpin_memory(address)
