"""The limits of a step in the relaxation: flash bytes and writes, time, energy, and the second lane.

    writes    bytes of what is saved at least once                                    <= cap
    flash     persistent storages that are ever there, and copies in use at a moment  <= capacity
    time      what runs (and, without overlap, what is transferred) takes             <= limit
              with overlap: what is transferred takes                                 <= limit
    energy    joules, idle power over the compute seconds at least                    <= limit
    lane      with overlap a step is at least as long as its transfers: one column for what they
              take beyond the compute seconds, at the price of a second

Invariant: each row is true of every schedule within the limits. Seconds and joules become whole
numbers, rounded so that a row only gets looser.
"""

from __future__ import annotations

import math
from dataclasses import replace
from fractions import Fraction

from poet_core.plan import Objective, Problem
from poet_solvers.bounds.first_run import FirstRun
from poet_solvers.bounds.prices import least_prices
from poet_solvers.bounds.rows import ZERO, Sum
from poet_solvers.bounds.segments import Segments
from poet_solvers.values import ValueTable

# Real amounts are counted in 2^-40 of the largest: far below any solver's tolerance.
_GRAIN_BITS = 40

Amounts = list[tuple[Fraction, Sum]]


def count_limits(
    problem: Problem, table: ValueTable, segments: Segments, first_run: FirstRun
) -> None:
    """Add the rows of every limit that the problem has."""
    budget, costs, rows = problem.budget, problem.costs, first_run.rows
    if budget.flash_write_bytes is not None:
        rows.weighted(
            [(table.values[v].flash_bytes, saved) for v, saved in first_run.saved.items()],
            budget.flash_write_bytes,
        )
    if budget.flash_bytes is not None:
        _count_flash(problem, table, segments, first_run, budget.flash_bytes)
    compute = [(Fraction(costs.op_seconds[op]), again)
               for (_, op), again in first_run.again.items()]  # fmt: skip
    transfers = _transfers(problem, table, first_run)
    base = sum(map(Fraction, costs.op_seconds), Fraction(0))
    if budget.step_seconds is not None:
        limit = Fraction(budget.step_seconds)
        if budget.overlap:
            _at_most(first_run, compute, _judged(limit) - base)
            _at_most(first_run, transfers, _judged(limit))
        else:
            _at_most(first_run, compute + transfers, _judged(limit) - base)
    if budget.energy_joules is not None:
        _count_energy(problem, table, first_run, Fraction(budget.energy_joules))
    second = Fraction(1) if problem.objective is Objective.TIME else Fraction(costs.idle_watts)
    if budget.overlap and second:
        _count_lane(first_run, compute, transfers, base, second)


def _transfers(problem: Problem, table: ValueTable, first_run: FirstRun) -> Amounts:
    costs, values = problem.costs, table.values
    found = [(Fraction(costs.page_in_seconds[values[v].storage]), page_in)
             for (v, _), page_in in first_run.page_in.items()]  # fmt: skip
    return found + [
        (Fraction(costs.page_out_seconds[values[v].storage]), saved)
        for v, saved in first_run.saved.items()
    ]


def _count_energy(
    problem: Problem, table: ValueTable, first_run: FirstRun, limit: Fraction
) -> None:
    prices = least_prices(replace(problem, objective=Objective.ENERGY))
    values = table.values
    amounts = [(prices.run[op], again) for (_, op), again in first_run.again.items()]
    amounts += [(prices.page_in[values[v].storage], page_in)
                for (v, _), page_in in first_run.page_in.items()]  # fmt: skip
    amounts += [(prices.page_out[values[v].storage], saved)
                for v, saved in first_run.saved.items()]  # fmt: skip
    _at_most(first_run, amounts, _judged(limit) - prices.base)


def _count_lane(
    first_run: FirstRun, compute: Amounts, transfers: Amounts, base: Fraction, second: Fraction
) -> None:
    """The lane's seconds beyond the program's: transfers - compute - base, if that is above 0."""
    span = sum((seconds for seconds, _ in transfers), Fraction(0)) - base
    if span <= 0:
        return
    beyond = first_run.rows.column(second * span, whole=False)
    less = [(-seconds, again) for seconds, again in compute] + [(-span, beyond)]
    _at_most(first_run, transfers + less, base)


def _judged(limit: Fraction) -> Fraction:
    """A limit with room for the judge's sums of floats: one that equals the judge's own figure must
    not be missed by their last digit."""
    return limit + abs(limit) * Fraction(1, 10**9)


def _at_most(first_run: FirstRun, amounts: Amounts, limit: Fraction) -> None:
    """sum(amount * sum) <= limit in whole numbers, never tighter."""
    largest = max((abs(amount) for amount, _ in amounts), default=Fraction(0))
    if not largest:
        return
    exponent = _GRAIN_BITS - math.frexp(float(largest))[1]
    unit = Fraction(2) ** exponent
    terms = [(math.floor(amount * unit), part) for amount, part in amounts]
    first_run.rows.weighted(terms, math.ceil(limit * unit))


def _count_flash(
    problem: Problem, table: ValueTable, segments: Segments, first_run: FirstRun, capacity: int
) -> None:
    """At each checkpoint: what holds its place all step, and copies that are paged in later."""
    rows, graph = first_run.rows, problem.graph
    always: list[tuple[int, Sum]] = []
    for storage, start_flash in first_run.start_flash.items():
        there = rows.column(whole=False)
        rows.at_most(start_flash, there)
        for value in table.values:
            if value.storage == storage and value.id in first_run.saved:
                rows.at_most(first_run.saved[value.id], there)
        always.append((graph.storages[storage].size_bytes, there))
    copies: dict[int, list[tuple[int, Sum]]] = {}
    for (v, index), page_in in first_run.page_in.items():
        value, events = table.values[v], segments.events[v]
        checkpoint = events[index - 1]
        if value.persistent or checkpoint < 0 or events[index] != checkpoint + 1:
            continue
        # Absent at the one checkpoint of the gap and paged in after it: its copy is alive there.
        again = first_run.again.get((events[index], value.producer), ZERO)
        alive = rows.column(whole=False)
        held = first_run.hold[v, index - 1]
        rows.weighted([(1, page_in), (-1, held), (-1, again), (-1, alive)], 0)
        copies.setdefault(checkpoint, []).append((value.flash_bytes, alive))
    for terms in copies.values() if copies else [[]]:
        rows.weighted(always + terms, capacity)
