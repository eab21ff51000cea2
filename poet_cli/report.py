"""A plan as one HTML page: memory over program order as an SVG, the figures, what is in RAM at the
peak.

Self-contained: no script, no request to anywhere, which its Content-Security-Policy enforces.
Every text that came from a document passes `_text`.
"""

from __future__ import annotations

import html
from collections.abc import Sequence

from poet_cli.chart import downsampled
from poet_cli.residency import Resident
from poet_core.graph import TrainingGraph
from poet_core.plan import Plan
from poet_core.simulate import Judgement
from poet_core.summary import PlanSummary
from poet_core.text import printable
from poet_core.units import format_bytes, format_joules, format_seconds

_WIDTH, _HEIGHT = 960, 280
_MOST_COLUMNS = 2000
_MOST_ROWS = 200

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 1rem;color:#1b1f24;
background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;margin:1rem 0}
td,th{padding:.2rem .9rem .2rem 0;text-align:left;border-bottom:1px solid #d8dee4;
overflow-wrap:anywhere}
td.n,th.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}
svg{width:100%;height:auto}.area{fill:#4078c0}.budget{stroke:#b31d28;stroke-dasharray:6 4}
.keep{stroke:#6a737d;stroke-dasharray:2 4}text{font-size:12px;fill:currentColor}
@media(prefers-color-scheme:dark){body{background:#14171a;color:#d8dee4}
td,th{border-color:#33383e}.area{fill:#5b93dd}.budget{stroke:#ff7b72}}
"""


def html_report(
    graph: TrainingGraph,
    plan: Plan,
    judgement: Judgement,
    summary: PlanSummary,
    at_peak: Sequence[Resident],
    where: str,
) -> bytes:
    """The page, in UTF-8. `where` says at which instruction the peak is."""
    title = f"Plan of {_text(graph.name or 'a training step')} on {_text(plan.device_name)}"
    rows = "".join(_row(label, value) for label, value in _figures(plan, summary))
    residents = "".join(
        f'<tr><td class="n">{format_bytes(item.size_bytes)}</td><td>{_text(item.name)}</td>'
        f"<td>{_text(item.role)}</td><td>{'in use' if item.touched else ''}</td></tr>"
        for item in at_peak[:_MOST_ROWS]
    )
    rest = len(at_peak) - _MOST_ROWS
    more = f"<p>and {rest} more</p>" if rest > 0 else ""
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>{_STYLE}</style></head><body>
<h1>{title}</h1>
<p>{_text(summary.line(), 400)}</p>
{_picture(judgement, summary)}
<table>{rows}</table>
<h2>In RAM at the peak</h2>
<p>{format_bytes(judgement.peak_bytes)} {_text(where, 300)}</p>
<table><tr><th class="n">size</th><th>storage</th><th>role</th><th></th></tr>{residents}</table>{more}
</body></html>
"""
    return page.encode()


def _text(text: str, limit: int = 120) -> str:
    return html.escape(printable(text, limit), quote=True)


def _row(label: str, value: str) -> str:
    return f"<tr><th>{_text(label)}</th><td>{_text(value, 300)}</td></tr>"


def _figures(plan: Plan, summary: PlanSummary) -> list[tuple[str, str]]:
    seconds, joules = summary.keep_everything_seconds, summary.keep_everything_joules
    by = plan.planned_by
    return [
        ("RAM budget", format_bytes(summary.ram_bytes)),
        ("peak", format_bytes(summary.peak_bytes)),
        ("if everything is kept", format_bytes(summary.keep_everything_bytes)),
        ("floor", f"{format_bytes(summary.floor_bytes)}, set by {summary.floor_set_by}"),
        ("step", f"{format_seconds(summary.step_seconds)} (compute: {format_seconds(seconds)})"),
        ("energy", f"{format_joules(summary.energy_joules)} (compute: {format_joules(joules)})"),
        ("ops run again", str(summary.recomputed_ops)),
        ("transfers", str(summary.transfers)),
        ("flash written a step", format_bytes(summary.flash_bytes_written)),
        ("planned by", f"{by.formulation}, {by.solver}: {by.status}"),
    ]


def _picture(judgement: Judgement, summary: PlanSummary) -> str:
    columns = downsampled(judgement.memory_bytes, _MOST_COLUMNS)
    top = max(summary.ram_bytes if summary.ram_bytes <= 2 * max(columns) else 0, *columns, 1)
    if summary.keep_everything_bytes <= 3 * top:
        top = max(top, summary.keep_everything_bytes)
    step = _WIDTH / len(columns)

    def height(size_bytes: int) -> float:
        return _HEIGHT * (1 - size_bytes / top)

    points = [f"M0 {_HEIGHT}"]
    for index, value in enumerate(columns):
        points.append(f"L{index * step:.2f} {height(value):.2f}H{(index + 1) * step:.2f}")
    points.append(f"V{_HEIGHT}Z")
    lines = ""
    for name, value, label in (
        ("budget", summary.ram_bytes, "budget"),
        ("keep", summary.keep_everything_bytes, "everything kept"),
    ):
        if value <= top:
            at = height(value)
            lines += (
                f'<line class="{name}" x1="0" x2="{_WIDTH}" y1="{at:.2f}" y2="{at:.2f}"/>'
                f'<text x="4" y="{at + 14:.2f}">{label} {format_bytes(value)}</text>'
            )
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 20}" role="img" '
        f'aria-label="memory over program order"><path class="area" d="{"".join(points)}"/>{lines}'
        f'<text x="0" y="{_HEIGHT + 16}">memory in use, over the instructions of the plan</text>'
        "</svg>"
    )
