"""The service under load: `poet serve` as a user starts it, and many clients on the same machine.

    python -m benchmarks.service [--part NAME ...] [--short] [--write] [--plot-only]

cached    stored answers, asked for at 300 requests a second whatever the service does, and as fast
          as it answers
burst     1,000 different small problems posted at once
big       graphs of BERT-base's size and of a megabyte: validated, and accepted
streams   100 readers of one solve's events, and one who takes nothing

Every part has a service of its own with a new state folder, default settings but for what the part
says. `--short`: a check of this program, not a measurement. `--write` puts each part into
results/service.json as soon as it is measured, and the table into service.md and docs/operations.md.
Exit status 1 where something asked was missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable

from benchmarks.service_big import big
from benchmarks.service_burst import burst
from benchmarks.service_cached import cached
from benchmarks.service_figures import Figure, Part, machine, missed, store, stored, table
from benchmarks.service_streams import streams

PARTS: dict[str, tuple[str, Callable[[], list[Figure]], Callable[[], list[Figure]]]] = {
    "cached": ("Stored answers", lambda: cached(20), lambda: cached(1, problems=2)),
    "burst": ("1,000 different problems at once", lambda: burst(1000), lambda: burst(5)),
    "big": ("Large graphs", lambda: big(20), lambda: big(1, layers=2)),
    "streams": ("Event streams", lambda: streams(100, 15), lambda: streams(4, 6)),
}
"""Title, the measurement, and the short form of it."""


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and say by the exit status whether something was missed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.service", description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; repeat")
    parser.add_argument("--short", action="store_true", help="little of everything")
    parser.add_argument("--write", action="store_true", help="keep the results")
    parser.add_argument("--plot-only", action="store_true", help="print what is kept")
    given = parser.parse_args(arguments)
    if given.short and given.write:
        parser.error("what --short measures is not kept")
    if given.plot_only:
        print(table(*stored()))
        return 0
    parts: list[Part] = []
    for name in given.part or PARTS:
        title, measure, short = PARTS[name]
        before = os.getloadavg()[0]
        figures = tuple(short() if given.short else measure())
        parts.append(Part(title=title, figures=figures, loads=(before, os.getloadavg()[0])))
        print(table(parts[-1:], machine()), flush=True)
        if given.write:
            store(name, parts[-1], list(PARTS))
    for complaint in missed(parts):
        print(complaint)
    return 1 if missed(parts) else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # the service is ended on the way out
    sys.exit(main())
