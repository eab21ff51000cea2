"""POET's own optima, solved again: every row of the published table with every solver that is here.

    python -m benchmarks.published_optima [--backend cbc ...] [--wall-seconds 600] [--write]

Progress goes to stderr, the table to stdout; `--write` also writes results/published_optima.json
and .md beside this file. Instances are read from POET_INSTANCES (default ../shared/instances) or
from tests/solvers/instances. Exit status 1 when a row that was solved differs from its optimum.

The optima below are published figures (POET's model solved to 1e-7 with HiGHS, and closed forms for
the unit chains); `None` means that POET's model is infeasible there.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, cast

from poet_solvers.backends import BackendName, SolveLimits, SolveStatus, available_backends
from poet_solvers.poet_published import PublishedSolution, solve_published
from poet_solvers.published_graph import PublishedGraph, read_published_graph, unit_chain

Mode = Literal["both", "remat only", "page only", "neither"]

REPOSITORY = Path(__file__).resolve().parent.parent
RELATIVE_TOLERANCE = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One published optimum; `optimum_joules` None means infeasible."""

    graph: str
    ram_bytes: int
    time_ratio: float | None
    mode: Mode
    optimum_joules: float | None
    slow: bool = False

    @property
    def title(self) -> str:
        return f"{self.graph}, {self.ram_bytes} B, {self.mode}"


def _instance_rows(
    graph: str, ram_bytes: int, ratio: float, *optima: float | None, slow: bool = False
) -> Iterator[PublishedRow]:
    modes: tuple[Mode, ...] = ("both", "remat only", "page only")
    for mode, optimum in zip(modes, optima, strict=False):
        yield PublishedRow(
            graph=graph,
            ram_bytes=ram_bytes,
            time_ratio=ratio,
            mode=mode,
            optimum_joules=optimum,
            slow=slow,
        )


def _chain_rows(
    half: int, page_joules: float, ram_bytes: int, *optima: float | None
) -> Iterator[PublishedRow]:
    modes: tuple[Mode, ...] = ("both", "remat only", "page only", "neither")
    for mode, optimum in zip(modes, optima, strict=False):
        yield PublishedRow(
            graph=f"unit-chain-{half}-{page_joules}",
            ram_bytes=ram_bytes,
            time_ratio=None,
            mode=mode,
            optimum_joules=optimum,
        )


ROWS: tuple[PublishedRow, ...] = (
    *_instance_rows("linear-a72", 3256, 2.0, 0.00660322357, 0.00666395916, 0.00664594964),
    *_instance_rows("linear-a72", 5000, 2.0, 0.00658942492),
    *_instance_rows("linear-a72", 3255, 2.0, None),
    *_instance_rows("linear-m0", 3256, 2.0, 0.104912967, 0.105862680, 0.105627228),
    *_instance_rows("linear-m0", 5000, 2.0, 0.10467864),
    *_instance_rows("transformer-a72", 31457280, 2.0, 119.424346, 124.555367, 119.439165),
    *_instance_rows("transformer-a72", 34603008, 2.0, 119.394716, 119.409361, 119.409534),
    *_instance_rows("transformer-a72", 31457279, 2.0, None, slow=True),
    *_instance_rows("resnet18_cifar-a72", 3000000, 7.6, 7.88951018, slow=True),
    *_chain_rows(3, 5.0, 3, 10, 10, 27, None),
    *_chain_rows(3, 5.0, 4, 8, 8, 17, None),
    *_chain_rows(3, 5.0, 5, 7, 7, 7, 7),
    *_chain_rows(4, 5.0, 3, 15, 15, 39),
    *_chain_rows(4, 5.0, 4, 11, 11, 29),
    *_chain_rows(4, 5.0, 5, 10, 10, 19),
    *_chain_rows(4, 5.0, 6, 9, 9, 9),
    *_chain_rows(5, 5.0, 3, 21, 21, 51),
    *_chain_rows(5, 5.0, 4, 14, 14, 41),
    *_chain_rows(5, 5.0, 5, 13, 13, 31),
    *_chain_rows(5, 5.0, 6, 12, 12, 21),
    *_chain_rows(5, 5.0, 7, 11, 11, 11),
    *_chain_rows(4, 0.6, 3, 12.4),
    *_chain_rows(4, 0.6, 4, 11.0),
    *_chain_rows(5, 0.6, 3, 15.6),
    *_chain_rows(5, 0.6, 4, 14.0),
    *_chain_rows(6, 0.6, 4, 17.2),
)


def load_graph(name: str) -> PublishedGraph | None:
    """A unit chain by its name, or an instance file; None where the file is not on this machine."""
    if name.startswith("unit-chain-"):
        half, page_joules = name.removeprefix("unit-chain-").split("-")
        return unit_chain(int(half), page_joules=float(page_joules))
    outside = Path(os.environ.get("POET_INSTANCES") or REPOSITORY.parent / "shared" / "instances")
    for folder in (REPOSITORY / "tests" / "solvers" / "instances", outside / "poet"):
        path = folder / f"{name}.json"
        if path.is_file():
            return read_published_graph(path.read_text(encoding="utf-8"))
    return None


def solve_row(
    row: PublishedRow, graph: PublishedGraph, *, backend: BackendName, limits: SolveLimits
) -> PublishedSolution:
    """Solves one row as it was published."""
    return solve_published(
        graph,
        ram_bytes=row.ram_bytes,
        time_ratio=row.time_ratio,
        paging=row.mode in ("both", "page only"),
        rematerialization=row.mode in ("both", "remat only"),
        backend=backend,
        limits=limits,
    )


def agrees(row: PublishedRow, solution: PublishedSolution) -> bool:
    """Whether a proven answer equals the published one to 1e-6 relative."""
    if row.optimum_joules is None:
        return solution.status is SolveStatus.INFEASIBLE
    if solution.status is not SolveStatus.OPTIMAL or solution.energy_joules is None:
        return False
    off = abs(solution.energy_joules - row.optimum_joules)
    return off <= RELATIVE_TOLERANCE * row.optimum_joules


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One row solved by one solver."""

    row: PublishedRow
    backend: str
    status: str
    energy_joules: float | None
    bound_joules: float | None
    peak_bytes: int | None
    seconds: float
    agrees: bool


def main(arguments: list[str] | None = None) -> int:
    """Solves the rows and prints the table."""
    options = _options(arguments)
    limits = SolveLimits(wall_seconds=options.wall_seconds, threads=1)
    measured: list[Measured] = []
    missing = 0
    for row in ROWS:
        graph = load_graph(row.graph)
        if graph is None:
            missing += 1
            print(f"{row.title}: no such instance here", file=sys.stderr)
            continue
        for backend in options.backend:
            solution = solve_row(row, graph, backend=cast(BackendName, backend), limits=limits)
            measured.append(_measured(row, solution))
            print(f"{row.title}: {_progress(measured[-1])}", file=sys.stderr)
    differing = sum(not entry.agrees for entry in measured)
    table = _markdown(measured, missing)
    print(table)
    if options.write:
        _write(measured, missing, table)
    return 1 if differing else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    known = available_backends()
    parser.add_argument("--backend", nargs="+", choices=known, default=["cbc", "highs"])
    parser.add_argument("--wall-seconds", type=float, default=600.0, help="limit for one row")
    parser.add_argument("--write", action="store_true", help="write the result files")
    return parser.parse_args(arguments)


def _measured(row: PublishedRow, solution: PublishedSolution) -> Measured:
    return Measured(
        row=row,
        backend=solution.backend.backend,
        status=solution.status.name,
        energy_joules=solution.energy_joules,
        bound_joules=solution.bound_joules,
        peak_bytes=solution.peak_bytes,
        seconds=round(solution.backend.seconds, 3),
        agrees=agrees(row, solution),
    )


def _progress(entry: Measured) -> str:
    verdict = "agrees" if entry.agrees else "DIFFERS"
    return f"{entry.backend}: {entry.status} {entry.energy_joules} {entry.seconds} s, {verdict}"


def _markdown(measured: list[Measured], missing: int) -> str:
    lines = [
        "| graph | RAM bytes | mode | published J | solver | found J | seconds | agrees |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for entry in measured:
        row = entry.row
        published = "infeasible" if row.optimum_joules is None else f"{row.optimum_joules:.9g}"
        found = entry.status if entry.energy_joules is None else f"{entry.energy_joules:.12g}"
        lines.append(
            f"| {row.graph} | {row.ram_bytes} | {row.mode} | {published} | {entry.backend} "
            f"| {found} | {entry.seconds:.2f} | {'yes' if entry.agrees else 'NO'} |"
        )
    agreeing = sum(entry.agrees for entry in measured)
    lines.append("")
    lines.append(
        f"{agreeing} of {len(measured)} answers agree with the published optimum to "
        f"{RELATIVE_TOLERANCE:g} relative; {missing} of {len(ROWS)} rows skipped for want of an "
        "instance file."
    )
    return "\n".join(lines)


def _write(measured: list[Measured], missing: int, table: str) -> None:
    folder = Path(__file__).resolve().parent / "results"
    folder.mkdir(exist_ok=True)
    document = {
        "machine": {"cpus": os.cpu_count(), "python": platform.python_version()},
        "skipped_rows": missing,
        "rows": [asdict(entry) for entry in measured],
    }
    json_path = folder / "published_optima.json"
    json_path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    title = (
        "# POET's own optima, solved again\n\nBy `python -m benchmarks.published_optima --write`"
    )
    markdown = f"{title} on {os.cpu_count()} CPUs, one thread a solver.\n\n{table}\n"
    (folder / "published_optima.md").write_text(markdown, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
