"""`make bench`: the measurements behind the claims; each writes its result file.

    python -m benchmarks                 the short ones, one after the other
    python -m benchmarks --long          all of them: hours, on a machine that does nothing else
    python -m benchmarks NAME ...        these
    python -m benchmarks --list          names, minutes, and what each shows

Of the planner's benchmark the short form is the planner's quick one; alone it takes half an hour.
Exit status: the worst of theirs.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A module with a `main`. `minutes`: about, on two cores; `long`: not part of `make bench`."""

    module: str
    shows: str
    minutes: float
    arguments: tuple[str, ...] | None = ("--write",)
    long: bool = False


BENCHMARKS = {
    "demo": Benchmark(
        module="demo", minutes=3, arguments=None, shows="the README's demo, with Adam and with SGD"
    ),
    "published-optima": Benchmark(
        module="published_optima", minutes=2, shows="POET's model against published optima"
    ),
    "addresses": Benchmark(module="addresses", minutes=3, shows="static addresses of plans"),
    "depth": Benchmark(module="depth", minutes=2, shows="planning time against depth"),
    "overhead": Benchmark(
        module="overhead", minutes=5, shows="the step without a budget against eager PyTorch"
    ),
    "service": Benchmark(
        module="service", minutes=5, shows="the service: stored answers, a burst, large graphs, streams"
    ),
    "service-chaos": Benchmark(
        module="service_chaos", minutes=20, long=True,
        shows="the service while everything is killed, and under requests that nobody thought of",
    ),
    "check": Benchmark(
        module="check", minutes=6, shows="poet check of ten models on five devices, cold and warm"
    ),
    "planner-quick": Benchmark(
        module="planner", minutes=4, arguments=("--quick",), shows="the planner, one seed"
    ),
    "planner": Benchmark(
        module="planner", minutes=30, arguments=(), long=True, shows="the planner, five seeds"
    ),
    "caps": Benchmark(
        module="caps", minutes=30, long=True, shows="whole steps under caps that the kernel enforces"
    ),
    "replay": Benchmark(
        module="replay", minutes=45, arguments=(), long=True,
        shows="other ways to save memory, and ours at their peaks",
    ),
    "poet-experiments": Benchmark(
        module="poet_experiments", minutes=45, arguments=(), long=True,
        shows="POET's experiments, rerun: networks, devices, budgets, methods",
    ),
    "projection": Benchmark(
        module="projection", minutes=110, arguments=("--jobs", "2", "--threads", "1"), long=True,
        shows="ProjectionNet's and mentor-mentee's tables",
    ),
}  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run what is asked for."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--long", action="store_true", help="the long ones too")
    parser.add_argument("--list", action="store_true", help="say what there is")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    chosen = options.names or [
        name for name, known in BENCHMARKS.items() if options.long or not known.long
    ]
    if options.list:
        for name, known in BENCHMARKS.items():
            when = "long" if known.long else "    "
            print(f"{name:18}{known.minutes:4.0f} min  {when}  {known.shows}")
        return 0
    return max(_run(name, BENCHMARKS[name]) for name in chosen)


def _run(name: str, known: Benchmark) -> int:
    print(f"== {name}: {known.shows}; about {known.minutes:g} minutes ==", flush=True)
    began = time.monotonic()
    run = importlib.import_module(f"benchmarks.{known.module}").main
    status = int(run() if known.arguments is None else run(list(known.arguments)))
    print(f"== {name}: {(time.monotonic() - began) / 60:.1f} min, status {status} ==\n", flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
