"""The answer of `poet max-batch` as lines and as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from poet_cli.output import print_table, safe
from poet_core.units import format_bytes

if TYPE_CHECKING:
    from poet_cli.check.report import Row
    from poet_cli.max_batch import BatchAnswer

ASSUMED = "Assumed: a larger batch needs no less RAM, time and energy."


def answer_document(answer: BatchAnswer) -> dict[str, Any]:
    """As a JSON value."""
    now = answer.brackets
    return {
        "ok": now.fits > 0,
        "step": answer.query.step,
        "device": answer.query.device.name,
        "ram_bytes": answer.query.ram_bytes,
        "largest_known_to_fit": now.fits or None,
        "smallest_proven_too_large": now.too_large,
        "undecided_between": now.between,
        "most_tried": answer.query.most,
        "assumed": ASSUMED,
        "cancelled": answer.cancelled,
        "wall_seconds": answer.took_seconds,
        "tries": [_row_document(size, row) for size, row in sorted(answer.rows.items())],
    }


def _row_document(size: int, row: Row) -> dict[str, Any]:
    return {
        "batch_size": size,
        "verdict": str(row.verdict),
        "reason": row.reason,
        "code": row.code,
        "hint": row.hint,
        "floor_bytes": row.floor_bytes,
        "floor_set_by": row.floor_set_by,
        "keep_everything_bytes": row.keep_everything_bytes,
        "peak_bytes": row.peak_bytes,
        "step_seconds": row.seconds,
        "keep_everything_seconds": row.base_seconds,
        "energy_joules": row.joules,
        "keep_everything_joules": row.base_joules,
        "gap": row.gap,
    }


def print_answer(answer: BatchAnswer) -> None:
    """A line for each size that was tried, and what they say together."""
    columns = ("batch", "RAM floor", "all kept", "peak", "time", "energy", "verdict")
    rows = [_cells(size, row) for size, row in sorted(answer.rows.items())]
    print_table(columns, rows, right=columns[:-1])
    click.echo()
    for line in sentences(answer):
        click.echo(line)


def _cells(size: int, row: Row) -> tuple[str, ...]:
    verdict = str(row.verdict)
    return (
        str(size),
        _size(row.floor_bytes),
        _size(row.keep_everything_bytes),
        _size(row.peak_bytes),
        _over(row.seconds, row.base_seconds),
        _over(row.joules, row.base_joules),
        verdict if not row.code else f"{verdict} ({row.code})",
    )


def sentences(answer: BatchAnswer) -> list[str]:
    """The answer in words that are safe to show."""
    now, query = answer.brackets, answer.query
    budget = f"{format_bytes(query.ram_bytes)} ({query.ram_bytes} bytes)"
    where = f"{safe(query.device.name, 40)} within {budget}"
    if now.fits:
        row = answer.rows[now.fits]
        lines = [f"largest batch known to fit {where}: {now.fits}, peak {_exact(row.peak_bytes)}"]
    else:
        lines = [f"no batch is known to fit {where}"]
    if now.too_large is not None:
        reason = safe(answer.rows[now.too_large].reason, 400)
        lines.append(f"smallest proven not to: {now.too_large}. {reason}")
    elif now.fits == query.most:
        lines.append(f"Larger ones were not tried: --limit {2 * query.most} tries more.")
    if now.undecided and not answer.cancelled:
        reason = safe(answer.rows[now.undecided[0]].reason, 300)
        lines.append(f"undecided from {now.undecided[0]} on: {reason}")
        lines.append(f"More time may decide it: --seconds {3 * query.planner_seconds:g}")
    lines.append(ASSUMED)
    return lines


def _size(size_bytes: int | None) -> str:
    return "" if size_bytes is None else format_bytes(size_bytes)


def _exact(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{format_bytes(size_bytes)} ({size_bytes} bytes)"


def _over(value: float | None, base: float | None) -> str:
    return "" if value is None or not base else f"{100 * (value / base - 1):+.3g}%"
