"""A PuLP model as plain, checked rows and columns, and as the MPS text that every solver reads.

Invariants: every number of a `LinearModel` is finite (infinite bounds are None) and the bounds of
integer columns are whole (HiGHS is lost with 0.4 .. 2.6); the caller's
model is only read; columns and rows are renamed (x0, x1, ..., r0, ...), so no name of the caller
reaches a solver's parser; the text is exact (`repr` of each float, where PuLP writes 12 digits).
What is written is what `scaling` made of the model.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pulp

from poet_core.errors import PlanningError

# A row may be off by this fraction of its largest term: well above the solvers' 1e-9, since
# integer variables are rounded before rows are checked, and far below any missed constraint.
_ROW_TOLERANCE = 1e-6
# A bound of an integer column this close to a whole number means that number.
_WHOLE_TOLERANCE = 1e-9
# MPS for "no bound": CBC takes 1e30 and more for infinite, HiGHS and Gurobi 1e20 and more.
_ABSENT_BOUND = 1e30


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A variable; bounds are None where there is none."""

    name: str
    lower: float | None
    upper: float | None
    integer: bool

    @property
    def is_empty(self) -> bool:
        """Whether no whole number lies in the range."""
        return self.lower is not None and self.upper is not None and self.lower > self.upper


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """sum(coefficient * column) `sense` right_hand_side, sense in "L" (<=), "G" (>=), "E" (=)."""

    name: str
    terms: tuple[tuple[int, float], ...]
    sense: str
    right_hand_side: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearModel:
    """A mixed-integer linear model; `objective` maps column index to coefficient."""

    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    objective: tuple[tuple[int, float], ...]
    objective_constant: float
    maximise: bool

    def objective_of(self, point: Sequence[float]) -> float:
        """The objective at a point given by column."""
        products = [weight * point[index] for index, weight in self.objective]
        return math.fsum([*products, self.objective_constant])

    @property
    def objective_is_bounded(self) -> bool:
        """True when the bounds of the columns alone keep the objective from improving for ever."""
        for index, weight in self.objective:
            wants_less = (weight > 0) != self.maximise
            column = self.columns[index]
            if (column.lower if wants_less else column.upper) is None:
                return False
        return True

    def broken_rule(self, point: Sequence[float]) -> str | None:
        """The first bound or row that `point` breaks by more than the tolerance, in words."""
        for column, value in zip(self.columns, point, strict=True):
            lower = -math.inf if column.lower is None else column.lower
            upper = math.inf if column.upper is None else column.upper
            slack = _ROW_TOLERANCE * max(1.0, abs(value))
            if not lower - slack <= value <= upper + slack:
                return f"{column.name} = {value} is outside its bounds {lower} .. {upper}"
        for row in self.rows:
            products = [weight * point[index] for index, weight in row.terms]
            excess = math.fsum(products) - row.right_hand_side
            largest = max((abs(weight) for _, weight in row.terms), default=1.0)
            terms = max(map(abs, products), default=0.0)
            slack = _ROW_TOLERANCE * max(largest, terms, abs(row.right_hand_side))
            if (row.sense != "G" and excess > slack) or (row.sense != "L" and excess < -slack):
                return f"row {row.name} is off by {excess}"
        return None


def read_model(model: pulp.LpProblem) -> LinearModel:
    """Checks a PuLP model and takes it apart.

    Raises PlanningError(code="model_refused") for a number that is not finite, an empty range, a
    name used twice, no objective, or a special ordered set (the text does not carry those).
    """
    variables = model.variables()
    names = [str(variable.name) for variable in variables]
    if len(set(names)) != len(names):
        repeated = sorted({name for name in names if names.count(name) > 1})
        raise _refused(f"variable names must be unique; used twice: {', '.join(repeated[:3])}")
    if model.objective is None:
        raise _refused("the model has no objective")
    if model.sos1 or model.sos2:
        raise _refused("special ordered sets are not supported")
    index_of = {name: index for index, name in enumerate(names)}
    return LinearModel(
        columns=tuple(_column(variable) for variable in variables),
        rows=tuple(_row(constraint, index_of) for constraint in model.constraints()),
        objective=tuple(_terms(model.objective.items(), index_of, "the objective")),
        objective_constant=_finite(model.objective.constant, "the objective's constant"),
        maximise=model.sense == pulp.LpMaximize,
    )


def write_mps(model: LinearModel) -> str:
    """A minimisation as free MPS text; columns x0, x1, ..., rows r0, r1, ... ."""
    entries: list[list[str]] = [[] for _ in model.columns]
    for index, weight in model.objective:
        entries[index].append(f" x{index} cost {weight!r}")
    for number, row in enumerate(model.rows):
        for index, weight in row.terms:
            entries[index].append(f" x{index} r{number} {weight!r}")
    lines = ["NAME poet", "ROWS", " N cost"]
    lines += [f" {row.sense} r{number}" for number, row in enumerate(model.rows)]
    lines.append("COLUMNS")
    lines += _column_lines(model, entries)
    lines.append("RHS")
    lines += [
        f" RHS r{number} {row.right_hand_side!r}"
        for number, row in enumerate(model.rows)
        if row.right_hand_side != 0
    ]
    lines.append("BOUNDS")
    for index, column in enumerate(model.columns):
        lines += _bound_lines(index, column)
    lines.append("ENDATA")
    return "\n".join(lines) + "\n"


def _column_lines(model: LinearModel, entries: list[list[str]]) -> Iterator[str]:
    """Integer columns stand between MARKER lines; a column in no row still needs one entry."""
    inside = False
    for index, column in enumerate(model.columns):
        if column.integer != inside:
            inside = column.integer
            yield " MARKER 'MARKER' 'INTORG'" if inside else " MARKER 'MARKER' 'INTEND'"
        yield from entries[index] or [f" x{index} cost 0.0"]
    if inside:
        yield " MARKER 'MARKER' 'INTEND'"


def _bound_lines(index: int, column: Column) -> list[str]:
    """Both bounds always said, as numbers: what a reader assumes for an unsaid one differs by
    solver, and CBC stumbles over MI and FR.
    """
    lower = -_ABSENT_BOUND if column.lower is None else column.lower
    upper = _ABSENT_BOUND if column.upper is None else column.upper
    return [f" LO BND x{index} {lower!r}", f" UP BND x{index} {upper!r}"]


def _column(variable: pulp.LpVariable) -> Column:
    name = str(variable.name)
    lower = _bound(variable.lowBound, f"the lower bound of {name}", -math.inf)
    upper = _bound(variable.upBound, f"the upper bound of {name}", math.inf)
    if lower is not None and upper is not None and lower > upper:
        raise _refused(f"{name} has an empty range: {lower} .. {upper}")
    if variable.cat == pulp.LpInteger:
        lower = None if lower is None else float(math.ceil(lower - _slack(lower)))
        upper = None if upper is None else float(math.floor(upper + _slack(upper)))
        return Column(name=name, lower=lower, upper=upper, integer=True)
    return Column(name=name, lower=lower, upper=upper, integer=False)


def _slack(bound: float) -> float:
    return _WHOLE_TOLERANCE * max(1.0, abs(bound))


def _row(constraint: pulp.LpConstraint, index_of: Mapping[str, int]) -> Row:
    name = str(constraint.name)
    senses = {
        pulp.LpConstraintLE: "L",
        pulp.LpConstraintGE: "G",
        pulp.LpConstraintEQ: "E",
    }
    return Row(
        name=name,
        terms=tuple(_terms(constraint.items(), index_of, f"row {name}")),
        sense=senses[constraint.sense],
        right_hand_side=-_finite(constraint.constant, f"the right-hand side of row {name}"),
    )


def _terms(
    items: Iterable[tuple[pulp.LpVariable, float]], index_of: Mapping[str, int], where: str
) -> Iterator[tuple[int, float]]:
    for variable, weight in items:
        value = _finite(weight, f"the coefficient of {variable.name} in {where}")
        if value != 0.0:
            yield index_of[str(variable.name)], value


def _bound(value: float | None, what: str, absent: float) -> float | None:
    if value is None or value == absent:
        return None
    return _finite(value, what)


def _finite(value: float, what: str) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise _refused(f"{what} must be a finite number, got {number}")
    return number + 0.0  # turns -0.0 into 0.0


def _refused(message: str) -> PlanningError:
    return PlanningError(
        f"A model was refused before any solver saw it: {message}.",
        code="model_refused",
        hint="Check the costs, sizes and limits that the model was built from.",
    )
