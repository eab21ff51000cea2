"""Whatever ends a block closes what it holds; only an error discards before."""

from __future__ import annotations

import pytest

from poet_runtime.closing import Closing


class _Noting(Closing):
    def __init__(self) -> None:
        self.told: list[str] = []

    def close(self) -> None:
        self.told.append("close")

    def discard(self) -> None:
        self.told.append("discard")


def test_a_block_that_ends_closes() -> None:
    with _Noting() as noting:
        assert noting.told == []
    assert noting.told == ["close"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_goes_on_after_discarding_and_closing(error: type[BaseException]) -> None:
    noting = _Noting()
    with pytest.raises(error), noting:
        raise error
    assert noting.told == ["discard", "close"]


def test_what_closes_must_say_how() -> None:
    with pytest.raises(TypeError, match="close"):
        Closing()  # type: ignore[abstract]
