"""The tests on every core: first those that may share the machine, then those that measure it.

    python scripts/run_tests.py [pytest's own arguments]

Two runs of pytest, whose last line here is of both:

    not alone   in a process a core (pytest-xdist), with one thread each
    alone       afterwards in this process: what else runs would be in the memory, the seconds and
                the solver's wall limits that these tests are about

On one core it is pytest as it is. The exit status is pytest's: zero only where every test of both
runs passed; what ends the first run early (an interrupt, a wrong argument) ends both.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

MOST_WORKERS = 4
"""More would only wait for the longest tests, and each holds torch and the models of its tests."""

# The order and the words of pytest's own last line.
OUTCOMES = {
    "failed": "failed",
    "passed": "passed",
    "skipped": "skipped",
    "xfailed": "xfailed",
    "xpassed": "xpassed",
    "warnings": "warnings",
    "error": "errors",
}
RAN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED)


class Tally:
    """A plugin that keeps how the tests of every run ended, and the terminal of the last one."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.broken: list[str] = []
        self.terminal: pytest.TerminalReporter | None = None

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        self.terminal = terminalreporter
        for outcome in OUTCOMES:
            reports = terminalreporter.stats.get(outcome, [])
            self.counts[outcome] += len(reports)
            if outcome in ("failed", "error"):
                self.broken += [f"{outcome.upper()} {report.nodeid}" for report in reports]

    def say(self, seconds: float) -> None:
        """The last line, and before it the name of each test that did not pass."""
        assert self.terminal is not None
        for line in self.broken:
            self.terminal.write_line(line)
        said = [f"{self.counts[key]} {word}" for key, word in OUTCOMES.items() if self.counts[key]]
        took = f"{seconds:.2f}s"
        if seconds >= 60:
            took += f" ({dt.timedelta(seconds=int(seconds))})"
        colour = {"red": True} if self.broken else {"green": True}
        line = f"{', '.join(said) or 'no tests ran'} in {took}"
        self.terminal.write_sep("=", line, bold=True, **colour)


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Workers on every core have no core left for threads; what was asked for is left alone."""
    asked = dict(os.environ)
    os.environ["OMP_NUM_THREADS"] = asked.get("OMP_NUM_THREADS") or "1"
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(asked)


def main(arguments: Sequence[str], cores: int) -> int:
    """Runs the tests that the arguments ask for on so many cores; the exit status."""
    if cores < 2:
        return pytest.main(list(arguments))
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("-m", dest="marks", default="")
    asked, rest = parser.parse_known_args(arguments)
    also = f" and ({asked.marks})" if asked.marks else ""
    tally, began = Tally(), time.monotonic()
    workers = ["-n", str(min(cores, MOST_WORKERS)), "--dist", "worksteal"]
    with one_thread_each():
        together = pytest.main([*rest, *workers, "-m", f"not alone{also}"], plugins=[tally])
    if together not in RAN:
        return together
    alone = pytest.main([*rest, "-m", f"alone{also}"], plugins=[tally])
    if alone not in RAN:
        return alone
    tally.say(time.monotonic() - began)
    for status in (pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.OK):
        if status in (together, alone):
            return status
    return pytest.ExitCode.NO_TESTS_COLLECTED


if __name__ == "__main__":
    # Where a process may be bound to some of the cores, those are what it has.
    bound = getattr(os, "sched_getaffinity", None)
    sys.exit(main(sys.argv[1:], len(bound(0)) if bound else os.cpu_count() or 1))
