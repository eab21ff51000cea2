"""ProjectionNet's tables, measured: every row with its spread over the seeds.

    python -m benchmarks.projection [--only TEXT ...] [--seeds 3] [--steps 5500] [--jobs 2 --threads 1]
    python -m benchmarks.projection --only bits     the study of neural bits (Figure 2)
    python -m benchmarks.projection --list          the parts and what they are expected to take
    python -m benchmarks.projection --plot-only     tables and picture again from the stored result
    python -m benchmarks.projection --small         tiny data, a few steps: whether it runs

Each (part, seed) ends in a line of build/benchmarks/projection.jsonl, at once; started again, the
run goes on there, and inside a part at the last checkpoint (`--restart` forgets all of it). A line
counts only for the same recipes and steps. Bits of projections are computed once a data set and seed.
At the end of every part results/projection.json, .md and .svg are written, with what is there.
`--small` and `--only` write theirs beside the lines. Small networks use a second core badly: two
parts at a time with a thread each should be the faster way. `--minutes` begins no part after so
long. Exit status 1 where a part could not run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.planner_store import REPOSITORY, Store, machine
from benchmarks.projection_parts import Part, parts
from benchmarks.projection_picture import picture
from benchmarks.projection_place import STEPS, Place, small_place
from benchmarks.projection_runs import Wanted, job_of, run_all
from benchmarks.projection_summary import Summary, summary
from benchmarks.projection_tables import markdown

RESULTS = Path(__file__).resolve().parent / "results"
LINES = REPOSITORY / "build" / "benchmarks"


def main(arguments: list[str] | None = None) -> int:
    """Measure, or draw again; print the tables."""
    options = _options(arguments)
    name = "projection" + ("-small" if options.small else "-only" if options.only else "")
    if options.plot_only:
        found: Summary = json.loads((options.results / f"{name}.json").read_text("utf-8"))
        _write(found, options.results, name)
        return 0
    chosen = [p for p in parts() if not options.only or any(o in p.name for o in options.only)]
    if options.list:
        for part in chosen:
            print(f"{part.name:28} about {part.minutes:4.1f} min a seed")
        minutes = options.seeds * sum(part.minutes for part in chosen)
        print(f"{'in all':28} about {minutes:4.0f} min for {options.seeds} seeds on one core")
        return 0
    torch.set_num_threads(options.threads)
    found, failed = _measure(options, chosen, name)
    print(markdown(found))
    return int(failed > 0)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only", nargs="+", default=[], help="parts whose names contain one of these"
    )
    parser.add_argument("--seeds", type=int, default=3, help="seeds 0, 1, ...")
    parser.add_argument("--steps", type=int, default=STEPS, help="of the joint training on images")
    parser.add_argument("--jobs", type=int, default=1, help="parts at a time; with 2, --threads 1")
    parser.add_argument("--minutes", type=float, default=1e9, help="begin no part after this long")
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--small", action="store_true", help="tiny data, a few steps")
    parser.add_argument("--list", action="store_true", help="the parts and their expected minutes")
    parser.add_argument("--restart", action="store_true", help="forget what is stored")
    parser.add_argument("--plot-only", action="store_true", help="draw from the stored result")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    parser.add_argument("--results", type=Path, help="the folder for results")
    parser.add_argument("--lines", type=Path, default=LINES, help="the folder for lines and states")
    options = parser.parse_args(arguments)
    unknown = [text for text in options.only if not any(text in part.name for part in parts())]
    if unknown:
        names = ", ".join(part.name for part in parts())
        parser.error(f"--only: no part has {', '.join(unknown)} in its name; there are {names}")
    apart = options.small or options.only
    options.results = options.results or (options.lines if apart else RESULTS)
    return options


def _measure(options: argparse.Namespace, chosen: Sequence[Part], name: str) -> tuple[Summary, int]:
    folder = options.lines / ("projection-small" if options.small else "projection")
    if options.restart:
        shutil.rmtree(folder, ignore_errors=True)
    data_root = os.environ.get("POET_DATA")
    place = Place(
        folder=folder, data_root=None if data_root is None else Path(data_root),
        steps=options.steps, quiet=options.quiet,
    )  # fmt: skip
    if options.small:
        place = small_place(folder, quiet=options.quiet)
    key = {"steps": place.steps, "small": place.small}
    # one file for --only and the whole, so that a part that has run is not run again
    lines = options.lines / f"{folder.name}.jsonl"
    store = Store(lines, key, resume=not options.restart)
    wanted = [(part, job_of(part, place, seed)) for seed in range(options.seeds) for part in chosen]

    def current() -> Summary:
        return _write_current(options, place, store, wanted, name)

    failed = run_all(
        place, store, wanted, jobs=options.jobs, minutes=options.minutes, after_each=current
    )
    return current(), failed


def _write_current(
    options: argparse.Namespace, place: Place, store: Store, wanted: Wanted, name: str
) -> Summary:
    records = [found for _, job in wanted if (found := store.find(job)) is not None]
    missing = [f"{job['part']} seed {job['seed']}" for _, job in wanted if store.find(job) is None]
    told = machine() | {
        "torch": torch.__version__,
        "threads": options.threads,
        "jobs": options.jobs,
    }
    found = summary(records, missing, told, steps=place.steps, small=place.small)
    _write(found, options.results, name)
    return found


def _write(found: Summary, folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(found, indent=1) + "\n"
    (folder / f"{name}.json").write_text(text, encoding="utf-8")
    (folder / f"{name}.md").write_text(markdown(found), encoding="utf-8")
    (folder / f"{name}.svg").write_text(picture(found), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
