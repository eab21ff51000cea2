"""Reports as checks give them, made by hand: one row of every kind, and one by a hostile model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from poet_cli.check.entries import Entry, Level, Limit, Place
from poet_cli.check.report import Held, Report, Row, Verdict

MIB = 1 << 20

HOSTILE = (
    "\x1b[31mred\x07 \u202egnp.exe | ](http://evil.example) @everyone #1 `tick` ``` <script> & "
    "%0A ::error::x\n::stop-commands::y\n##[group]z ]]> {0} \ud800 \x00 \ufffe <!-- --> www.evil.example"
)


def entry(name: str = "keyword on nrf52840", **others: object) -> Entry:
    given = {
        "name": name,
        "step": "models.keyword:step",
        "device": "nrf52840",
        "ram_bytes": 320 * MIB,
        "place": Place(file=Path("pyproject.toml"), line=12),
        **others,
    }
    return Entry(**given)  # type: ignore[arg-type]


FITTING = Row(
    entry=entry("lenet on jetson-tx2", device="jetson-tx2", batch_size=8),
    verdict=Verdict.FITS,
    reason="A plan with a peak of 300 MiB was judged to fit.",
    floor_bytes=200 * MIB,
    floor_set_by="conv1",
    keep_everything_bytes=500 * MIB,
    peak_bytes=300 * MIB,
    seconds=1.05,
    base_seconds=1.0,
    joules=2.2,
    base_joules=2.0,
    gap=0.0123,
    flash_written_bytes=12 * MIB,
    least_bytes=300 * MIB,
    at_peak=(Held(name="conv1.weight", role="parameter", size_bytes=10 * MIB),),
    took_seconds=3.25,
)
TOO_SMALL = Row(
    entry=entry("vgg on nrf52840"),
    verdict=Verdict.DOES_NOT_FIT,
    reason="No plan needs less than 334 MiB, 14.0 MiB more than the budget of 320 MiB.",
    code="ram_below_floor",
    floor_bytes=334 * MIB,
    floor_set_by="conv2.backward",
    keep_everything_bytes=900 * MIB,
    base_seconds=1.0,
    base_joules=2.0,
    least_bytes=340 * MIB,
    at_peak=tuple(
        Held(name=f"activation {index}", role="activation", size_bytes=(9 - index) * MIB)
        for index in range(8)
    ),
    advice=(
        'Set ram = "340MiB": a plan with a peak of 340 MiB is known.',
        "It fits on jetson-tx2 (8.00 GiB).",
    ),
    took_seconds=1.5,
)
TOO_SLOW = Row(
    entry=entry(
        "bert on raspberry-pi-4b",
        device="raspberry-pi-4b",
        max_time=Limit(text="1.2x", ratio=1.2),
        place=Place(file=Path("pyproject.toml"), line=20),
    ),
    verdict=Verdict.UNDECIDED,
    reason="The best plan found takes 1.5 s, and the limit on time is 1.2 s.",
    code="not_found_in_time",
    hint="Give the planner longer (seconds = 30), or more RAM.",
    floor_bytes=200 * MIB,
    floor_set_by="layer 1",
    peak_bytes=310 * MIB,
    seconds=1.5,
    base_seconds=1.0,
    joules=2.5,
    base_joules=2.0,
    gap=0.25,
)
BROKEN = Row(
    entry=entry("gpt2 on host", device="host", level=Level.WARN),
    verdict=Verdict.FAILED,
    reason="Failed while models.gpt2:step(): ValueError: no such vocabulary.",
    code="step_failed",
    hint="Set POET_DEBUG=1 to see the traceback.",
)
REPORT = Report(rows=(FITTING, BROKEN, TOO_SLOW, TOO_SMALL), took_seconds=12.5, notes=("A note.",))


def hostile_report() -> Report:
    """Every text of the report is hostile."""
    rows = []
    for number, row in enumerate((TOO_SMALL, TOO_SLOW, BROKEN, FITTING)):
        asked = replace(
            row.entry,
            name=f"{HOSTILE} {number}",
            step=HOSTILE,
            device=HOSTILE,
            place=Place(file=Path(HOSTILE.replace("\x00", "")), line=1),
            max_time=Limit(text=HOSTILE, ratio=1.2),
        )
        rows.append(
            replace(
                row,
                entry=asked,
                reason=HOSTILE,
                code=HOSTILE,
                hint=HOSTILE,
                floor_set_by=HOSTILE,
                at_peak=(Held(name=HOSTILE, role=HOSTILE, size_bytes=1),),
                advice=(HOSTILE, f'Set ram = "{HOSTILE}": x'),
            )
        )
    return Report(rows=tuple(rows), notes=(HOSTILE,))
