"""Jobs of a service as lines, tables and JSON. Everything shown is the server's word, made harmless."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import click

from poet_cli.output import print_table, safe
from poet_core.units import format_bytes

if TYPE_CHECKING:
    from poet_client import FrontierView, JobEvent, JobPage, JobView

_FIGURES = ("cost", "bound", "gap", "elapsed_seconds")


def page_document(page: JobPage) -> dict[str, Any]:
    """A page of the list as a JSON value."""
    return {"jobs": [view_document(view) for view in page.jobs], "next": page.following}


def view_document(view: JobView | FrontierView) -> dict[str, Any]:
    """A job as a JSON value, without its plans."""
    from poet_client import FrontierView

    if isinstance(view, FrontierView):
        points = [
            {
                "ram_bytes": point.ram_bytes,
                "state": str(point.state),
                "error": None if point.error is None else point.error.to_document(),
            }
            for point in view.points
        ]
        return view_document(view.job) | {"points": points}
    names = ("attempt", "created_at", "started_at", "finished_at", *_FIGURES)
    return (
        {"id": view.job_id, "kind": view.kind, "state": str(view.state)}
        | {name: getattr(view, name) for name in names}
        | {
            "has_plan": view.plan_document is not None,
            "error": None if view.error is None else view.error.to_document(),
        }
    )


def print_page(page: JobPage) -> None:
    """A table, and where to go on."""
    rows = [
        (
            view.job_id,
            view.kind,
            str(view.state),
            _when(view.created_at),
            *(_number(getattr(view, name), name) for name in _FIGURES),
        )
        for view in page.jobs
    ]
    columns = ("id", "kind", "state", "asked", "cost", "bound", "gap", "took")
    print_table(columns, rows, right=("cost", "bound", "gap", "took"))
    if page.following is not None:
        click.echo(f"older ones: --before {safe(page.following, 200)}")


def print_view(view: JobView | FrontierView) -> None:
    """A job, a figure a line."""
    from poet_client import FrontierView

    if isinstance(view, FrontierView):
        print_view(view.job)
        for point in view.points:
            click.echo(f"  {format_bytes(point.ram_bytes):>12}  {point.state}")
        return
    click.echo(f"{view.job_id}  {view.state}: {view.state.sentence}")
    rows = [("asked", _when(view.created_at)), ("begun", _when(view.started_at)),
            ("ended", _when(view.finished_at))]  # fmt: skip
    rows += [(name, _number(getattr(view, name), name)) for name in _FIGURES]
    for name, text in rows:
        if text:
            click.echo(f"  {name.removesuffix('_seconds'):8} {text}")
    if view.error is not None:
        click.echo(f"  error    {safe(view.error.message, 600)} [{safe(view.error.code, 60)}]")


def event_line(event: JobEvent) -> str:
    """An event on one line: when (the server's clock), what, and its figures."""
    at = event.data.get("at")
    when = _when(float(at)) if isinstance(at, int | float) else ""
    parts = [*filter(None, [when]), safe(event.kind, 20)]
    for name, value in sorted(event.data.items())[:32]:
        if name in ("at", "seq") or isinstance(value, bool):
            continue
        if isinstance(value, str | int | float):
            shown = _number(value, name) if isinstance(value, float) else safe(value, 200)
            parts.append(f"{safe(name.removesuffix('_seconds'), 30)}={shown}")
    return "  ".join(parts)


def _number(value: float | None, name: str) -> str:
    if value is None:
        return ""
    if name == "gap":
        return f"{value:.2%}"
    return f"{value:.1f} s" if name == "elapsed_seconds" else f"{value:.6g}"


def _when(at: float | None) -> str:
    """A time of the server's clock, in UTC."""
    if at is None:
        return ""
    try:
        when = dt.datetime.fromtimestamp(at, tz=dt.UTC)
    except (ValueError, OverflowError, OSError):
        return "?"
    return when.strftime("%Y-%m-%d %H:%M:%S UTC")
