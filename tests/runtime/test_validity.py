"""A step is void after any fault, says why from then on, and lets errors of the tree through."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from poet_core.errors import ReplayError
from poet_runtime.replaying.validity import Validity


def test_a_new_step_may_be_used() -> None:
    validity = Validity()
    with validity.void_on_fault():
        pass
    validity.check()
    validity.closed = True
    with pytest.raises(ReplayError) as caught:
        validity.check()
    assert caught.value.code == "step_closed"


@pytest.mark.parametrize(
    ("error", "raised", "reason"),
    [
        (ReplayError("a disk died", code="flash_io"), "flash_io", "a disk died"),
        (RuntimeError("a kernel died"), "step_failed", "a kernel died"),
        (KeyboardInterrupt(), None, "KeyboardInterrupt"),
    ],
)
def test_a_fault_voids(error: BaseException, raised: str | None, reason: str) -> None:
    validity = Validity()
    with pytest.raises(BaseException) as caught, validity.void_on_fault():  # noqa: PT011 - any
        raise error
    if raised is None:
        assert caught.value is error
    else:
        assert isinstance(caught.value, ReplayError)
        assert caught.value.code == raised
    for _ in range(2):
        with pytest.raises(ReplayError, match=reason) as later:
            validity.check()
        assert later.value.code == "step_void"


def test_a_fault_keeps_no_tensor_of_the_step() -> None:
    """The frames of the failed step are cleared while its error is still held."""
    gone: list[weakref.ref[torch.Tensor]] = []

    def step() -> None:
        tensor = torch.ones(3)
        gone.append(weakref.ref(tensor))
        raise RuntimeError("died")

    with pytest.raises(ReplayError) as caught, Validity().void_on_fault():
        step()
    gc.collect()
    assert gone[0]() is None
    assert caught.value.__cause__ is not None
