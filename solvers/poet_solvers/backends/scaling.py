"""A model as a solver likes it, and the way back.

Solvers compare against absolute tolerances. So that one tolerance fits joules of a small device and
bytes of a large one alike, `scale` brings every number near one:

    column   a continuous one is counted in units of its largest bound      (x = factor * x')
    row      divided by its largest coefficient
    costs    turned into a minimisation, the largest coefficient near 1e4

Invariant: every factor is a power of two, so scaling loses no bit; integer columns are not scaled.

Why it must be: unscaled, CBC calls an energy optimal that is 4e-5 too high (it stops 1e-5 joules
short), and HiGHS calls models infeasible that are not, when rows count bytes by the billion (no sum
of such doubles comes within 1e-9 of another).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from poet_solvers.backends.model_file import Column, LinearModel, Row

# The largest scaled objective coefficient lies in [2^13, 2^14): its last digits stand clear of the
# solvers' absolute gaps (1e-10 .. 1e-5), and a sum of 1e6 such terms of their infinity (1e20).
_OBJECTIVE_EXPONENT = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class Scaled:
    """The scaled model with what is needed to go from its numbers to the original's and back."""

    model: LinearModel
    column_factors: tuple[float, ...]
    row_factors: tuple[float, ...]
    objective_factor: float
    objective_constant: float

    def objective_back(self, scaled_objective: float) -> float:
        """An objective or bound of the scaled model in the original's units."""
        return scaled_objective / self.objective_factor + self.objective_constant

    def point_back(self, scaled_point: Mapping[int, float]) -> list[float]:
        """The original's columns, in order; a column that the solver left out is 0."""
        return [
            scaled_point.get(index, 0.0) * factor
            for index, factor in enumerate(self.column_factors)
        ]

    def duals_back(self, scaled_duals: Sequence[float]) -> list[float]:
        """Dual values of the scaled model's rows as those of the original's."""
        return [
            value * factor / self.objective_factor
            for value, factor in zip(scaled_duals, self.row_factors, strict=True)
        ]

    def point_forward(self, point: Mapping[int, float]) -> dict[int, float]:
        """A (partial) point of the original as one of the scaled model."""
        return {index: value / self.column_factors[index] for index, value in point.items()}


def scale(model: LinearModel) -> Scaled:
    """Scales columns, then rows, then the objective."""
    factors = tuple(_column_factor(column) for column in model.columns)
    row_factors = tuple(_row_factor(row, factors) for row in model.rows)
    costs = [(index, weight * factors[index]) for index, weight in model.objective]
    objective_factor = math.ldexp(1.0, _OBJECTIVE_EXPONENT - _exponent(costs)) if costs else 1.0
    if model.maximise:
        objective_factor = -objective_factor
    return Scaled(
        model=LinearModel(
            columns=tuple(map(_scaled_column, model.columns, factors)),
            rows=tuple(
                _scaled_row(row, factors, shrink)
                for row, shrink in zip(model.rows, row_factors, strict=True)
            ),
            objective=tuple((index, weight * objective_factor) for index, weight in costs),
            objective_constant=0.0,
            maximise=False,
        ),
        column_factors=factors,
        row_factors=row_factors,
        objective_factor=objective_factor,
        objective_constant=model.objective_constant,
    )


def _column_factor(column: Column) -> float:
    bounds = [abs(bound) for bound in (column.lower, column.upper) if bound]
    if column.integer or not bounds:
        return 1.0
    return math.ldexp(1.0, math.frexp(max(bounds))[1])


def _scaled_column(column: Column, factor: float) -> Column:
    return replace(
        column,
        lower=None if column.lower is None else column.lower / factor,
        upper=None if column.upper is None else column.upper / factor,
    )


def _row_factor(row: Row, factors: tuple[float, ...]) -> float:
    terms = [(index, weight * factors[index]) for index, weight in row.terms]
    return math.ldexp(1.0, -_exponent(terms)) if terms else 1.0


def _scaled_row(row: Row, factors: tuple[float, ...], shrink: float) -> Row:
    return replace(
        row,
        terms=tuple((index, weight * factors[index] * shrink) for index, weight in row.terms),
        right_hand_side=row.right_hand_side * shrink,
    )


def _exponent(terms: list[tuple[int, float]]) -> int:
    """The e with max |weight| in [2^(e-1), 2^e)."""
    return math.frexp(max(abs(weight) for _, weight in terms))[1]
