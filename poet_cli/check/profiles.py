"""The profile of an entry's device: a shipped one by its name, or one from a file.

Invariant: a path is seen by how it is written, so that no file of the same name as a device is read.
"""

from __future__ import annotations

from pathlib import Path

from poet_cli.check.entries import Entry
from poet_core.device import DeviceProfile

_SUFFIXES = (".toml", ".json")


def is_path(device: str) -> bool:
    """Whether `device` is written as a path: with a slash, or ending in .toml or .json."""
    return "/" in device or device.endswith(_SUFFIXES)


def profile_file(device: str, folder: Path) -> Path | None:
    """The file that `device` names from `folder`, the configuration's; None: a shipped device."""
    return folder / device if is_path(device) else None


def load_profile(device: str, folder: Path) -> DeviceProfile:
    """The profile. Raises DeviceError (`unknown_device`), UsageError and DocumentError."""
    path = profile_file(device, folder)
    if path is None:
        from poet_core.devices import load_device

        return load_device(device)
    from poet_cli.files import load_device_file

    return load_device_file(path)


def profile_of(entry: Entry) -> DeviceProfile:
    """The profile of an entry's device; raises as `load_profile`."""
    return load_profile(entry.device, entry.place.file.parent)


def device_label(device: str) -> str:
    """What the device is called in a row's name."""
    return Path(device).stem if is_path(device) else device
