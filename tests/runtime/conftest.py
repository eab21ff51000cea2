"""What the runtime's tests share: one thread, because the number of threads changes reductions."""

from collections.abc import Iterator

import pytest
import torch


# Of module scope, to come before the modules' own fixtures, which trace and train.
@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
