"""The shipped devices, by name.

Names come from strangers (HTTP, command lines): they are looked up among the files that are there
and never become part of a path.
"""

from __future__ import annotations

import difflib
import functools
from importlib import resources
from typing import TYPE_CHECKING

from poet_core.device import DeviceProfile
from poet_core.device_document import read_device_toml
from poet_core.errors import DeviceError
from poet_core.text import printable

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

_PACKAGE = "device_profiles"


def device_names() -> tuple[str, ...]:
    """The names of the shipped devices, sorted."""
    return tuple(sorted(_files()))


def load_device(name: str) -> DeviceProfile:
    """The shipped profile called `name`. Raises DeviceError (`unknown_device`)."""
    files = _files()
    if name not in files:
        raise _unknown(name, tuple(sorted(files)))
    return _profile(files[name].read_bytes())


@functools.lru_cache(maxsize=16)
def _profile(text: bytes) -> DeviceProfile:
    """Of a file's text: a service reads the same few again and again."""
    return read_device_toml(text)


def _files() -> dict[str, Traversable]:
    return {
        item.name.removesuffix(".toml"): item
        for item in resources.files(_PACKAGE).iterdir()
        if item.name.endswith(".toml")
    }


def _unknown(name: str, known: tuple[str, ...]) -> DeviceError:
    # get_close_matches is quadratic in the length of the word
    close = difflib.get_close_matches(name[:64].lower(), known, n=3, cutoff=0.5)
    meant = f"Did you mean {' or '.join(close)}? " if close else ""
    return DeviceError(
        f"Expected the name of a device, got {printable(name, 40)!r}.",
        code="unknown_device",
        hint=f"{meant}Known devices: {', '.join(known)}.",
        details={"device": printable(name, 40), "did_you_mean": ", ".join(close)},
    )
