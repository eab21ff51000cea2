"""Rows of `benchmarks.caps`: kept, judged, and as a table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.caps_cases import CASES

RESULTS = Path(__file__).resolve().parent / "results"
_MIB = 2**20
_OFF_BYTES = _MIB
# The group's peak against the plan and what the worker takes beside it.
_MEMORY_SHARE = 0.02
_TIME_SHARE = 0.10


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One worker of a case; without a cap it is the one that the others are compared with.
    Measured figures are None where it was killed."""

    case: str
    cap_bytes: int | None
    budget_bytes: int | None
    planned_bytes: int
    predicted_seconds: float
    flash_bytes_written: int
    recomputed_ops: int
    killed: bool
    arena_bytes: int | None
    resident_bytes: int | None
    group_bytes: int | None
    excess_at: str
    seconds: float | None
    ratio: float | None
    hidden: float | None
    bits: str
    same_as_eager: bool
    eager_bytes: int
    eager_seconds: float
    eager_killed: bool | None
    target: float | None
    disk_bytes_per_second: int | None
    load_average: float


def store_rows(case: str, rows: Sequence[Row]) -> None:
    """Puts a case's rows in the place of its earlier ones, and writes the table."""
    path = RESULTS / "caps.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    kept[case] = [asdict(row) for row in rows]
    path.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    (RESULTS / "caps.md").write_text(table(load_rows()), encoding="utf-8")


def load_rows() -> list[Row]:
    """What is kept, in the order of the cases."""
    path = RESULTS / "caps.json"
    kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return [Row(**row) for case in CASES for row in kept.get(case, ())]


def missed(rows: Sequence[Row]) -> list[str]:
    """A sentence for everything that is not as it should be."""
    return [
        f"{CASES[row.case].title}, {_cap(row)}: {complaint}"
        for row in rows
        for complaint in _complaints(row, rows)
    ]


def _complaints(row: Row, rows: Sequence[Row]) -> list[str]:
    if row.killed:
        return ["killed by the kernel at its cap"]
    found: list[str] = []
    ref = next(other for other in rows if other.case == row.case and other.cap_bytes is None)
    if row.bits != ref.bits:
        found.append("other bits than without a cap")
    if not row.same_as_eager:
        found.append("other bits than eager PyTorch's")
    if row.arena_bytes is not None and row.arena_bytes - row.planned_bytes > _OFF_BYTES:
        found.append(f"{_mib(row.arena_bytes - row.planned_bytes, 2)} MiB over its plan")
    if row.ratio is not None and row.target is not None and row.ratio > row.target:
        found.append(f"{row.ratio:.2f} of the time without a cap, {row.target:.2f} was asked")
    if row.seconds is not None and row.cap_bytes is not None:
        off = row.predicted_seconds / row.seconds - 1
        if abs(off) > _TIME_SHARE:
            found.append(f"predicted time off by {off:+.0%}")
    hidden = _hidden_asked(row)
    if row.hidden is not None and row.hidden < hidden:
        found.append(f"{row.hidden:.0%} of I/O hidden, {hidden:.0%} was asked")
    if row.group_bytes is not None and row.cap_bytes is not None and row.budget_bytes is not None:
        # The cap less the budget is what the calibration says that the worker takes.
        off = row.group_bytes / (row.planned_bytes + row.cap_bytes - row.budget_bytes) - 1
        if abs(off) > _MEMORY_SHARE:
            found.append(f"the process is {off:+.1%} from its plan and what a worker takes")
    if row.eager_killed is False:
        found.append("eager PyTorch is not killed at this cap")
    return found


def _hidden_asked(row: Row) -> float:
    """Of the transfers' time, by the case; 0 where nothing is asked."""
    return max(
        (
            target.hidden
            for target in CASES[row.case].targets
            if row.cap_bytes is not None
            and target.cap_bytes(row.eager_bytes) == row.cap_bytes
            and target.disk_bytes_per_second == row.disk_bytes_per_second
        ),
        default=0.0,
    )


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown."""
    heads = (
        "step", "cap", "planned", "over plan", "whole process", "s", "ratio", "asked",
        "predicted s", "I/O hidden", "flash GB", "run again", "bits", "eager",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        over = None if row.arena_bytes is None else row.arena_bytes - row.planned_bytes
        bits = "as eager" if row.same_as_eager else ("as ref" if _as_ref(row, rows) else "OTHER")
        eager = f"{_mib(row.eager_bytes)} MiB, {row.eager_seconds:.2f} s"
        if row.eager_killed is not None:
            eager = "killed" if row.eager_killed else "passes"
        hidden = "" if row.hidden is None else f"{row.hidden:.0%}"
        cells = (
            CASES[row.case].title,
            _cap(row),
            _mib(row.planned_bytes),
            _mib(over, 2),
            "killed" if row.killed else _mib(row.group_bytes),
            _number(row.seconds),
            _number(row.ratio),
            _number(row.target),
            _number(row.predicted_seconds),
            hidden,
            f"{row.flash_bytes_written / 1e9:.2f}",
            str(row.recomputed_ops),
            "" if row.killed else bits,
            eager,
        )
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *(f"Missed: {complaint}." for complaint in missed(rows) or ["nothing"])]
    return "\n".join(lines) + "\n"


def short_table(rows: Sequence[Row]) -> str:
    """What README shows of it."""
    heads = (
        "step", "eager PyTorch", "cap, MiB", "eager there", "plan, MiB", "process, MiB",
        "time / no cap", "bits",
    )  # fmt: skip
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in rows:
        if row.cap_bytes is None:
            continue
        cells = (
            CASES[row.case].title,
            f"{_mib(row.eager_bytes)} MiB, {row.eager_seconds:.1f} s",
            _cap(row),
            "killed" if row.eager_killed else "passes",
            _mib(row.planned_bytes),
            "killed" if row.killed else _mib(row.group_bytes),
            _number(row.ratio),
            "eager's" if row.same_as_eager else ("ref's" if _as_ref(row, rows) else "OTHER"),
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _as_ref(row: Row, rows: Sequence[Row]) -> bool:
    refs = {other.bits for other in rows if other.case == row.case and other.cap_bytes is None}
    return row.bits in refs


def _cap(row: Row) -> str:
    if row.cap_bytes is None:
        return "none"
    slow = row.disk_bytes_per_second
    return f"{row.cap_bytes / _MIB:.0f}" + (f", disk at {slow / 1e6:.0f} MB/s" if slow else "")


def _mib(size_bytes: int | None, digits: int = 0) -> str:
    return "" if size_bytes is None else f"{size_bytes / _MIB:.{digits}f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"
