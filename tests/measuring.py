"""Seconds measured on a machine that may be busy with something else for a moment."""

from __future__ import annotations

from collections.abc import Callable

ATTEMPTS = 3


def least_seconds(attempt: Callable[[], float], enough: float) -> float:
    """The least of up to three measurements; none follows one that is below `enough`.

    What else runs on a machine only ever adds to a measurement, so the least says most about
    what is measured. Everything else that an attempt checks holds in each.
    """
    least = attempt()
    for _ in range(ATTEMPTS - 1):
        if least < enough:
            break
        least = min(least, attempt())
    return least
