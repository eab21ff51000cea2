"""`solve`: every method that we have on one problem, and one answer.

    floor, base time, base energy          -> BudgetError, with the proof
    keep-everything fits                   -> that plan
    evict, greedy                          -> a first plan within milliseconds, where they find one
    cheap bounds                           -> often the end
    local search  |  prover (LP, MILP)     -> side by side until bound = plan, or time is up
    carried page-outs                      -> for time: the end's into the next step's beginning
    judged MILP                            -> on small problems, before giving up too

Invariant: what leaves was accepted by the judge for the very problem, and its bound is proven for
what it says. With `limits.moves` the methods run one after the other, and the schedule depends on
the problem, the seed and the number of moves alone as long as the time suffices.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal, cast

from poet_core.baseline import keep_everything
from poet_core.bounds import check_above_floor, check_base_costs
from poet_core.errors import PlanningError
from poet_core.plan import Bound, HoldsFor, Objective, Plan, Problem, Schedule
from poet_core.plan_request import BackendChoice
from poet_solvers.backends import (
    BackendName,
    SolveLimits,
    SolveStatus,
    available_backends,
    require_backend,
)
from poet_solvers.bounds.prover import Prover
from poet_solvers.carry import carried
from poet_solvers.desk import Desk, Progress
from poet_solvers.evict import best_evict_schedule
from poet_solvers.greedy import best_greedy_sequence
from poet_solvers.incumbents import telling
from poet_solvers.judged_search import Outcome, no_plan_error, search
from poet_solvers.model_input import MAX_DECISIONS
from poet_solvers.occurrences import Sequence, sequence_schedule, step_model
from poet_solvers.poet_milp_planner import poet_milp_plan
from poet_solvers.polish import polish
from poet_solvers.read_sequence import read_sequence
from poet_solvers.search import SearchLimits, native_missing, search_schedule
from poet_solvers.solution import Ending, Solution, solution_of
from poet_solvers.values import value_table

PlannerName = Literal["portfolio", "poet-milp"]

# Moves that a search may make for each op where no number is given: beyond, it has stopped finding.
_MOVES_PER_OP = 200_000
# What the search gets where it does not run beside the prover.
_SEARCH_SHARE = 0.5
# Beside the prover it stops this much earlier: the last plan's order wants a bound of its own.
_LAST_BOUND_SHARE, _LAST_BOUND_SECONDS = 0.15, 1.5
# Up to so many decisions a solver still improves the judged MILP within a minute, so it may find or
# prove what nobody else did. On 14 problems above 100 ops it never did, even put as a smaller model.
EASY_DECISIONS = 2_000
# How a plan's status says that `write_lp` was not obeyed.
NOT_WRITTEN = "No model was written:"
# What a search for time gets at most of the patience there is: its longest round is 9/20 of all, and
# if nobody ends that one, the last twentieths save transfers that win no second.
_PATIENCES = 2.0
# What finding a first plan may take before the solver has its turn.
_START_SHARE = 0.3


def solve(
    problem: Problem,
    limits: SolveLimits | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    *,
    cancel: threading.Event | None = None,
    backend: BackendChoice = "auto",
    planner: PlannerName = "portfolio",
    start: Schedule | None = None,
    write_lp: Path | None = None,
    on_incumbent: Callable[[Plan], None] | None = None,
) -> Solution:
    """The best schedule for `problem` within `limits` (POET, section 4), with what is proven of it.

    `backend`: who solves MILPs; `auto` is HiGHS for relaxations and CBC for POET's model.
    `planner="poet-milp"` solves POET's model, as the judge counts, and nothing else. `start` is a
    schedule to begin with. `cancel` ends the solve within a second; the best plan so far is returned
    where there is one. `on_incumbent` hears of better plans meanwhile (incumbents.py), from a thread
    of its own. `write_lp` keeps the judged MILP, which is then solved too; where it is too
    large to be built the plan's status says so. Raises BudgetError where no plan can exist (always
    with the proof), PlanningError `none_in_this_model` (that model proven infeasible),
    `not_found_in_time` or `cancelled` where none was found.
    """
    limits = limits or SolveLimits()
    if backend != "auto":
        require_backend(backend)
    check_above_floor(problem.graph, problem.budget, paging=problem.allowed.page)
    check_base_costs(problem)
    desk = Desk(problem, limits, on_progress, cancel)
    with telling(desk, limits, on_incumbent):
        if desk.offer("keep-everything", keep_everything(problem.graph)) and desk.met():
            return solution_of(desk, limits, Ending.FITS)[0]
        cancel = cancel or threading.Event()
        return _Solve(desk, limits, backend, cancel, write_lp).run(planner, start)


class _Solve:
    """One call of `solve` after the trivial answers."""

    def __init__(
        self,
        desk: Desk,
        limits: SolveLimits,
        backend: BackendChoice,
        cancel: threading.Event,
        write_lp: Path | None,
    ) -> None:
        self._desk, self._limits = desk, limits
        # POET's model is CBC's as it was; relaxations are HiGHS's, which is quicker on them.
        self._backend: BackendName = "cbc" if backend == "auto" else backend
        prover = "highs" if "highs" in available_backends() else "cbc"
        self._cancel, self._write_lp = cancel, write_lp
        self._problem = desk.problem
        # How the judged MILP ended, or why it was not built; and who else looked for a plan.
        self._milp: Outcome | None = None
        self._too_large: PlanningError | None = None
        self._tried: list[str] = []
        self._prover = Prover(
            desk.problem,
            backend=cast(BackendName, prover) if backend == "auto" else backend,
            limits=limits,
            cancel=cancel,
        )

    def run(self, planner: PlannerName, start: Schedule | None) -> Solution:
        """All methods, or the MILP alone."""
        desk = self._desk
        desk.offer("start", start)
        if planner == "poet-milp":
            self._solve_milp(poet_milp_plan)
        else:
            first = self._first_plans()
            if not desk.done():
                self._prover.first(desk)
            if not desk.done():
                self._race(first)
            self._carry()
            if desk.best() is None or self._write_lp is not None:
                self._judged_milp()
        best, outcome = desk.best(), self._milp
        if best is None:
            raise no_plan_error(self._problem, outcome or self._no_outcome(), self._who_tried())
        said = outcome is not None and (planner == "poet-milp" or best.by == outcome.formulation)
        notes = [outcome.status if outcome is not None and said else native_missing() or ""]
        if self._write_lp is not None and self._too_large is not None:
            notes.append(f"{NOT_WRITTEN} {self._too_large.message}")
            desk.say(notes[-1])
        return solution_of(desk, self._limits, self._ending(), " ".join(filter(None, notes)))[0]

    # -- methods ------------------------------------------------------------------------------

    def _first_plans(self) -> Sequence | None:
        """Evict's and greedy's plans; the search starts from the best of them and of `start`."""
        problem, desk = self._problem, self._desk
        desk.say("Keep-everything does not fit; looking for a schedule that does")
        self._tried += ["evict", "greedy"] if problem.allowed.page else ["greedy"]
        evicted = best_evict_schedule(problem, value_table(problem.graph, problem.budget))
        desk.offer("evict", evicted)
        sequence = best_greedy_sequence(problem, stop=self._start_time_gone)
        if sequence is not None:
            desk.offer("greedy", sequence_schedule(step_model(problem), sequence))
        best = desk.best()
        if best is not None and best.by != "greedy":
            sequence = read_sequence(step_model(problem), best.schedule)
        if best is not None and native_missing() is not None and not desk.done():
            desk.offer(best.by, polish(problem, best.schedule, cancel=self._cancel))
        return sequence

    def _race(self, first: Sequence | None) -> None:
        """Search and prover: beside each other where there are two threads, and no number of moves
        asks for the same answer every time."""
        missing = native_missing()
        if missing is not None:
            self._desk.say(missing)
            self._prove()
        elif self._limits.moves is None and self._limits.threads > 1:
            searching = threading.Event()
            searching.set()
            _side_by_side(
                self._desk,
                lambda: self._search_while(searching, first),
                lambda: self._prove(searching.is_set),
            )
        else:
            self._search(first, _SEARCH_SHARE * self._desk.left_seconds())
            if not self._desk.done():
                self._prove()

    def _search(self, first: Sequence | None, seconds: float) -> None:
        desk, limits = self._desk, self._limits
        self._tried.append("local search")
        moves = limits.moves or _MOVES_PER_OP * len(self._problem.graph.ops)
        if self._problem.objective is Objective.TIME and limits.patience_seconds is not None:
            seconds = min(seconds, _PATIENCES * limits.patience_seconds)
        wall_seconds = None if limits.moves else max(0.1, seconds)
        found = search_schedule(
            self._problem,
            limits=SearchLimits(moves=moves, wall_seconds=wall_seconds, seed=limits.seed),
            start=first,
            on_incumbent=lambda schedule: desk.hear("search", schedule),
            stop=desk.done,
        )
        desk.offer("search", found)

    def _search_while(self, searching: threading.Event, first: Sequence | None) -> None:
        left = self._desk.left_seconds()
        try:
            self._search(first, left - min(_LAST_BOUND_SECONDS, _LAST_BOUND_SHARE * left))
        finally:
            searching.clear()

    def _carry(self) -> None:
        """What the search never tries: the end's page-outs in the next step's beginning."""
        desk = self._desk
        best = desk.best()
        if best is not None and not desk.proven() and not desk.cancelled():
            desk.offer("carry", carried(self._problem, best.schedule, stop=desk.cancelled))

    def _prove(self, more: Callable[[], bool] = lambda: False) -> None:
        """The prover (as long as `more` plans may come); then, where it leaves time and a gap, the
        judged MILP."""
        self._tried.append("decoded relaxations")
        self._prover.run(self._desk, more)
        if not self._desk.done() and (not self._desk.met() or native_missing() is not None):
            self._judged_milp()

    def _judged_milp(self) -> None:
        """Once, where it is small enough to help; up to what can be built where it is to be written."""
        if self._milp is not None or self._too_large is not None:
            return
        most = EASY_DECISIONS if self._write_lp is None else MAX_DECISIONS
        try:
            self._solve_milp(partial(search, most_decisions=most))
        except PlanningError as error:
            if error.code != "model_too_large":
                raise
            self._too_large = error

    def _solve_milp(self, ask: Callable[..., Outcome]) -> None:
        desk = self._desk
        outcome = self._milp = ask(
            self._problem,
            backend=self._backend,
            limits=replace(self._limits, wall_seconds=max(0.1, desk.left_seconds())),
            cancel=self._cancel,
            write_lp=self._write_lp,
            say=desk.say,
        )
        desk.offer(outcome.formulation, outcome.schedule)
        if outcome.model_bound is not None:
            desk.model_bound(outcome.model_bound, outcome.formulation, outcome.solver)
        desk.solver_held(outcome.solver_memory_bytes)
        if outcome.bound is not None:
            desk.take(
                Bound(value=outcome.bound, holds_for=HoldsFor.GIVEN_ORDER, by=outcome.bound_by)
            )

    # -- ends ---------------------------------------------------------------------------------

    def _start_time_gone(self) -> bool:
        desk = self._desk
        return desk.cancelled() or desk.elapsed_seconds() > _START_SHARE * self._limits.wall_seconds

    def _no_outcome(self) -> Outcome:
        """What stands for the judged MILP's end where it was too large to be tried."""
        status = SolveStatus.CANCELLED if self._desk.cancelled() else SolveStatus.NOT_FOUND
        return Outcome(
            solve_status=status, status=status.sentence, formulation="portfolio", solver="none"
        )

    def _who_tried(self) -> str:
        tried = list(dict.fromkeys(self._tried))
        if self._too_large is None:
            tried.append("POET's MILP")
        text = f"Tried: {', '.join(tried)}."
        if self._too_large is None:
            return text
        decisions = self._too_large.details["decisions"]
        most = self._too_large.details["max_decisions"]
        return (
            f"{text} POET's MILP was not: it has at least {decisions} decisions, and is tried up "
            f"to {most}."
        )

    def _ending(self) -> Ending:
        desk = self._desk
        if desk.proven():
            return Ending.PROVEN
        if desk.met():
            return Ending.PROVEN_FOR_ORDER
        if desk.cancelled():
            return Ending.CANCELLED
        if desk.left_seconds() <= 0:
            return Ending.TIME
        return Ending.PATIENCE if desk.out_of_patience() else Ending.EXHAUSTED


def _side_by_side(desk: Desk, *works: Callable[[], None]) -> None:
    """Each in a thread; an error of one ends them all and is raised here."""
    errors: list[BaseException] = []

    def guarded(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  Raised again in the waiting thread.
            errors.append(error)
            desk.abandon()

    threads = [threading.Thread(target=guarded, args=(work,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
