"""The demo's figures and the README's picture: `python -m benchmarks.demo`.

Runs `examples.demo` on MNIST (POET_DATA), with Adam and with SGD, and writes
`benchmarks/results/demo-*.json` and `docs/demo.svg`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks.picture import Line, Series, memory_picture
from examples.demo import main as run_demo

_ROOT = Path(__file__).resolve().parent
_RESULTS = _ROOT / "results"
_PICTURE = _ROOT.parent / "docs" / "demo.svg"


def main() -> int:
    """Run both optimizers; non-zero when a claim of the demo does not hold."""
    worst = 0
    for optimizer in ("adam", "sgd"):
        path = _RESULTS / f"demo-{optimizer}.json"
        _RESULTS.mkdir(exist_ok=True)
        worst = max(worst, run_demo(["--optimizer", optimizer, "--json", str(path)]))
    draw()
    return worst


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
