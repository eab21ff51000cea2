"""Arena over judged peak: `python -m benchmarks.addresses [--write]`.

Steps of the examples are traced and planned without a MILP, so that the plans are the same on every
machine: keep-everything; the eviction schedule that keeps as much as fits, at several RAM budgets
between the floor and keep-everything's peak; and the local search at some, for energy and time.
Each plan is placed as it is (briefly), with shorter stays (`shifted`), and where that is not enough
with moves. `--write` stores results/addresses.json and .md. Exit status 1 when a target is missed:
with shorter stays at most the plan's peak for keep-everything and for evicting plans of
convolutional nets, 1.02 of it for those of other nets; with moves at most the peak everywhere, the
plans of the search included.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from math import inf
from pathlib import Path
from random import Random

from examples import bert, lstm, mlp, projection, resnet, vgg
from examples.parts import Step
from poet_core.baseline import keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Objective, Problem, Schedule
from poet_core.simulate import Judgement, simulate
from poet_runtime.tracing.trace import trace
from poet_solvers.addresses import Addresses
from poet_solvers.addresses.arena import place_schedule
from poet_solvers.addresses.search import Effort
from poet_solvers.addresses.shift import shift_schedule
from poet_solvers.evict import best_evict_schedule
from poet_solvers.search import SearchLimits, search_schedule
from poet_solvers.values import value_table

STEPS: dict[str, Callable[[], Step]] = {
    "mlp": mlp.step,
    "projection (Adam)": projection.step,
    "vgg small": vgg.step_small,
    "resnet small": resnet.step_small,
    "bert tiny": bert.step_tiny,
    "lstm": lstm.step,
}
SHARES = (0.75, 0.5, 0.25, 0.1, 0.05, 0.0)
"""RAM budgets: the floor plus this share of the way to keep-everything's peak."""

SEARCHED = {
    "vgg small": (0.5, 0.1),
    "resnet small": (0.5, 0.1),
    "bert tiny": (0.5, 0.0),
    "lstm": (0.5,),
}
"""At which shares the local search plans; it fills the budget as evicting does, but frees at once."""

CONVOLUTIONAL = ("vgg small", "resnet small")
MOST = 1.02
SEARCH_MOVES = 1_000_000
BRIEF_LOOKS, FULL_LOOKS = 1_000_000, 6_000_000

_COLUMNS = (
    "step", "plan", "ops", "spans", "peak bytes", "as planned", "arena / peak", "of the budget",
    "with moves", "moves", "moved bytes", "seconds", "found by",
)  # fmt: skip

_RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One plan and its arenas, all over the peak of the plan as it was given (without reserved
    bytes). `moved_bytes` is 0 where shorter stays reach the peak; then nothing was moved."""

    step: str
    plan: str
    ops: int
    spans: int
    peak_bytes: int
    as_planned: float
    ratio: float
    with_moves: float
    moves: int
    moved_bytes: int
    of_budget: float | None
    seconds: float
    found_by: str

    @property
    def limit(self) -> float:
        """What `ratio` may be at most; for plans of the search it is only reported."""
        if self.plan.startswith("search"):
            return inf
        return 1.0 if self.plan == "keep everything" or self.step in CONVOLUTIONAL else MOST

    @property
    def within(self) -> bool:
        """Whether the row meets its targets."""
        return self.ratio <= self.limit and self.with_moves <= 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A schedule to place, and what it was planned for."""

    title: str
    problem: Problem
    schedule: Schedule
    unlimited: bool = False


def cases(name: str, graph: TrainingGraph) -> Iterator[Case]:
    """Keep-everything, then eviction and search at each budget that has a schedule."""
    device = load_device("raspberry-pi-4b")
    costs = costs_on(graph, device)
    budget = Budget(ram_bytes=2**62, alignment_bytes=device.alignment_bytes, overlap=True)
    base = keep_everything(graph)
    whole = Problem(graph=graph, costs=costs, budget=budget)
    yield Case(title="keep everything", problem=whole, schedule=base, unlimited=True)
    peak = simulate(graph, costs, budget, base).peak_bytes
    floor = ram_floor(graph, budget).floor_bytes
    for share in SHARES:
        narrow = replace(budget, ram_bytes=int(floor + share * (peak - floor)))
        problem = replace(whole, budget=narrow)
        where = f"floor + {100 * share:.0f}%"
        schedule = best_evict_schedule(problem, value_table(graph, narrow))
        if schedule is not None:
            yield Case(title=f"evict, {where}", problem=problem, schedule=schedule)
        for objective in Objective if share in SEARCHED.get(name, ()) else ():
            limits = SearchLimits(moves=SEARCH_MOVES)
            aim = replace(problem, objective=objective)
            schedule = search_schedule(aim, limits=limits)
            if schedule is not None:
                yield Case(title=f"search for {objective}, {where}", problem=aim, schedule=schedule)


def row(name: str, case: Case) -> Row:
    """Place one plan in the three ways."""
    graph, costs, budget = case.problem.graph, case.problem.costs, case.problem.budget
    judgement = simulate(graph, costs, budget, case.schedule)
    peak_bytes = judgement.peak_bytes - budget.reserved_bytes
    as_planned = _placed(case, case.schedule, judgement, BRIEF_LOOKS)
    begin = time.perf_counter()
    short, figures = shift_schedule(graph, costs, budget, case.schedule, judgement)
    addresses = _placed(case, short, figures, FULL_LOOKS)
    seconds = time.perf_counter() - begin
    moving = addresses
    if addresses.arena_bytes > peak_bytes:
        moving = _placed(case, short, figures, FULL_LOOKS, allow_moves=True)
    return Row(
        step=name,
        plan=case.title,
        ops=len(graph.ops),
        spans=len(addresses.placed),
        peak_bytes=peak_bytes,
        as_planned=as_planned.arena_bytes / peak_bytes,
        ratio=addresses.arena_bytes / peak_bytes,
        with_moves=moving.arena_bytes / peak_bytes,
        moves=len(moving.moves),
        moved_bytes=moving.moved_bytes,
        of_budget=None if case.unlimited else addresses.arena_bytes / budget.ram_bytes,
        seconds=seconds,
        found_by=addresses.found_by,
    )


def _placed(
    case: Case, schedule: Schedule, judgement: Judgement, looks: int, *, allow_moves: bool = False
) -> Addresses:
    effort = Effort(looks=looks, out_of_time=lambda: False)
    return place_schedule(
        case.problem.graph,
        case.problem.budget,
        schedule,
        judgement,
        Random(0),
        effort,
        allow_moves=allow_moves,
    )


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and store it with `--write`."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("steps", nargs="*", help=f"of {', '.join(STEPS)}; all without")
    parser.add_argument("--write", action="store_true", help="write the result files")
    options = parser.parse_args(arguments)
    measured = []
    for name in options.steps or STEPS:
        graph = trace(*STEPS[name](), measure_workspace=False).graph
        for case in cases(name, graph):
            measured.append(row(name, case))
            print(f"{name}, {case.title}: {measured[-1].ratio:.4f}", file=sys.stderr, flush=True)
    text = table(measured)
    print(text, end="")
    if options.write:
        _RESULTS.mkdir(exist_ok=True)
        document = json.dumps([asdict(row) for row in measured], indent=1) + "\n"
        (_RESULTS / "addresses.json").write_text(document, encoding="utf-8")
        (_RESULTS / "addresses.md").write_text(text, encoding="utf-8")
    missed = [item for item in measured if not item.within]
    for item in missed:
        print(f"missed: {item.step}, {item.plan}", file=sys.stderr)
    return int(bool(missed))


def table(measured: list[Row]) -> str:
    """The rows as a Markdown table."""
    lines = [
        f"| {' | '.join(_COLUMNS)} |",
        "|---" * len(_COLUMNS) + "|",
    ]
    lines += [
        f"| {r.step} | {r.plan} | {r.ops} | {r.spans} | {r.peak_bytes} | {r.as_planned:.4f} "
        f"| {r.ratio:.4f} | {'' if r.of_budget is None else f'{r.of_budget:.4f}'} "
        f"| {r.with_moves:.4f} | {r.moves} | {r.moved_bytes} | {r.seconds:.2f} | {r.found_by} |"
        for r in measured
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
