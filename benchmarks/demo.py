"""The demo's figures and the README's picture: `python -m benchmarks.demo`.

Runs `examples.demo` on MNIST (POET_DATA), with Adam and with SGD, and writes
`benchmarks/results/demo-*.json`, the table `demo.md` beside them and `docs/demo.svg`. A test holds
the README to that table.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.picture import Line, Series, memory_picture
from examples.demo import main as run_demo
from poet_core.units import format_bytes

_ROOT = Path(__file__).resolve().parent
_RESULTS = _ROOT / "results"
Report = dict[str, Any]
_OPTIMIZERS = ("adam", "sgd")
_PICTURE = _ROOT.parent / "docs" / "demo.svg"


def main() -> int:
    """Run both optimizers; non-zero when a claim of the demo does not hold."""
    worst = 0
    for optimizer in _OPTIMIZERS:
        path = _RESULTS / f"demo-{optimizer}.json"
        _RESULTS.mkdir(exist_ok=True)
        worst = max(worst, run_demo(["--optimizer", optimizer, "--json", str(path)]))
    draw()
    (_RESULTS / "demo.md").write_text(table())
    return worst


def table() -> str:
    """The stored results as a Markdown table."""
    reports = [json.loads((_RESULTS / f"demo-{name}.json").read_text()) for name in _OPTIMIZERS]
    lines = ["| | Adam | SGD |", "|---|---|---|"]
    for label, cell in _ROWS:
        lines.append(f"| {label} | {' | '.join(cell(report) for report in reports)} |")
    return "\n".join(lines) + "\n"


def _share(report: Report, key: str) -> str:
    size = report[key]
    return f"{format_bytes(size)} ({100 * size / report['keep_everything_bytes']:.1f}%)"


def _more(report: Report, planned: str, base: str) -> str:
    return f"{100 * (report[planned] / report[base] - 1):+.2f}%"


def _speed(report: Report) -> str:
    runs = report["runs"]
    times = [
        1000 * runs[mode]["seconds_per_step"] for mode in ("planned", "unconstrained", "eager")
    ]
    return " / ".join(f"{time:.1f}" for time in times) + " ms"


def _accuracy(report: Report) -> str:
    run = report["runs"]["planned"]
    return f"{100 * run['trainer_accuracy']:.2f}% / {100 * run['projection_accuracy']:.2f}%"


_ROWS: list[tuple[str, Callable[[Report], str]]] = [
    ("RAM, everything kept", lambda r: format_bytes(r["keep_everything_bytes"])),
    ("RAM budget", lambda r: _share(r, "budget_bytes")),
    ("planned peak", lambda r: _share(r, "planned_peak_bytes")),
    ("**measured peak**", lambda r: _share(r, "measured_peak_bytes")),
    ("RAM floor (no plan needs less)", lambda r: _share(r, "floor_bytes")),
    ("energy a step", lambda r: _more(r, "planned_joules", "keep_everything_joules")),
    (
        "time a step, planned for the device",
        lambda r: _more(r, "planned_seconds", "keep_everything_seconds"),
    ),
    ("time a step here: planned / unconstrained / eager", _speed),
    (
        "losses and every state tensor identical to unconstrained, to eager",
        lambda r: f"{_yes(r['identical_to_unconstrained'])}, {_yes(r['identical_to_eager'])}",
    ),
    ("planning", lambda r: f"{r['planner']['wall_seconds']:.1f} s"),
    ("accuracy after 400 steps: trainer / projection net", _accuracy),
]


def _yes(holds: bool) -> str:
    return "yes" if holds else "NO"


def draw() -> None:
    """Draw docs/demo.svg from the stored result of the Adam run."""
    report = json.loads((_RESULTS / "demo-adam.json").read_text())
    keep, planned = report["memory"]["keep_everything"], report["memory"]["planned"]
    _PICTURE.write_text(
        memory_picture(
            f"RAM of one joint training step (Adam, batch 200), {report['device']}",
            [
                Series(label="keep everything", colour="#c0504d", memory_bytes=keep),
                Series(
                    label="planned: keep, page, rematerialize",
                    colour="#1f77b4",
                    memory_bytes=planned,
                ),
            ],
            [
                Line(label="budget", colour="#222222", level_bytes=report["budget_bytes"]),
                Line(label="floor", colour="#777777", level_bytes=report["floor_bytes"]),
            ],
        )
    )


if __name__ == "__main__":
    sys.exit(main())
