"""Units side by side in processes, each kept as it ends; a run can be stopped at any moment.

Invariant: what is kept is whole units; after Ctrl-C the processes started here are gone when
KeyboardInterrupt leaves, and with them the solvers that they started.
"""

from __future__ import annotations

import multiprocessing
import signal
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, ProcessPoolExecutor, wait

from benchmarks.poet_experiments_methods import BASELINES
from benchmarks.poet_experiments_networks import graph_of
from benchmarks.poet_experiments_ours import OURS, OURS_METHODS
from benchmarks.poet_experiments_points import Facts, Result
from benchmarks.poet_experiments_run import facts_of, run_group
from benchmarks.poet_experiments_units import FACTS, TRACE, Unit, members, seconds_for

METHODS = (*OURS_METHODS, *BASELINES)

Found = tuple[list[Result | Facts], float]

# Of work by which it is measured how crowded the machine is, and what counts at most. A job's search
# and solver share a core even where nobody else is there.
_PROBE_SECONDS, _MOST_CROWDED, _OWN_CROWD = 0.05, 4.0, 2.0


def do_all(
    units: Iterable[Unit],
    *,
    jobs: int,
    share: float,
    ends: float,
    done: Callable[[Unit, list[Result | Facts], float], None],
) -> None:
    """Do units, `jobs` at a time; begin none after `ends` (of time.monotonic). `share`: of the
    planner's usual seconds. `done` hears of each as it ends. Where a unit ends with an error that is
    told and the unit left undone; where a process dies, the rest, too."""
    spawn = multiprocessing.get_context("spawn")
    running: dict[Future[Found], Unit] = {}
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_ignore_interrupts) as pool:
        try:
            for unit in units:
                while len(running) >= jobs:
                    _collect(running, done)
                if time.monotonic() > ends:
                    break
                running[pool.submit(do_unit, unit, share)] = unit
            while running:
                _collect(running, done)
        except BrokenExecutor as error:
            print(f"A process died, the rest is not done: {error}", file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in multiprocessing.active_children():
                process.terminate()
            raise


def _ignore_interrupts() -> None:
    """Ctrl-C goes to every process of the terminal; the first of them decides."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _collect(
    running: dict[Future[Found], Unit], done: Callable[[Unit, list[Result | Facts], float], None]
) -> None:
    ended, _ = wait(running, return_when=FIRST_COMPLETED)
    for future in ended:
        unit = running.pop(future)
        try:
            found, seconds = future.result()
        except Exception as error:  # noqa: BLE001  The others go on; the run says what is missing.
            told = f"{type(error).__name__}: {error}"
            print(f"{unit.title}: not done: {told}", file=sys.stderr, flush=True)
            continue
        done(unit, found, seconds)


def do_unit(unit: Unit, share: float) -> Found:
    """What a unit found, and its seconds; a trace is kept by itself and finds nothing."""
    began = time.monotonic()
    series = unit.series
    found: list[Result | Facts] = []
    if unit.work == TRACE:
        graph_of(series.network, series.scope, split=unit.split)
    elif unit.work == FACTS:
        found = [facts_of(series)]
    else:
        seconds = share * seconds_for(series, facts_of(series).ops)
        seconds *= crowding() if unit.work == OURS else 1.0
        found = [*run_group(series, members(METHODS, unit.work, series), seconds)]
    return found, time.monotonic() - began


def crowding() -> float:
    """How many times longer than alone work takes here just now: where others use the machine, too,
    the planner's seconds are made longer by as much, so that they are worth the same."""
    began, worked = time.perf_counter(), time.process_time()
    while time.process_time() - worked < _PROBE_SECONDS:
        pass
    times = (time.perf_counter() - began) / _PROBE_SECONDS
    return min(_MOST_CROWDED, max(1.0, times / _OWN_CROWD))
