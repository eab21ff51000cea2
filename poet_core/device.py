"""DeviceProfile: what a device has (RAM, flash) and what its work costs (seconds, joules).

Every number can carry its source; shipped profiles must (a test holds them to it). Invariant: all
numbers are finite, rates are positive, so a cost computed from a profile is finite.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from poet_core.errors import DeviceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where a number comes from; `estimate` marks one that nobody measured on this device."""

    text: str
    estimate: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceProfile:
    """A device. Rates are per second, energies in joules, sizes in bytes.

    `alignment_bytes`: allocation granule of the RAM. `reserved_bytes`: RAM that is not ours.
    `flash_bytes`: capacity for paging, None when unlimited for our purposes; `flash_watts`: power
    drawn while a transfer runs (POET, section 4.2). `memory_bytes_per_second` None: ops are bound
    by compute only. `overlap`: transfers run beside compute. `measured`: prefer the seconds that
    were measured on this machine (the profile named `host`).
    """

    name: str
    title: str
    ram_bytes: int
    flops_per_second: float
    flops_per_joule: float
    page_in_latency_seconds: float
    page_in_bytes_per_second: float
    page_out_latency_seconds: float
    page_out_bytes_per_second: float
    flash_watts: float
    idle_watts: float = 0.0
    memory_bytes_per_second: float | None = None
    flash_bytes: int | None = None
    alignment_bytes: int = 1
    reserved_bytes: int = 0
    overlap: bool = False
    measured: bool = False
    sources: Mapping[str, Source] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                continue
            lowest_excluded = item.name.endswith(("_per_second", "_per_joule"))
            least_one = item.name in {"ram_bytes", "alignment_bytes"}
            wrong = not math.isfinite(value) or value < 0 or (lowest_excluded and value == 0)
            if wrong or (least_one and value < 1):
                raise DeviceError(
                    f"Device field {item.name}: expected a finite number "
                    f"{'above' if lowest_excluded or least_one else 'of at least'} 0, got {value}.",
                    code="device_field",
                    details={"field": item.name},
                )
