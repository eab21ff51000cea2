"""Graph + device -> seconds and joules of every op and every transfer.

A Costs object is complete in itself: a plan carries it by value, so that a plan can be judged
without the device profile that it came from.
"""

from __future__ import annotations

from dataclasses import dataclass

from poet_core.device import DeviceProfile
from poet_core.graph import Op, TrainingGraph


@dataclass(frozen=True, slots=True, kw_only=True)
class Costs:
    """Seconds and joules: `op_*` indexed by op id, `page_*` by storage id; idle power in watts."""

    op_seconds: tuple[float, ...]
    op_joules: tuple[float, ...]
    page_in_seconds: tuple[float, ...]
    page_in_joules: tuple[float, ...]
    page_out_seconds: tuple[float, ...]
    page_out_joules: tuple[float, ...]
    idle_watts: float = 0.0

    @property
    def base_seconds(self) -> float:
        """Compute seconds of keep-everything: the base of every time ratio."""
        return sum(self.op_seconds)

    @property
    def base_joules(self) -> float:
        """Energy of keep-everything: every op once, idle power while they run."""
        return sum(self.op_joules) + self.idle_watts * self.base_seconds


def costs_on(graph: TrainingGraph, device: DeviceProfile) -> Costs:
    """What each op and transfer of `graph` costs on `device` (POET, section 4.2).

    Compute: the slower of FLOPs and memory traffic; joules from FLOPs. Transfers: latency plus
    bytes over bandwidth, and the flash's power for that long.
    """
    sizes = [storage.size_bytes for storage in graph.storages]
    page_in = tuple(
        device.page_in_latency_seconds + size / device.page_in_bytes_per_second if size else 0.0
        for size in sizes
    )
    page_out = tuple(
        device.page_out_latency_seconds + size / device.page_out_bytes_per_second if size else 0.0
        for size in sizes
    )
    return Costs(
        op_seconds=tuple(_op_seconds(op, device) for op in graph.ops),
        op_joules=tuple(op.flops / device.flops_per_joule for op in graph.ops),
        page_in_seconds=page_in,
        page_in_joules=tuple(seconds * device.flash_watts for seconds in page_in),
        page_out_seconds=page_out,
        page_out_joules=tuple(seconds * device.flash_watts for seconds in page_out),
        idle_watts=device.idle_watts,
    )


def _op_seconds(op: Op, device: DeviceProfile) -> float:
    if device.measured and op.seconds is not None:
        return op.seconds
    compute = op.flops / device.flops_per_second
    if device.memory_bytes_per_second is None:
        return compute
    return max(compute, op.bytes_moved / device.memory_bytes_per_second)
