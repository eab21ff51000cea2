"""What a step without a budget costs beside eager PyTorch, and the runtime's share in it.

    python -m benchmarks.overhead [--write] [--quick]

Each case is trained by eager PyTorch (the optimizer's defaults, gradients set to None) and by
TrainStep, in processes of their own with one thread, which take turns; with libc's allocator, and
with the arena on both sides. `--quick`: few turns. `--write` writes
results/overhead.json and .md and the table of docs/runtime.md, row by row. Exit status 1 where losses differ.

Ratios are medians of turns' ratios: of time, and of the CPU's time, which other work on the machine
changes less. "empty" is the CPU time of a TrainStep whose ops do nothing: what the runtime adds to
kernels and update rules.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pytest

from benchmarks.overhead_child import CASES, EAGER, OURS, Case
from poet_core.errors import ReplayError
from poet_runtime.memory.arena import arena_environment
from tests.runtime.native_arena import arena_library

RESULTS = Path(__file__).resolve().parent / "results"
PAGE = RESULTS.parents[1] / "docs" / "runtime.md"
_BEGIN, _END = "<!-- benchmarks.overhead -->\n", "<!-- end of benchmarks.overhead -->\n"
_ROUNDS = 3
"""Fresh processes: where libc's heap lies decides how often it is trimmed, by up to a third."""
_TURNS = 5
_WARM_STEPS = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One case with one allocator. Seconds are medians over all steps; `empty_seconds`, of the CPU, of
    a step whose `ops` do nothing."""

    case: str
    allocator: str
    ops: int
    eager_seconds: float
    our_seconds: float
    ratio: float
    cpu_ratio: float
    empty_seconds: float
    same_losses: bool
    load_average: float

    @property
    def overhead_microseconds(self) -> float:
        """Of an op: the runtime's share."""
        return self.empty_seconds / self.ops * 1e6


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table; 1 where losses differ."""
    given = sys.argv[1:] if arguments is None else arguments
    quick = "--quick" in given
    rows: list[Row] = []
    for name in CASES:
        for allocator, environment in _environments():
            turns, rounds = (3, 1) if quick else (_TURNS, _ROUNDS)
            rows.append(_measure(name, allocator, environment, turns, rounds))
            if "--write" in given:
                _write(rows)
    print(table(rows))
    return 0 if all(row.same_losses for row in rows) else 1


def _write(rows: list[Row]) -> None:
    document = json.dumps([asdict(row) for row in rows], indent=1)
    (RESULTS / "overhead.json").write_text(document + "\n", encoding="utf-8")
    (RESULTS / "overhead.md").write_text(table(rows), encoding="utf-8")
    before, _, after = PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    after = after.partition(_END)[2]
    PAGE.write_text(f"{before}{_BEGIN}\n{table(rows)}\n{_END}{after}", encoding="utf-8")


def stored() -> list[Row]:
    """The rows that were written last."""
    return [Row(**row) for row in json.loads((RESULTS / "overhead.json").read_text())]


def table(rows: list[Row]) -> str:
    """The rows in Markdown."""
    lines = [
        "| step | allocator | ops | eager ms | TrainStep ms | ratio | of CPU time | empty ms | µs an op |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {CASES[row.case].title} | {row.allocator} | {row.ops} | {row.eager_seconds * 1e3:.2f} "
        f"| {row.our_seconds * 1e3:.2f} | {row.ratio:.3f} | {row.cpu_ratio:.3f} "
        f"| {row.empty_seconds * 1e3:.2f} "
        f"| {row.overhead_microseconds:.1f} |"
        for row in rows
    ]
    loads = [row.load_average for row in rows]
    losses = "identical" if all(row.same_losses for row in rows) else "DIFFERENT"
    load = f"load average {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores"
    lines += ["", f"One thread; {load}. Losses {losses}."]
    return "\n".join(lines) + "\n"


def _environments() -> Iterator[tuple[str, Mapping[str, str]]]:
    base = os.environ | {"OMP_NUM_THREADS": "1"}
    yield "libc", base
    try:
        yield "arena", arena_environment(base, library=arena_library())
    except (ReplayError, pytest.skip.Exception) as reason:
        print(f"No arena: {reason}", file=sys.stderr)


def _measure(
    name: str, allocator: str, environment: Mapping[str, str], turns: int, rounds: int
) -> Row:
    case, load = CASES[name], os.getloadavg()[0]
    taken = [turn for _ in range(rounds) for turn in _round(name, environment, case, turns)]

    def median(side: str, clock: str) -> float:
        return statistics.median(one for turn in taken for one in turn.seconds(side, clock))

    def ratio(clock: str) -> float:
        return statistics.median(turn.ratio(clock) for turn in taken)

    return Row(
        case=name,
        allocator=allocator,
        ops=taken[0].empty["ops"],
        eager_seconds=median(EAGER, "seconds"),
        our_seconds=median(OURS, "seconds"),
        ratio=ratio("seconds"),
        cpu_ratio=ratio("cpu_seconds"),
        empty_seconds=statistics.median(turn.empty["seconds"] for turn in taken),
        same_losses=all(turn.same_losses for turn in taken),
        load_average=load,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Turn:
    """What each side answered."""

    answers: Mapping[str, Mapping[str, Any]]
    empty: Mapping[str, Any]

    @property
    def same_losses(self) -> bool:
        """Whether both sides had the same losses, to the bit."""
        ours, eager = (list(self.answers[side]["losses"]) for side in (OURS, EAGER))
        return ours == eager

    def seconds(self, side: str, clock: str) -> list[float]:
        """Of each step."""
        return list(map(float, self.answers[side][clock]))

    def ratio(self, clock: str) -> float:
        """Ours to eager's."""
        ours, eager = (statistics.median(self.seconds(side, clock)) for side in (OURS, EAGER))
        return ours / eager


def _round(name: str, environment: Mapping[str, str], case: Case, turns: int) -> list[_Turn]:
    """Turns of two fresh processes, one side after the other; who begins changes from turn to turn."""
    with ExitStack() as exits:
        sides = {
            side: exits.enter_context(_child(name, side, environment)) for side in (EAGER, OURS)
        }
        for child in sides.values():
            _ask(child, str(_WARM_STEPS))
        taken: list[dict[str, Any]] = []
        for turn in range(turns):
            order = (OURS, EAGER) if turn % 2 else (EAGER, OURS)
            taken.append({side: _ask(sides[side], str(case.steps_a_turn)) for side in order})
        empty = _ask(sides[OURS], "empty")  # trains nothing afterwards
    return [_Turn(answers=answers, empty=empty) for answers in taken]


@contextmanager
def _child(name: str, side: str, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.overhead_child", name, side]
    with subprocess.Popen(
        command, env=environment, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        yield child


def _ask(child: subprocess.Popen[str], question: str) -> dict[str, Any]:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(question + "\n")
    child.stdin.flush()
    answer: dict[str, Any] = json.loads(child.stdout.readline())
    return answer


if __name__ == "__main__":
    sys.exit(main())
