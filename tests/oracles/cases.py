"""tests/golden/oracle_cases.json: problems on which the planner meets the exact oracle.

`python -m tests.oracles.cases` looks for them again: random problems whose keep-everything does not
fit, on which the plan of CBC is exactly as cheap as the best schedule in the given order.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

from poet_core.costs import Costs
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan import Allowed, Budget, Problem
from tests.oracles.generate import random_problem
from tests.oracles.planner_checks import ABSOLUTE, MODES, ask_oracle, planned
from tests.oracles.shortest_path import TooLarge

FILE = Path(__file__).parents[1] / "golden" / "oracle_cases.json"
_WANTED = {"both": 24, "page only": 8, "rematerialize only": 8}


@dataclass(frozen=True, slots=True, kw_only=True)
class OracleCase:
    """A problem and its least energies, in the given order and in any."""

    mode: str
    problem: Problem
    given_order_joules: float
    any_order_joules: float


def read_cases() -> list[OracleCase]:
    """The committed cases."""
    return [_from_json(item) for item in json.loads(FILE.read_text(encoding="utf-8"))]


def _from_json(item: dict[str, Any]) -> OracleCase:
    tables: dict[str, Any] = {
        name: value if name == "idle_watts" else tuple(value)
        for name, value in item["costs"].items()
    }
    return OracleCase(
        mode=item["mode"],
        problem=Problem(
            graph=graph_from_document(item["graph"]),
            costs=Costs(**tables),
            budget=Budget(**item["budget"]),
            allowed=Allowed(**item["allowed"]),
        ),
        given_order_joules=item["given_order_joules"],
        any_order_joules=item["any_order_joules"],
    )


def _to_json(case: OracleCase) -> dict[str, Any]:
    return {
        "mode": case.mode,
        "given_order_joules": case.given_order_joules,
        "any_order_joules": case.any_order_joules,
        "budget": asdict(case.problem.budget),
        "allowed": asdict(case.problem.allowed),
        "costs": asdict(case.problem.costs),
        "graph": graph_to_document(case.problem.graph),
    }


def find_cases(seed: int) -> list[OracleCase]:
    """The first problems that qualify, in each mode; none above its neighbours in triviality."""
    rng = Random(seed)
    cases: list[OracleCase] = []
    for mode, wanted in _WANTED.items():
        while sum(case.mode == mode for case in cases) < wanted:
            problem = random_problem(rng, allowed=MODES[mode])
            try:
                oracle = ask_oracle(problem)
            except TooLarge:
                continue
            given, free = oracle.given_order, oracle.any_order
            if given is None or free is None:
                continue
            if given.energy_joules <= problem.costs.base_joules:
                continue
            answer = planned(problem, "cbc", oracle)
            if answer and answer.claims.energy_joules <= given.energy_joules + ABSOLUTE:
                cases.append(
                    OracleCase(
                        mode=mode,
                        problem=problem,
                        given_order_joules=given.energy_joules,
                        any_order_joules=free.energy_joules,
                    )
                )
    return cases


def main() -> None:
    """Write the file anew."""
    lines = ",\n".join(json.dumps(_to_json(case)) for case in find_cases(seed=2))
    FILE.write_text(f"[\n{lines}\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
