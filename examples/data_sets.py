"""The data sets of the projection networks' examples, by the name that the command line gives them.

All but `digits`, which comes with scikit-learn, lie in the folder that POET_DATA names.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from poet_core.errors import UsageError
from projection_nets.data import (
    ImageSplits,
    TextSplits,
    banking77,
    clinc150,
    digits,
    fashion_mnist,
    mnist,
    snips,
)

IMAGES: dict[str, Callable[[Path], ImageSplits]] = {
    "digits": lambda _: digits(),
    "mnist": mnist,
    "fashion-mnist": fashion_mnist,
}
TEXTS: dict[str, Callable[[Path], TextSplits]] = {
    "clinc150": clinc150,
    "banking77": banking77,
    "snips": snips,
}


def data_root(name: str) -> Path:
    """The folder of the data sets. Raises UsageError (`data_file_missing`) where none is named."""
    root = os.environ.get("POET_DATA")
    if root is None and name != "digits":
        raise UsageError(
            f"Expected POET_DATA to name the folder that holds {name}.",
            code="data_file_missing",
            hint="Set POET_DATA, or use --data digits.",
        )
    return Path(root or ".")
