"""A minimisation over columns in [0, 1] as plain rows, and the exact bound that multipliers prove.

Every row reads sum(coefficient * column) <= right_hand_side. For any multipliers y >= 0 whatsoever

    min cost * x  >=  -y * b + sum over columns of min(0, cost + (y A)),

so a solver's dual values are only a hint: clipped to y >= 0 and put into this sum in exact
arithmetic, the bound does not rest on the solver's word, tolerances or scaling.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import pulp

# Multipliers are rounded to multiples of 2^-40 of a cost: any y >= 0 is valid, and short ones keep
# the fractions short.
_GRAIN_BITS = 40


@dataclass(frozen=True, slots=True)
class Sum:
    """A constant plus columns: what may stand where a decision or a fixed fact stands."""

    constant: int = 0
    columns: tuple[int, ...] = ()

    def __add__(self, other: Sum) -> Sum:
        return Sum(self.constant + other.constant, self.columns + other.columns)

    def at(self, point: Sequence[float]) -> float:
        """Its value at a point given by column."""
        return self.constant + sum(point[column] for column in self.columns)


ZERO, ONE = Sum(), Sum(1)


@dataclass(frozen=True, slots=True)
class Row:
    """sum(coefficient * column) <= right_hand_side, in whole numbers."""

    terms: tuple[tuple[int, int], ...]
    right_hand_side: int


@dataclass(slots=True)
class Rows:
    """The relaxation: costs by column, rows, and which columns are whole numbers in truth."""

    costs: list[Fraction] = field(default_factory=list)
    whole: list[bool] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    contradiction: bool = False

    def column(self, cost: Fraction = Fraction(0), *, whole: bool = True) -> Sum:
        """A new column in [0, 1]."""
        self.costs.append(cost)
        self.whole.append(whole)
        return Sum(0, (len(self.costs) - 1,))

    def at_most(self, smaller: Sum, larger: Sum) -> None:
        """smaller <= larger."""
        self.weighted([(1, smaller), (-1, larger)], 0)

    def weighted(self, terms: Iterable[tuple[int, Sum]], right_hand_side: int) -> None:
        """sum(weight * sum) <= right_hand_side; left out where no point of the box breaks it, and a
        contradiction where every point does."""
        merged: dict[int, int] = {}
        for weight, part in terms:
            right_hand_side -= weight * part.constant
            for column in part.columns:
                merged[column] = merged.get(column, 0) + weight
        if sum(weight for weight in merged.values() if weight > 0) > right_hand_side:
            kept = tuple((column, weight) for column, weight in merged.items() if weight)
            self.contradiction |= sum(min(0, weight) for _, weight in kept) > right_hand_side
            if kept:
                self.rows.append(Row(kept, right_hand_side))

    def to_pulp(self, *, whole: bool) -> pulp.LpProblem:
        """The PuLP model: the relaxation itself, or its LP. Rows are named c0, c1, ..."""
        model = pulp.LpProblem("first_run_relaxation", pulp.LpMinimize)
        variables = [
            model.add_variable(
                f"v{number}", 0, 1, pulp.LpInteger if whole and is_whole else pulp.LpContinuous
            )
            for number, is_whole in enumerate(self.whole)
        ]
        objective = pulp.LpAffineExpression()
        for variable, cost in zip(variables, self.costs, strict=True):
            if cost:
                objective.addterm(variable, float(cost))
        model.setObjective(objective)
        for number, row in enumerate(self.rows):
            left = pulp.LpAffineExpression(constant=-row.right_hand_side)
            for column, weight in row.terms:
                left.addterm(variables[column], weight)
            model.addConstraint(
                pulp.LpConstraint(left, pulp.LpConstraintLE, rhs=0), name=f"c{number}"
            )
        return model

    def multipliers(self, duals: Mapping[str, float]) -> list[Fraction]:
        """A solver's dual values of the rows, by name, as multipliers y >= 0."""
        largest = max((float(cost) for cost in self.costs), default=0.0)
        if largest <= 0:
            return [Fraction(0)] * len(self.rows)
        grain = math.ldexp(1.0, math.frexp(largest)[1] - _GRAIN_BITS)
        return [self._multiplier(row, -duals.get(f"c{n}", 0.0), grain)
                for n, row in enumerate(self.rows)]  # fmt: skip

    @staticmethod
    def _multiplier(row: Row, value: float, grain: float) -> Fraction:
        # A row in bytes has multipliers in joules a byte: its grain is that much finer.
        widest = max(abs(weight) for _, weight in row.terms)
        if not (math.isfinite(value) and value > 0):
            return Fraction(0)
        unit = grain / (1 << (widest.bit_length() - 1))
        return Fraction(round(value / unit)) * Fraction(unit) if unit else Fraction(0)

    def bound(self, multipliers: Sequence[Fraction]) -> Fraction:
        """What the multipliers prove: no point of the box that satisfies the rows costs less."""
        reduced = list(self.costs)
        total = Fraction(0)
        for row, multiplier in zip(self.rows, multipliers, strict=True):
            if multiplier > 0:
                total -= multiplier * row.right_hand_side
                for column, weight in row.terms:
                    reduced[column] += multiplier * weight
        return total + sum((cost for cost in reduced if cost < 0), Fraction(0))


def round_down(value: Fraction) -> float:
    """The largest double that is not above `value`."""
    nearest = float(value)
    return nearest if Fraction(nearest) <= value else math.nextafter(nearest, -math.inf)
