"""Judges that are wrong in one place each: what a comparison is worth is what it catches.

Each entry replaces one piece of text in the judge's source. The mutant test runs every one of them
against the interpreter and demands a disagreement.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

from poet_core import flash_account, simulate

BREAKS: dict[str, tuple[str, str]] = {
    "any version will do": ("if found != version:", "if False:"),
    "free does not wait": (
        "pending = max(self._arrival.get(storage, 0.0), self._departure.get(storage, 0.0))",
        "pending = 0.0",
    ),
    "free waits for page_ins only": (
        "pending = max(self._arrival.get(storage, 0.0), self._departure.get(storage, 0.0))",
        "pending = self._arrival.get(storage, 0.0)",
    ),
    "a second copy is not counted": (
        "in_use += sum(self._bytes[storage] for storage in op.writes)",
        "in_use += sum(self._bytes[s] for s in op.writes if s not in self._ram)",
    ),
    "unwanted outputs are not counted": (
        "for storage in op.writes if storage not in self._ram)",
        "for storage in ())",
    ),
    "workspace is not counted": (
        "in_use = self._used + self._budget.rounded(op.workspace_bytes)",
        "in_use = self._used",
    ),
    "workspace is not rounded": (
        "self._budget.rounded(op.workspace_bytes)",
        "op.workspace_bytes",
    ),
    "reserved bytes are not counted": ("self._used = budget.reserved_bytes + ", "self._used = "),
    "storages are not rounded": (
        "[budget.rounded(storage.size_bytes) for",
        "[storage.size_bytes for",
    ),
    "generator state is free": ("self._used += self._rng_bytes", "self._used += 0"),
    "generator state is never let go": ("self._used -= self._rng_bytes", "self._used -= 0"),
    "generator state is let go before the last run": (
        "if replays and self._runs_done[op.id] == self._runs_planned[op.id]:",
        "if replays and self._runs_done[op.id] == self._runs_planned[op.id] - 1:",
    ),
    "generator order is free": ("if op.id < self._newest_random:", "if False:"),
    "a page_in is counted later": (
        "self._used += self._bytes[storage]\n        self._transfer",
        "self._used += 0\n        self._transfer",
    ),
    "a free returns nothing": ("self._used -= self._bytes[storage]", "self._used -= 0"),
    "budget may not be filled": (
        "if in_use > self._budget.ram_bytes:",
        "if in_use >= self._budget.ram_bytes:",
    ),
    "peak misses the start": (
        "self._initial = self._peak = self._used",
        "self._initial = self._used; self._peak = 0",
    ),
    "compute waits for nothing": ("max(waits, default=0.0)", "0.0"),
    "compute does not wait for what it overwrites to arrive": (
        "for storage in op.touches]",
        "for storage in op.reads + op.mutates]",
    ),
    "compute overwrites what is on its way out": (
        "self._departure.get(storage, 0.0) for storage in op.writes + op.mutates]",
        "0.0 for storage in op.writes + op.mutates]",
    ),
    "mutates do not wait": (
        "self._departure.get(storage, 0.0) for storage in op.writes + op.mutates]",
        "self._departure.get(storage, 0.0) for storage in op.writes]",
    ),
    "transfers always overlap": ("if not self._budget.overlap:", "if False:"),
    "transfers never overlap": ("if not self._budget.overlap:", "if True:"),
    "the lane runs ahead of the program": (
        "self._lane_clock = max(self._program_clock, self._lane_clock) + seconds",
        "self._lane_clock = self._lane_clock + seconds",
    ),
    "transfers may end after the step": (
        "seconds = max(self._program_clock, self._lane_clock)",
        "seconds = self._program_clock",
    ),
    "idle power is free": ("self._costs.idle_watts * seconds", "0.0 * seconds"),
    "page_in is free": ("self._joules += self._costs.page_in_joules[storage]", "pass"),
    "ops may run again at will": ("if again and not op.recomputable:", "if False:"),
    "ops need not run": ("if not self._runs_done[op.id]:", "if False:"),
    "page_out of the same version": ("if self._flash.get(storage) == version:", "if False:"),
    "page_in over a resident storage": ("if storage in self._ram:", "if False:"),
    "old results": ("if self._ram[storage] != graph.versions.last[storage]:", "if False:"),
    "results may be missing": (
        "if item.result and item.size_bytes}",
        "if item.result and item.size_bytes and item.id in self._ram}",
    ),
    "storages may be left behind": ("if graph.storages[storage].size_bytes:\n", "if False:\n"),
    "stale flash at the end": ("if self._flash[storage] != last[storage]:", "if False:"),
    "start sets may forget a storage": (
        "elif item.id not in self._ram and item.id not in self._flash:",
        "elif False:",
    ),
    "start sets may name activations": (
        "if not known or not graph.storages[storage].persistent:",
        "if not known:",
    ),
    "start sets may repeat": ("if len(set(names)) != len(names):", "if False:"),
    "flash copies die at once": ("copies[storage][-1][1] = position", "pass"),
    "flash capacity is unlimited": ("if limit is not None and alive > limit:", "if False:"),
    "flash does not wear": ("if cap is not None and written > cap:", "if False:"),
    "persistent copies in flash are free": ("always = sum(", "always = 0 * sum("),
    "time has no limit": (
        "if budget.step_seconds is not None and seconds > budget.step_seconds:",
        "if False:",
    ),
    "energy has no limit": (
        "if budget.energy_joules is not None and joules > budget.energy_joules:",
        "if False:",
    ),
    "paging is always allowed": (
        "elif instruction.do is not Do.FREE and not allowed.page:",
        "elif False:",
    ),
    "rematerialization is always allowed": (
        "if op_id in seen and not allowed.rematerialize:",
        "if False:",
    ),
    "reordering is always allowed": (
        "if op_id not in seen and op_id < newest and not allowed.reorder:",
        "if False:",
    ),
}  # fmt: skip


def broken_judge(name: str) -> ModuleType:
    """The judge as a module of its own, with the named piece broken."""
    before, after = BREAKS[name]
    sources = {
        part: Path(str(part.__file__)).read_text("utf-8") for part in (simulate, flash_account)
    }
    found = sum(source.count(before) for source in sources.values())
    assert found == 1, f"{name}: {before!r} occurs {found} times in the judge; adapt this list"
    judge = module_of(sources[simulate].replace(before, after))
    account = module_of(sources[flash_account].replace(before, after))
    judge.__dict__["FlashAccount"] = account.__dict__["FlashAccount"]
    return judge


def module_of(source: str) -> ModuleType:
    """A judge's source as a module; dataclasses look themselves up in sys.modules."""
    module = ModuleType("broken_judge")
    sys.modules[module.__name__] = module
    try:
        exec(compile(source, "broken_judge.py", "exec"), module.__dict__)
    finally:
        del sys.modules[module.__name__]
    return module
