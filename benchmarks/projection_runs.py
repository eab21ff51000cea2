"""The jobs of the projection benchmark: one after the other or side by side, each stored as it ends.

    tables           first, because most other parts build on their trainers
    everything else  seed by seed
    what is timed    last and alone

Invariant: a record is on disk before its job's states are removed, so a run that is killed at any
moment loses at most the steps since the last checkpoint.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.planner_store import REPOSITORY, Store
from benchmarks.projection_parts import Part, parts
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import digest
from poet_core.errors import PoetError

Job = dict[str, Any]
Wanted = Sequence[tuple[Part, Job]]
Answer = tuple[str, Job, list[dict[str, Any]], float, str]
"""Of another process: the part's name, the job, rows, seconds, error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job gave: rows, or why there are none."""

    part: Part
    job: Job
    rows: list[dict[str, Any]]
    seconds: float
    error: str = ""


def job_of(part: Part, place: Place, seed: int) -> Job:
    """What a stored record is found by."""
    return {"part": part.name, "data": part.data, "seed": seed, "recipe": part.recipe(place)}


def run_all(
    place: Place,
    store: Store,
    wanted: Wanted,
    *,
    jobs: int,
    minutes: float,
    after_each: Callable[[], object],
) -> int:
    """Does what is not stored yet; a part that cannot run here says why, and the next one runs.

    `minutes`: nothing begins after so long. Returns how many could not run.
    """
    began = time.monotonic()
    pending = [(part, job) for part, job in wanted if store.find(job) is None]
    left = sum(part.minutes for part, _ in pending)
    expected, failed, pace = 0.0, 0, 1.0 / jobs

    def allowed(todo: Wanted) -> Iterator[tuple[Part, Job]]:
        for part, job in todo:
            if (time.monotonic() - began) / 60 > minutes:
                place.tell(f"out of time: {part.name}, seed {job['seed']} is left")
                continue
            place.tell(f"{part.name}, seed {job['seed']} begins; about {pace * (left - expected):.0f} min left in all")  # fmt: skip
            yield part, job

    for number, stage in enumerate(_stages(pending)):
        is_timed = number == len(_stages([])) - 1
        for outcome in _outcomes(place, allowed(stage), 1 if is_timed else jobs):
            name = f"{outcome.part.name}, seed {outcome.job['seed']}"
            expected += outcome.part.minutes
            pace = (time.monotonic() - began) / 60 / expected
            if outcome.error:
                place.tell(f"{name}: {outcome.error}")
                failed += 1
                continue
            store.add(
                {
                    "job": outcome.job, "job_seconds": outcome.seconds, "sources": sources(),
                    "rows": outcome.rows,
                }
            )  # fmt: skip
            shutil.rmtree(_states(place, outcome.job), ignore_errors=True)
            place.tell(f"{name}: done in {outcome.seconds / 60:.1f} min")
            after_each()
    return failed


def sources() -> str:
    """A hash of what computes the rows: a result says which it is from."""
    content = hashlib.sha256()
    for pattern in ("projection_nets/**/*.py", "benchmarks/projection*.py"):
        for path in sorted(REPOSITORY.glob(pattern)):
            content.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0")
            content.update(path.read_bytes() + b"\0")
    return content.hexdigest()[:16]


def _stages(pending: Wanted) -> tuple[Wanted, Wanted, Wanted]:
    tables = [one for one in pending if one[0].name.startswith("table")]
    timed = [one for one in pending if one[0].timed]
    return tables, [one for one in pending if one not in tables and one not in timed], timed


def _outcomes(place: Place, todo: Iterator[tuple[Part, Job]], width: int) -> Iterator[Outcome]:
    if width == 1:
        for part, job in todo:
            yield _done(place, part, job)
        return
    spawn = multiprocessing.get_context("spawn")
    running: set[Future[Answer]] = set()
    threads = torch.get_num_threads()
    with ProcessPoolExecutor(max_workers=width, mp_context=spawn) as pool:
        for part, job in todo:
            running.add(pool.submit(_done_elsewhere, place, part.name, job, threads))
            if len(running) == width:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from _with_own_parts(done)
        while running:
            done, running = wait(running, return_when=FIRST_COMPLETED)
            yield from _with_own_parts(done)


def _with_own_parts(done: set[Future[Answer]]) -> Iterator[Outcome]:
    by_name = {part.name: part for part in parts()}
    for future in done:
        name, job, rows, seconds, error = future.result()
        yield Outcome(part=by_name[name], job=job, rows=rows, seconds=seconds, error=error)


def _done_elsewhere(place: Place, name: str, job: Job, threads: int) -> Answer:
    """In a process of its own: a part cannot be sent there, its name can."""
    torch.set_num_threads(threads)
    part = next(part for part in parts() if part.name == name)
    outcome = _done(place, part, job)
    return name, job, outcome.rows, outcome.seconds, outcome.error


def _done(place: Place, part: Part, job: Job) -> Outcome:
    began = time.monotonic()
    rows: list[dict[str, Any]] = []
    error = ""
    try:
        rows = part.run(replace(place, states=_states(place, job)), part.data, job["seed"])
    except PoetError as refused:
        error = f"{refused} [{refused.code}]"
    except (RuntimeError, ValueError, LookupError) as fault:
        # a fault of one part must not cost a night of the others; the table names what is missing
        error = f"{type(fault).__name__}: {fault}"
    seconds = round(time.monotonic() - began, 2)
    return Outcome(part=part, job=job, rows=rows, seconds=seconds, error=error)


def _states(place: Place, job: Job) -> Path:
    return place.folder / f"states-{digest(job)}"
