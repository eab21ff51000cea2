"""The planner against the figures to meet, published planners and what torch has:

    python -m benchmarks.planner [--seconds 10] [--seeds 5] [--only SUBSTRING] [--jobs 2] [--resume]
    python -m benchmarks.planner --quick        a few points, one seed, 3 s each: two or three minutes
    python -m benchmarks.planner --plot-only    tables and picture again from results/planner.json

Each job ends in a line of build/benchmarks/planner.jsonl (`--resume` continues there with the same
planner and limits); then results/planner.json, planner.md and planner.svg are written, by --quick and
--only beside the lines. What is timed in itself
(greedy, POET's README instance, the deep step, the frontier) runs alone. The points of the table run
`--jobs` at a time: with 2 on 2 cores each has `--seconds` of wall time and half of the machine, so less
than the two cores for that long that the figures allow. A point's further seeds do not run where none can
change its median: seed 0 is proven optimal, or three of five seeds cost the same. `--minutes` ends
the run early: what is missing is then named. Exit status 1 where a figure is not met (the figures are
for 10 s, so never with --quick).
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from benchmarks.alternatives import ALTERNATIVES
from benchmarks.instances import load_instance
from benchmarks.planner_jobs import (
    FRONTIER_INSTANCE,
    FRONTIER_POINTS,
    README_RAM_BYTES,
    SCALE_LAYERS,
    SCALE_SECONDS,
    Job,
    Record,
    run_job,
)
from benchmarks.planner_picture import picture
from benchmarks.planner_points import INSTANCES, QUICK, proof_points, table_points
from benchmarks.planner_report import Summary, markdown, summary
from benchmarks.planner_seeds import needless_seed
from benchmarks.planner_store import REPOSITORY, Store, machine, planner_version

RESULTS = Path(__file__).resolve().parent / "results"
LINES = REPOSITORY / "build" / "benchmarks"

_CORES = 2
_QUICK_SECONDS = 3.0


def main(arguments: list[str] | None = None) -> int:
    """Measure, or draw again; print the tables."""
    options = _options(arguments)
    name = "planner" + ("-quick" if options.quick else "-only" if options.only else "")
    if options.plot_only:
        found: Summary = json.loads((options.results / f"{name}.json").read_text("utf-8"))
        _write(found, options.results, name)
        return 0
    _stay_on_cores()
    key = {
        "planner": planner_version(),
        "seconds": options.seconds,
        "jobs": options.jobs,
        "backend": options.backend,
    }
    store = Store(LINES / f"{name}.jsonl", key, resume=options.resume)
    began = time.monotonic()
    _run(_alone(options), store, 1, options.minutes, began)
    _run(_side_by_side(options), store, options.jobs, options.minutes, began)
    found = summary(store.records, key, machine(), options.seeds)
    _write(found, options.results, name)
    print(markdown(found))
    missed = any(point["verdict"] == "misses" for point in found["points"])
    return int(missed and not options.quick)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, help="wall seconds a point (10; 3 with --quick)")
    parser.add_argument("--seeds", type=int, help="seeds a point (5; 1 with --quick)")
    parser.add_argument("--only", default="", help="instances whose name contains this")
    parser.add_argument("--jobs", type=int, default=2, help="points at a time")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no job after this long")
    parser.add_argument("--backend", default="highs", choices=("cbc", "highs", "gurobi"))
    parser.add_argument("--resume", action="store_true", help="keep the points that are done")
    parser.add_argument("--quick", action="store_true", help="the short form of `make bench`")
    parser.add_argument("--plot-only", action="store_true", help="draw from stored results")
    parser.add_argument("--results", type=Path, help="the folder for results")
    options = parser.parse_args(arguments)
    options.seconds = options.seconds or (_QUICK_SECONDS if options.quick else 10.0)
    options.results = options.results or (LINES if options.quick or options.only else RESULTS)
    options.seeds = options.seeds or (1 if options.quick else 5)
    return options


def _stay_on_cores() -> None:
    """Use two cores of a larger machine; the solvers started from here stay on them too."""
    if hasattr(os, "sched_setaffinity"):
        mine = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, mine[:_CORES])


# -- jobs -------------------------------------------------------------------------------------


def _here(options: argparse.Namespace) -> list[str]:
    """The instances asked for whose files are on this machine."""
    return [name for name in INSTANCES if options.only in name and load_instance(name) is not None]


def _alone(options: argparse.Namespace) -> Iterator[Job]:
    """What is timed in itself."""
    limits = {"seconds": options.seconds, "backend": options.backend}
    for name in _here(options):
        yield {"part": "greedy", "instance": name}
    if options.only:
        return
    for ram_bytes in README_RAM_BYTES:
        yield {"part": "readme", "ram_bytes": ram_bytes, **limits}
    if options.quick:
        return
    yield {"part": "scale", "layers": SCALE_LAYERS, **limits, "seconds": SCALE_SECONDS}
    half = {**limits, "seconds": options.seconds / 2}
    yield {
        "part": "frontier",
        "instance": FRONTIER_INSTANCE,
        "points": FRONTIER_POINTS,
        **half,
    }


def _side_by_side(options: argparse.Namespace) -> Iterator[Job]:
    """Alternatives, the table's first seed, the proofs, the other seeds: stopped early, every point
    has something."""
    limits = {"seconds": options.seconds, "backend": options.backend}
    here = set(_here(options))
    points = [one for one in (QUICK if options.quick else table_points()) if one[0] in here]
    for name in dict.fromkeys(name for name, _budget in points):
        for alternative in ALTERNATIVES:
            yield {"part": "alternative", "instance": name, "alternative": alternative}

    def of_seed(seed: int) -> Iterator[Job]:
        for name, budget in points:
            yield {"part": "table", "instance": name, "budget": budget, "seed": seed, **limits}

    yield from of_seed(0)
    for name, budget in proof_points():
        wanted = options.only in name and load_instance(name) is not None
        if wanted and (not options.quick or (name, budget) in QUICK):
            yield {"part": "proof", "instance": name, "budget": budget, "seed": 0, **limits}
    for seed in range(1, options.seeds):
        yield from of_seed(seed)


def _run(jobs: Iterable[Job], store: Store, width: int, minutes: float, began: float) -> None:
    """Do the jobs that are not done, `width` at a time, each record on disk as it comes."""
    spawn = multiprocessing.get_context("spawn")
    running: set[Future[Record]] = set()
    with ProcessPoolExecutor(max_workers=width, mp_context=spawn) as pool:
        for job in jobs:
            if time.monotonic() - began > 60 * minutes:
                break
            while len(running) >= width:
                running = _collect(running, store)
            if store.find(job) is None and not needless_seed(store.records, job):
                running.add(pool.submit(run_job, job))
        while running:
            running = _collect(running, store)


def _collect(running: set[Future[Record]], store: Store) -> set[Future[Record]]:
    done, left = wait(running, return_when=FIRST_COMPLETED)
    for future in done:
        record = store.add(future.result())
        print(_line(record), file=sys.stderr, flush=True)
    return left


def _line(record: Record) -> str:
    words = " ".join(str(value) for value in record["job"].values())
    figure = record.get("overhead_percent")
    told = record.get("error") or ("" if figure is None else f"{figure:.4f}%, {record['ending']}")
    return f"{words}: {told} ({record['job_seconds']:.1f} s)"


# -- results ----------------------------------------------------------------------------------


def _write(found: Summary, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown(found), encoding="utf-8")
    (folder / f"{name}.svg").write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
