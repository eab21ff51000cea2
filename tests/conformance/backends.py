"""Every solver that the project knows, as pytest parameters; one that is not here skips by name.

The same tests run with each: a solver is supported when they pass with it.
"""

from typing import get_args

import pytest

from poet_solvers.backends import BackendName, SolveLimits, available_backends

QUICK = SolveLimits(wall_seconds=20, threads=1)


def _parameter(name: str):
    if name in available_backends():
        return pytest.param(name)
    absent = pytest.mark.skip(reason=f"{name} is not installed or not licensed on this machine")
    return pytest.param(name, marks=absent)


every_backend = pytest.mark.parametrize(
    "backend", [_parameter(name) for name in get_args(BackendName)]
)
