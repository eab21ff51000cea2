"""The service's long runs: everything is killed, and asked what nobody would ask.

    python -m benchmarks.service_chaos [--part NAME ...] [--short] [--write] [--plot-only]

embedded     SQLite and solves as processes of `poet serve`'s executor: 200 kills, children that
             answer, crash, litter and hang
planner      the same with the planner itself: 50 kills
distributed  PostgreSQL, three workers, two API processes: 200 kills, half of them by hand at random
             moments and half right before or after a write
fuzz         Schemathesis over all of /openapi.json, all its checks, following links; three runs

These are tests (tests/service/*/chaos*.py, fuzz/attack.py): what must hold afterwards is checked
there, and ends this program where it does not. `--short`: little of everything, not a measurement.
`--write` puts each part into results/service_chaos.json as soon as it has ended, and the table into
service_chaos.md and docs/operations.md. Exit status 1 where something asked was missed.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from benchmarks.service_figures import Figure, Part, machine, missed, store, stored, table
from poet_service.database.engine import open_store
from tests.service.chaos_report import ChaosReport
from tests.service.distributed.armed import API_WRITES, WORKER_WRITES
from tests.service.distributed.chaos_run import run_chaos as distributed_chaos
from tests.service.execution.chaos import WRITES
from tests.service.execution.chaos import run_chaos as embedded_chaos
from tests.service.execution.hosts import ODD_CHILD, REAL_CHILD
from tests.service.fuzz.attack import attack, attack_thrice, quick_service, tell
from tests.service.postgres import PostgresServer, find_programs

BOOK = "service_chaos"
MIB = 2**20
# What a long-lived process's memory may breathe.
MOST_GROWTH_MIB = 32.0


def main(arguments: list[str] | None = None) -> int:
    """Run, print the table, and say by the exit status whether something was missed."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{BOOK}", description=__doc__)
    parser.add_argument("--part", action="append", choices=list(PARTS), help="only this; repeat")
    parser.add_argument("--short", action="store_true", help="little of everything")
    parser.add_argument("--write", action="store_true", help="keep the results")
    parser.add_argument("--plot-only", action="store_true", help="print what is kept")
    given = parser.parse_args(arguments)
    if given.short and given.write:
        parser.error("what --short runs is not kept")
    if given.plot_only:
        print(table(*stored(BOOK)))
        return 0
    parts: list[Part] = []
    for name in given.part or PARTS:
        title, run = PARTS[name]
        before = os.getloadavg()[0]
        with tempfile.TemporaryDirectory(prefix="poet-chaos-") as folder:
            figures = tuple(run(Path(folder), given.short))
        parts.append(Part(title=title, figures=figures, loads=(before, os.getloadavg()[0])))
        print(table(parts[-1:], machine()), flush=True)
        if given.write:
            store(name, parts[-1], list(PARTS), BOOK)
    for complaint in missed(parts):
        print(complaint)
    return 1 if missed(parts) else 0


def embedded(child: str, kills: int, folder: Path) -> list[Figure]:
    """Chaos with SQLite."""
    database = open_store(f"sqlite:///{folder / 'poet.sqlite3'}")
    try:
        report = embedded_chaos(database, folder, child=child, kills=kills)
    finally:
        database.close()
    return [
        Figure(what="SIGKILLs", value=report.kills.total(), least=kills),
        _killed(report, "of the service's process", "service"),
        _killed(report, "of solves' processes", "child"),
        _killed(report, "of the process that solves are forked from", "warm process"),
        *_outcome(report, WRITES),
    ]


def distributed(kills: int, folder: Path) -> list[Figure]:
    """Chaos with PostgreSQL."""
    programs = find_programs()
    if programs is None:
        raise SystemExit(
            "PostgreSQL is not here: scripts/system_packages.sh --postgresql installs it."
        )
    server = PostgresServer(programs)
    try:
        report = distributed_chaos(server, folder, kills=kills, seed=2)
    finally:
        server.close()
    return [
        Figure(what="SIGKILLs, PostgreSQL's crashes with them", value=report.kills.total(), least=kills),
        _killed(report, "of workers", "worker"),
        _killed(report, "of processes under a worker", "child"),
        _killed(report, "of API processes", "api"),
        _killed(report, "crashes of PostgreSQL", "database"),
        *_outcome(report, {*WORKER_WRITES, *API_WRITES}),
    ]  # fmt: skip


def fuzz(folder: Path, short: bool) -> list[Figure]:
    """Schemathesis."""
    if short:
        with quick_service(folder / "state") as address:
            cases = [attack(address, folder, "--phases", "examples", "--seed", "6")]
            told = tell(address)
        return [Figure(what="cases", value=sum(cases)), Figure(what="requests", value=told.total)]
    cases, told, grown_bytes = attack_thrice(folder)
    told.check()
    failures = sum(number for (_, status), number in told.requests.items() if status >= 500)
    return [
        Figure(what="cases", value=sum(cases), least=10_000),
        Figure(what="requests that reached a route", value=told.total),
        Figure(what="addresses that answered", value=len({route for route, _ in told.requests})),
        Figure(what="answers 5xx", value=failures, most=0),
        Figure(
            what="growth of the process's memory in the last third",
            value=grown_bytes / MIB, unit="MiB", most=MOST_GROWTH_MIB,
        ),
    ]  # fmt: skip


def _killed(report: ChaosReport, words: str, what: str) -> Figure:
    return Figure(what=words, value=report.killed(what))


def _outcome(report: ChaosReport, writes: Iterable[str]) -> list[Figure]:
    ended = report.solves
    moments = {f"{when}:{write}" for when in ("before", "after") for write in writes}
    never = ", ".join(sorted(moments - set(report.moments)))
    failed = ", ".join(f"{code} {times}" for code, times in sorted(report.errors.items()))
    plans = ended["finished"]
    return [
        Figure(
            what="kills right before or after a write of a solve", value=report.moments.total()
        ),
        Figure(
            what=f"different ones of these {len(moments)} moments"
            + (f" (never {never})" if never else ""),
            value=len(report.moments),
        ),
        Figure(what="jobs that clients know of", value=report.asked),
        Figure(what="of them ended, once", value=ended.total(), most=report.asked, least=report.asked),
        Figure(what="finished", value=plans),
        Figure(what="stopped by their clients", value=ended["stopped"]),
        Figure(what=f"failed ({failed})" if failed else "failed", value=ended["failed"]),
        Figure(what="plans that the judge accepts afterwards", value=report.judged, least=plans),
        Figure(what="processes and temporary files left", value=report.left_over, most=0),
        Figure(what="seconds", value=report.seconds),
    ]  # fmt: skip


PARTS: dict[str, tuple[str, Callable[[Path, bool], list[Figure]]]] = {
    "embedded": (
        "One machine, SQLite, solves of every kind",
        lambda folder, short: embedded(ODD_CHILD, 5 if short else 200, folder),
    ),
    "planner": (
        "One machine, SQLite, the planner",
        lambda folder, short: embedded(REAL_CHILD, 5 if short else 50, folder),
    ),
    "distributed": (
        "PostgreSQL, three workers, two API processes",
        lambda folder, short: distributed(4 if short else 200, folder),
    ),
    "fuzz": ("Schemathesis over /openapi.json", fuzz),
}
"""Title, and the run in a folder of its own, long or short."""


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # everything is ended on the way out
    sys.exit(main())
