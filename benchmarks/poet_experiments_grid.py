"""Stored results of POET's experiments as a grid that can be asked: who saves how much at what price.

A *cut* is the share of keep-everything's peak by which the least budget lies below it at which a method
has a plan at a price. By the budget and not by the plan's own peak, because every method is asked at the
same budgets and a plan may use all that it is given. Invariant: only plans that the judge accepted
count, and nothing is computed that is not stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from benchmarks.poet_experiments_methods import BASELINES
from benchmarks.poet_experiments_networks import IN_PARTS
from benchmarks.poet_experiments_ours import FOR_TIME, KEEP_EVERYTHING, OURS
from benchmarks.poet_experiments_points import DEVICE, DEVICES, Facts, Result, Scope, Series

ENERGY_RATIO, TIME_RATIO = 1.01, 1.10
"""At most one percent more energy: POET's own claim; and at most a tenth more time."""

ANY_ORDER = "any_order"
MINE = (OURS, FOR_TIME)
OTHERS = tuple(method.name for method in BASELINES)
SCOPE_TITLES = {
    Scope.ACTIVATIONS: "Activations only, as in the paper",
    Scope.SGD: "The whole step with SGD with momentum",
    Scope.ADAM: "The whole step with Adam",
    Scope.PUBLISHED: "POET's own lists of layers",
}
# What a sum of seconds or joules in another order may differ by.
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Best:
    """The plan at the least budget among those asked for. `ram_bytes`: that budget, at most
    keep-everything's peak; `cut`: of that peak, 0 to 1."""

    result: Result
    ram_bytes: int
    cut: float


class Grid:
    """`series` in the order of the run."""

    def __init__(self, facts: Iterable[Facts], results: Iterable[Result]) -> None:
        self.facts = {one.series: one for one in facts}
        self.series = tuple(self.facts)
        self._plans: dict[tuple[Series, str], list[Result]] = {}
        self._all: dict[Series, list[Result]] = {}
        for result in results:
            self._all.setdefault(result.series, []).append(result)
            if result.energy_joules is not None:
                self._plans.setdefault((result.series, result.method), []).append(result)

    def networks(self, *scopes: Scope) -> list[str]:
        """Those of some scopes, in the order of the run, each once."""
        return list(dict.fromkeys(one.network for one in self.series if one.scope in scopes))

    def devices(self, *scopes: Scope) -> list[str]:
        """Those of some scopes, in their usual order."""
        here = {one.device for one in self.series if one.scope in scopes}
        return [device for device in DEVICES if device in here]

    def whole(self) -> list[Series]:
        """Series of traced steps with their ops as they were traced."""
        return [
            one
            for one in self.series
            if one.scope is not Scope.PUBLISHED and not one.network.endswith(IN_PARTS)
        ]

    def plans(self, series: Series, method: str) -> list[Result]:
        """What a method found, loosest budget first."""
        found = self._plans.get((series, method), [])
        return sorted(found, key=lambda one: -one.ram_bytes)

    def at(self, series: Series, label: str, method: str) -> Result | None:
        """What became of a method at a point."""
        return next(
            (r for r in self._all.get(series, ()) if (r.label, r.method) == (label, method)), None
        )

    def on_device(self, series: Series) -> Result | None:
        """Ours with the RAM that the device has."""
        return self.at(series, DEVICE, OURS)

    def extra_energy(self, result: Result) -> float:
        """Percent over keep-everything."""
        assert result.energy_joules is not None
        return 100 * (result.energy_joules / self.facts[result.series].keep_joules - 1)

    def best(
        self,
        series: Series,
        methods: Sequence[str],
        *,
        energy_ratio: float | None = None,
        time_ratio: float | None = None,
        overlap: bool = True,
    ) -> Best | None:
        """The least budget with a plan of no more than so much energy and time; None where none is."""
        facts, found = self.facts[series], list[Result]()
        for method in methods:
            for plan in self._plans.get((series, method), ()):
                assert plan.energy_joules is not None
                seconds = plan.step_seconds if overlap else plan.blocking_seconds
                assert seconds is not None
                if _over(plan.energy_joules, energy_ratio, facts.keep_joules):
                    continue
                if not _over(seconds, time_ratio, facts.keep_seconds):
                    found.append(plan)
        if not found:
            return None
        least = min(found, key=lambda one: (one.ram_bytes, one.energy_joules))
        ram_bytes = min(least.ram_bytes, facts.keep_bytes)
        return Best(result=least, ram_bytes=ram_bytes, cut=1 - ram_bytes / facts.keep_bytes)

    def cheap(self, series: Series, methods: Sequence[str]) -> Best | None:
        """The least budget at one percent more energy."""
        return self.best(series, methods, energy_ratio=ENERGY_RATIO)

    def quick(self, series: Series, methods: Sequence[str], *, overlap: bool = True) -> Best | None:
        """The least budget at a tenth more time."""
        return self.best(series, methods, time_ratio=TIME_RATIO, overlap=overlap)

    def proven_bytes(self, series: Series, energy_ratio: float) -> int:
        """Below or at this no plan exists at such an energy, whatever its order: the floor less one
        byte, or the largest budget with a bound above."""
        facts = self.facts[series]
        over = [
            result.ram_bytes
            for result in self._all.get(series, ())
            if result.bound_joules is not None
            and result.bound_holds_for == ANY_ORDER
            and result.method == OURS
            and _over(result.bound_joules, energy_ratio, facts.keep_joules)
        ]
        return max([facts.floor_bytes - 1, *over])


def _over(value: float, ratio: float | None, base: float) -> bool:
    return ratio is not None and value > ratio * base * (1 + _ROUNDING)


def is_other(method: str) -> bool:
    """Whether a method is neither ours, nor ours with something taken away, nor keep-everything."""
    return method in OTHERS and method != KEEP_EVERYTHING
