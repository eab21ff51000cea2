"""The exact oracle: least energy of any schedule, by a shortest path over judge states.

The states and the arcs between them are those of `judge_states`. Which persistent storages begin in
RAM, flash or both is a decision too: every choice is searched. Time must add up (no overlap, or
transfers that take none); flash limits are not modelled.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass

from poet_core.costs import Costs
from poet_core.graph import TrainingGraph
from poet_core.plan import Budget, Instruction, Schedule
from tests.oracles.judge_states import Rules, State


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The least energy and a schedule that reaches it. `states`: how many were settled."""

    energy_joules: float
    schedule: Schedule
    states: int


class TooLarge(Exception):
    """The search was given up; nothing is known of the least energy."""


def least_energy(
    graph: TrainingGraph,
    costs: Costs,
    budget: Budget,
    *,
    given_order: bool = False,
    page: bool = True,
    rematerialize: bool = True,
    most_states: int = 10**9,
) -> Best | None:
    """The schedule of least energy, or None where no schedule fits.

    Raises TooLarge after `most_states` states: a few small graphs have very many.
    """
    return _search(Rules(graph, costs, budget, given_order, page, rematerialize), most_states)


def _search(rules: Rules, most_states: int) -> Best | None:
    """A* over all choices of the start at once; a label is (energy, seconds) at a state.

    The first ending that leaves the queue is the best one.
    """
    limit = rules.budget.step_seconds
    most = rules.budget.energy_joules
    trail: list[tuple[int, tuple[Instruction, ...]]] = []
    queue: list[tuple[float, int, int, float, float, State | int]] = []

    def push(
        energy: float, seconds: float, at: State | int, before: int,
        how: tuple[Instruction, ...],
    ) -> None:  # fmt: skip
        left, progress = 0.0, 99  # of an ending
        if isinstance(at, State):
            left, progress = rules.least_left(at), at.done.bit_count()
            if limit is not None and (
                seconds + rules.seconds_left(at) > limit or closed.get(at, math.inf) <= seconds
            ):
                return
        if limit is not None and seconds > limit:
            return
        if most is not None and energy > most:
            return
        heapq.heappush(queue, (energy + left, -progress, len(trail), energy, seconds, at))
        trail.append((before, how))

    closed: dict[State, float] = {}  # state -> least seconds of a label that was settled
    for number in range(len(rules.starts)):
        first = rules.first_state(number)
        if rules.bytes_of(first.ram) <= rules.room:
            push(0.0, 0.0, first, -1, ())
    while queue:
        _, _, label, energy, seconds, state = heapq.heappop(queue)
        if isinstance(state, int):
            start = rules.starts[state]
            schedule = Schedule(
                start_ram=tuple(sorted(start.ram)),
                start_flash=tuple(sorted(start.flash)),
                instructions=_path(trail, label),
            )
            return Best(energy_joules=energy, schedule=schedule, states=len(closed))
        known = closed.get(state)
        if known is not None and (limit is None or known <= seconds):
            continue
        closed[state] = seconds
        if len(closed) > most_states:
            raise TooLarge
        for more_energy, more_seconds, after, how in rules.arcs(state):
            if limit is not None or isinstance(after, int) or after not in closed:
                push(energy + more_energy, seconds + more_seconds, after, label, how)
    return None


def _path(trail: list[tuple[int, tuple[Instruction, ...]]], label: int) -> tuple[Instruction, ...]:
    parts: list[tuple[Instruction, ...]] = []
    while label >= 0:
        label, instructions = trail[label]
        parts.append(instructions)
    return tuple(one for part in reversed(parts) for one in part)
