"""A judged plan as what the chart draws: memory, phases, transfers and ops that run again."""

from __future__ import annotations

from poet_cli.chart import Timeline
from poet_core.graph import Phase, TrainingGraph
from poet_core.plan import Do, Plan
from poet_core.simulate import Judgement

BOTH = "backward and update"
"""The part of a plan where a gradient is used up as soon as it is there."""


def timeline_of(graph: TrainingGraph, plan: Plan, judgement: Judgement) -> Timeline:
    """What `judgement` says of `plan`, by the instruction."""
    instructions = plan.schedule.instructions

    def those(do: Do) -> list[int]:
        return [at for at, item in enumerate(instructions) if item.do is do]

    ran: set[int] = set()
    again = []
    for at in those(Do.COMPUTE):
        if instructions[at].target in ran:
            again.append(at)
        ran.add(instructions[at].target)
    return Timeline(
        memory_bytes=judgement.memory_bytes,
        budget_bytes=plan.budget.ram_bytes,
        peak=judgement.peak_instruction,
        peak_bytes=judgement.peak_bytes,
        phases=phase_starts(graph, plan),
        paged_in=those(Do.PAGE_IN),
        paged_out=those(Do.PAGE_OUT),
        again=again,
    )


def phase_starts(graph: TrainingGraph, plan: Plan) -> tuple[tuple[str, int], ...]:
    """Each phase that there is, with its first instruction.

    Forward ops run again amid the backward pass, which begins with its own first op; updates may run
    there too, and then have a part of their own once it has ended.
    """
    phases = {
        at: graph.ops[item.target].phase
        for at, item in enumerate(plan.schedule.instructions)
        if item.do is Do.COMPUTE
    }
    backward = [at for at, phase in phases.items() if phase is Phase.BACKWARD]
    updates = [at for at, phase in phases.items() if phase is Phase.UPDATE]
    last = backward[-1] if backward else -1
    starts = [(str(Phase.FORWARD), 0)]
    if backward:
        starts.append((str(Phase.BACKWARD), backward[0]))
    if updates and updates[0] < last:
        starts.append((BOTH, updates[0]))
    late = next((at for at in updates if at > last), None)
    if late is not None:
        starts.append((str(Phase.UPDATE), late))
    return tuple(starts)
