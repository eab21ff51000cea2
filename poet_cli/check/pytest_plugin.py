"""`@pytest.mark.fits_device(...)` and the fixture `fits_device`, for every suite where poet is
installed (the entry point `poet` of `pytest11`; `-p no:poet` leaves it out).

    @pytest.mark.fits_device("jetson-tx2", ram="512MiB", max_energy="1.05x")
    def test_trains_on_the_board():
        return model, loss_fn, optimizer, batch

Invariant: a suite that does not use it pays for this file and nothing else. A mark never passes
unseen: it is judged, or the test fails and says why it could not be.
"""

from __future__ import annotations

import functools
import inspect
import unittest
from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from poet_cli.check.pytest_judging import FitsDevice

_MARK = "fits_device"
_REGISTERED = (
    f"{_MARK}(device, ram=..., max_time=..., max_energy=..., page=..., rematerialize=..., "
    "planner_seconds=..., undecided='error'|'warn'|'skip'): what the test returns, (model, "
    "loss_fn, optimizer, batch), has to train on the device within the limits (poet)"
)
_NOT_JUDGED = (
    "@pytest.mark.fits_device judges what a plain test function or method returns; this is {}. "
    "Return (model, loss_fn, optimizer, batch) from a function, or use the fixture `fits_device`."
)


def pytest_configure(config: pytest.Config) -> None:
    """Make the mark known, for suites with `--strict-markers`."""
    config.addinivalue_line("markers", _REGISTERED)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Refuse the mark where nothing would judge it."""
    if item.get_closest_marker(_MARK) is None:
        return
    if not isinstance(item, pytest.Function):
        pytest.fail(_NOT_JUDGED.format(f"a {type(item).__name__}"), pytrace=False)
    if item.cls is not None and issubclass(item.cls, unittest.TestCase):
        pytest.fail(_NOT_JUDGED.format("a method of a unittest.TestCase"), pytrace=False)
    if inspect.iscoroutinefunction(item.obj) or inspect.isasyncgenfunction(item.obj):
        pytest.fail(_NOT_JUDGED.format("a coroutine"), pytrace=False)


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Keep what a marked test returns, and judge it once the test has passed."""
    if pyfuncitem.get_closest_marker(_MARK) is None:
        return (yield)
    test, returned = pyfuncitem.obj, []

    # It returns nothing: pytest warns of tests that do.
    @functools.wraps(test)
    def keeping(*arguments: Any, **named: Any) -> None:
        returned.append(test(*arguments, **named))

    pyfuncitem.obj = keeping
    try:
        result = yield
    finally:
        pyfuncitem.obj = test
    from poet_cli.check.pytest_judging import judge_returned

    judge_returned(pyfuncitem, returned[-1] if returned else None)
    return result


@pytest.fixture
def fits_device(request: pytest.FixtureRequest) -> FitsDevice:
    """`fits_device((model, loss_fn, optimizer, batch), "jetson-tx2", ram="512MiB")` fails the test
    where that does not fit and returns the row: peak_bytes, seconds, joules and more. With the
    mark on the test, the step alone is enough."""
    from poet_cli.check.pytest_judging import FitsDevice

    return FitsDevice(request.node)
