"""POET's experiments, rerun: VGG-16, ResNet-18 and BERT on devices from 32 KB to 8 GB.

    python -m benchmarks.poet_experiments [--jobs 2] [--only TEXT] [--small] [--restart]
    python -m benchmarks.poet_experiments --list         what there is, and what is done
    python -m benchmarks.poet_experiments --plot-only    tables and plots again from stored results

Networks are traced once, into build/benchmarks/poet-experiments/graphs; then every method plans every
series (network, scope, device) at every budget, and each answer is judged and kept, a line each, in
build/benchmarks/poet-experiments/lines.jsonl. A run that was interrupted or killed continues there;
methods whose sources changed are asked again, and the others are not. Where another method is cheaper
than ours, ours is asked again with 4, 12 and 36 times the seconds. At the end results and tables
are written to benchmarks/results/poet-experiments.*; with --only and --small, beside the lines.
Exit status: 1 where a plan was refused, ours was beaten or something is not done; 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.planner_store import machine
from benchmarks.poet_experiments_grid import is_other
from benchmarks.poet_experiments_networks import GRAPHS, is_traced
from benchmarks.poet_experiments_ours import OURS
from benchmarks.poet_experiments_points import Facts, Result
from benchmarks.poet_experiments_pool import METHODS, do_all
from benchmarks.poet_experiments_report import faults, write_report
from benchmarks.poet_experiments_store import Store, read_results, write_results
from benchmarks.poet_experiments_units import (
    FACTS,
    TRACE,
    Unit,
    all_series,
    missing,
    small_series,
    traces,
    units_of,
    version_of,
)

RESULTS = Path(__file__).resolve().parent / "results"
FOLDER = GRAPHS.parent

_CORES = 2
_USUAL_SECONDS = 3.0
# Where another method is cheaper, ours is asked again with so many times the seconds.
_AGAIN = (4.0, 12.0, 36.0)


def main(arguments: list[str] | None = None) -> int:
    """Measure what is not measured yet; write results and tables."""
    options = _options(arguments)
    name = "poet-experiments" + ("-small" if options.small else "-only" if options.only else "")
    if options.plot_only:
        return _draw(options.results, name)
    store = Store(options.lines, resume=not options.restart)
    run = _Run(options, store)
    if options.list:
        run.show()
        return 0
    try:
        run.measure()
    except KeyboardInterrupt:
        print("Interrupted; the same command continues.", file=sys.stderr)
        return 130
    left = run.left()
    write_results(options.results / f"{name}.json", run.about(left), run.facts(), run.results())
    print(f"{len(run.results())} results; {len(left)} units not done", file=sys.stderr)
    return max(_draw(options.results, name), int(bool(left)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.poet_experiments",
        description=(__doc__ or "").partition("\n")[0],
    )
    parser.add_argument("--only", default="", help="units whose title (see --list) contains this")
    parser.add_argument("--small", action="store_true", help="one small network: minutes")
    parser.add_argument("--jobs", type=int, default=2, help="units at a time")
    parser.add_argument(
        "--seconds", type=float, default=_USUAL_SECONDS,
        help="the planner's at a point of a large graph; elsewhere in proportion",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, default=1e9, help="begin nothing after this long")
    parser.add_argument("--resume", action="store_true", help="what happens anyway")
    parser.add_argument("--restart", action="store_true", help="forget what is done")
    parser.add_argument("--list", action="store_true", help="say what there is and what is done")
    parser.add_argument("--plot-only", action="store_true", help="draw from stored results")
    parser.add_argument("--results", type=Path, help="the folder for results")
    parser.add_argument("--lines", type=Path, default=FOLDER / "lines.jsonl", help="what is done")
    options = parser.parse_args(arguments)
    if options.jobs < 1 or not options.seconds > 0:
        parser.error("expected --jobs of at least 1 and --seconds above 0")
    options.results = options.results or (FOLDER if options.small or options.only else RESULTS)
    return options


def _draw(folder: Path, name: str) -> int:
    about, facts, results = read_results(folder / f"{name}.json")
    print(write_report(folder, name, about, facts, results))
    return int(bool(faults(facts, results)))


class _Run:
    """The units that are asked for, and what is done of them."""

    def __init__(self, options: argparse.Namespace, store: Store) -> None:
        self._options, self._store = options, store
        series = small_series() if options.small else all_series()
        self._skipped = [why for one in series if (why := missing(one)) is not None]
        here = [one for one in series if missing(one) is None]
        self._units = [
            unit
            for unit in units_of(here, METHODS)
            if options.only in unit.title or unit.work == FACTS
        ]
        asked = dict.fromkeys(unit.series for unit in self._units if unit.work != FACTS)
        self._units = [unit for unit in self._units if unit.series in asked]
        self._traces = traces(asked)
        # Of now: sources that change during the run are another run's.
        self._versions = {unit: self._version_now(unit) for unit in self._units}

    def measure(self) -> None:
        """Traces, then the rest; each unit is kept as it ends."""
        _stay_on_cores()
        for why in self._skipped:
            print(f"skipped: {why}", file=sys.stderr)
        ends = time.monotonic() + 60 * self._options.minutes
        for units in (self._undone(self._traces), self._undone(self._units)):
            do_all(
                units,
                jobs=self._options.jobs,
                share=self._share(),
                ends=ends,
                done=self._keep,
            )
        for times in _AGAIN:
            do_all(
                self._beaten(),
                jobs=self._options.jobs,
                share=times * self._share(),
                ends=ends,
                done=self._keep,
            )

    def _share(self) -> float:
        return float(self._options.seconds / _USUAL_SECONDS)

    def _beaten(self) -> list[Unit]:
        """Ours where another method is cheaper than it somewhere. It begins anew, and never from the
        other's plan; what it was given stands beside each result."""
        wrong = faults(self.facts(), self.results())
        series = {fault.series for fault in wrong if is_other(fault.method)}
        return [one for one in self._units if one.work == OURS and one.series in series]

    def left(self) -> list[Unit]:
        """What is not done."""
        return [*self._undone(self._traces), *self._undone(self._units)]

    def facts(self) -> list[Facts]:
        """Of every series that has them."""
        return [one for one in self._found() if isinstance(one, Facts)]

    def results(self) -> list[Result]:
        """Of every unit that is done."""
        return [one for one in self._found() if isinstance(one, Result)]

    def about(self, left: list[Unit]) -> dict[str, Any]:
        """What the results rest on."""
        seconds: dict[str, float] = {}
        for unit in self._units:
            took = self._store.job_seconds(unit, self._version(unit))
            seconds[unit.work] = round(seconds.get(unit.work, 0.0) + took, 1)
        return {
            "machine": machine(),
            "jobs": self._options.jobs,
            "seconds": self._options.seconds,
            "job_seconds": seconds,
            "versions": {unit.work: self._version(unit) for unit in self._units},
            "skipped": self._skipped,
            "not_done": [unit.title for unit in left],
        }

    def show(self) -> None:
        """What there is, a line each."""
        for unit in (*self._traces, *self._units):
            print("done " if self._is_done(unit) else "     ", unit.title)
        for why in self._skipped:
            print("skip ", why)

    def _undone(self, units: list[Unit] | tuple[Unit, ...]) -> Iterator[Unit]:
        return (unit for unit in units if not self._is_done(unit))

    def _is_done(self, unit: Unit) -> bool:
        if unit.work == TRACE:
            return is_traced(unit.series.network, unit.series.scope, split=unit.split)
        return self._store.is_done(unit, self._version(unit))

    def _version(self, unit: Unit) -> str:
        return self._versions[unit]

    def _version_now(self, unit: Unit) -> str:
        version = version_of(unit, METHODS)
        return version if unit.work == FACTS else f"{version}, {self._options.seconds:g} s"

    def _keep(self, unit: Unit, found: list[Result | Facts], job_seconds: float) -> None:
        if unit.work != TRACE:
            self._store.add(unit, self._version(unit), found, round(job_seconds, 3))
        planned = sum(isinstance(one, Result) and one.energy_joules is not None for one in found)
        told = f", {planned} of {len(found)} planned" if unit.work not in (TRACE, FACTS) else ""
        print(f"{unit.title}: {job_seconds:.1f} s{told}", file=sys.stderr, flush=True)

    def _found(self) -> Iterator[Result | Facts]:
        for unit in self._units:
            yield from self._store.found(unit, self._version(unit))


def _stay_on_cores() -> None:
    """Two cores of a larger machine; what is started from here stays on them too."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:_CORES])


if __name__ == "__main__":
    sys.exit(main())
