"""What a run and a transfer add to the objective at least, exactly.

Without overlap every second of a transfer is a second of the step. With overlap a transfer may hide
behind computation, so its seconds count nothing here, neither as time nor as idle power; compute
seconds always count, since the program's clock runs through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from poet_core.plan import Objective, Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Joules or seconds by the problem's objective: `run` by op id, the others by storage id."""

    run: tuple[Fraction, ...]
    page_in: tuple[Fraction, ...]
    page_out: tuple[Fraction, ...]

    @property
    def base(self) -> Fraction:
        """Every op once."""
        return sum(self.run, Fraction(0))


def least_prices(problem: Problem) -> Prices:
    """The prices of a problem; the docstring of the module says what is left out."""
    costs = problem.costs
    idle = Fraction(costs.idle_watts)
    energy = problem.objective is Objective.ENERGY
    hides = problem.budget.overlap

    def priced(
        joules: tuple[float, ...], seconds: tuple[float, ...], *, may_hide: bool
    ) -> tuple[Fraction, ...]:
        shown = [Fraction(0) if may_hide else Fraction(value) for value in seconds]
        if not energy:
            return tuple(shown)
        return tuple(Fraction(j) + idle * s for j, s in zip(joules, shown, strict=True))

    return Prices(
        run=priced(costs.op_joules, costs.op_seconds, may_hide=False),
        page_in=priced(costs.page_in_joules, costs.page_in_seconds, may_hide=hides),
        page_out=priced(costs.page_out_joules, costs.page_out_seconds, may_hide=hides),
    )
