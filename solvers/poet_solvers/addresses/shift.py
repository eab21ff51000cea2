"""The same plan with shorter stays in RAM: frees earlier, page_outs earlier, page_ins later.

    compute A .. page_out s .. free s ..            .. page_in t .. compute B (needs t)
    compute A page_out s free s ..                  ..              page_in t compute B

A planner frees what it evicts where room is short, which is often long after the last use; for
addresses each such wait is a wall in the arena. Requires a schedule that the judge accepts.
Ensures: the same computes and transfers, no stay longer than before, and by the judge's word
no second and no joule more (to `ROUNDING`), no more RAM, and within every limit of the budget.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from poet_core.costs import Costs
from poet_core.errors import PlanError
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Do, Instruction, Plan, Schedule
from poet_core.simulate import Judgement, simulate
from poet_core.verify import verify

ROUNDING = 1e-9
"""The sums of seconds and joules in another order differ by rounding."""

_MOST_JUDGED = 64
"""Judgements a call may take: halving finds what may move, and gives up on the rest."""

_Place = tuple[int, int, int]
"""Where an instruction goes: beside which other, before or after it, then as they stood."""

_BEFORE, _SELF, _OUT, _FREE = 0, 1, 2, 3


def shifted(graph: TrainingGraph, plan: Plan) -> Plan:
    """`plan` with its transfers and frees moved, and the judge's claims of that. Raises PlanError
    where the judge refuses `plan`."""
    judgement = verify(graph, plan)
    schedule, judgement = shift_schedule(graph, plan.costs, plan.budget, plan.schedule, judgement)
    return replace(plan, schedule=schedule, claims=judgement.claims)


def shift_schedule(
    graph: TrainingGraph,
    costs: Costs,
    budget: Budget,
    schedule: Schedule,
    judgement: Judgement,
) -> tuple[Schedule, Judgement]:
    """As `shifted`, for a schedule with the judge's figures of it."""
    trial = _Trial(graph, costs, budget, schedule, judgement)
    refused = trial.accept(_shifts(graph, schedule.instructions))
    trial.accept([_Shift(places=shift.weaker) for shift in refused if shift.weaker])
    return trial.schedule, trial.judgement


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shift:
    """One end of one stay: new places of its instructions, and those of less of it, if refused."""

    places: Mapping[int, _Place]
    weaker: Mapping[int, _Place] | None = None


class _Trial:
    """What was accepted so far: the places of what moved, and what the judge says of it."""

    def __init__(
        self,
        graph: TrainingGraph,
        costs: Costs,
        budget: Budget,
        schedule: Schedule,
        judgement: Judgement,
    ) -> None:
        self._graph, self._costs, self._budget = graph, costs, budget
        self._given, self._limit = schedule, judgement
        self._places: dict[int, _Place] = {}
        self._left = _MOST_JUDGED
        self.schedule, self.judgement = schedule, judgement

    def accept(self, shifts: Sequence[_Shift]) -> list[_Shift]:
        """Take all of `shifts` that the judge agrees to, halving where it refuses; the others."""
        if not shifts or not self._left:
            return list(shifts)
        if self._agreed(shifts):
            return []
        if len(shifts) == 1:
            return list(shifts)
        middle = len(shifts) // 2
        return self.accept(shifts[:middle]) + self.accept(shifts[middle:])

    def _agreed(self, shifts: Sequence[_Shift]) -> bool:
        self._left -= 1
        places = dict(self._places)
        for shift in shifts:
            places.update(shift.places)
        schedule = _reordered(self._given, places)
        try:
            judgement = simulate(self._graph, self._costs, self._budget, schedule)
        except PlanError:
            return False
        given = self._limit
        if (
            judgement.peak_bytes > given.peak_bytes
            or judgement.step_seconds > given.step_seconds * (1 + ROUNDING)
            or judgement.energy_joules > given.energy_joules * (1 + ROUNDING)
        ):
            return False
        self._places, self.schedule, self.judgement = places, schedule, judgement
        return True


def _reordered(schedule: Schedule, places: Mapping[int, _Place]) -> Schedule:
    order = sorted(
        range(len(schedule.instructions)),
        key=lambda position: places.get(position, (position, _SELF, position)),
    )
    return replace(
        schedule, instructions=tuple(schedule.instructions[position] for position in order)
    )


def _shifts(graph: TrainingGraph, instructions: Sequence[Instruction]) -> list[_Shift]:
    """Every stay's shorter ends: its page_in right before its first use, its frees (and the
    page_outs before them) right after its last."""
    walk = _Stays()
    for position, instruction in enumerate(instructions):
        if instruction.do is Do.COMPUTE:
            for storage in graph.ops[instruction.target].touches:
                walk.use(position, storage)
        elif instruction.do is Do.PAGE_IN:
            walk.page_in(position, instruction.target)
        elif instruction.do is Do.PAGE_OUT:
            walk.outs.setdefault(instruction.target, []).append(position)
        else:
            walk.free(position, instruction.target)
    for position in walk.waiting.values():
        walk.shifts.append(_Shift(places={position: (len(instructions), _BEFORE, position)}))
    return walk.shifts


class _Stays:
    """By storage: `waiting`, its page_in until a use; its last use; `outs` since then."""

    def __init__(self) -> None:
        self.shifts: list[_Shift] = []
        self.waiting: dict[int, int] = {}
        self.outs: dict[int, list[int]] = {}
        self._last_use: dict[int, int] = {}

    def use(self, position: int, storage: int) -> None:
        begun = self.waiting.pop(storage, None)
        if begun is not None:
            self.shifts.append(_Shift(places={begun: (position, _BEFORE, begun)}))
        self._last_use[storage] = position
        self.outs.pop(storage, None)

    def page_in(self, position: int, storage: int) -> None:
        self.waiting[storage] = position
        self.outs.pop(storage, None)

    def free(self, position: int, storage: int) -> None:
        outs = self.outs.pop(storage, [])
        if self.waiting.pop(storage, None) is not None:
            return  # paged in for nothing: what the planner meant by it is not ours to guess
        used = self._last_use.get(storage, -1)
        places = {out: (used, _OUT, out) for out in outs}
        weaker = {position: (outs[-1], _FREE, position)} if outs else None
        places[position] = (used, _FREE, position)
        self.shifts.append(_Shift(places=places, weaker=weaker))
