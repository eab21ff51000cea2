"""Update rules on their way to a worker: which rule, of which group, for which parameters.

    GroupRule       {"kind": [module, name], "group": number, "positions": {name: number}}
    LastCallRule    {"last_call": a rule}              counts the last call of each round only
    MicroBatches    {"micro_batches": places, "calls": number}

Invariant: only rules of this package travel, and they are looked up by name in it.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from poet_core.errors import DocumentError, ReplayError
from poet_runtime.tracing.micro_batches import LastCallRule, MicroBatches
from poet_runtime.update_rule import GroupRule

_PACKAGE = "poet_runtime."


def rules_to_document(rules: Iterable[Any]) -> list[dict[str, Any]]:
    """The rules of a program. Raises ReplayError (`step_not_portable`)."""
    return [_out(rule) for rule in rules]


def rules_from_document(documents: Iterable[Mapping[str, Any]], optimizer: Any) -> list[Any]:
    """The rules, on an optimizer that has the groups they name. Raises DocumentError."""
    documents = list(documents)
    micro_batches = next((_micro_batches_in(d) for d in documents if "micro_batches" in d), None)
    return [_in(document, optimizer, micro_batches) for document in documents]


def inner_rule(rule: Any) -> Any:
    """The rule whose `update` the calls of a program call."""
    return rule._rule if isinstance(rule, LastCallRule) else rule


def micro_batches_of(rules: Sequence[Any]) -> MicroBatches | None:
    """What counts the calls of a round, if gradients are added up over calls."""
    return next((rule for rule in rules if isinstance(rule, MicroBatches)), None)


def _out(rule: Any) -> dict[str, Any]:
    if isinstance(rule, MicroBatches):
        places = {name: list(place) for name, place in rule._places.items()}
        return {"micro_batches": places, "calls": rule._calls}
    if isinstance(rule, LastCallRule):
        return {"last_call": _out(rule._rule)}
    module, name = type(rule).__module__, type(rule).__name__
    if not isinstance(rule, GroupRule) or not module.startswith(_PACKAGE):
        raise ReplayError(
            f"The update rule {name} cannot travel to a worker.",
            code="step_not_portable",
            hint="Train in this process (without isolation).",
        )
    return {"kind": [module, name], "group": rule._group_index, "positions": rule._positions}


def _in(document: Mapping[str, Any], optimizer: Any, micro_batches: MicroBatches | None) -> Any:
    if "micro_batches" in document:
        return micro_batches
    if "last_call" in document:
        if micro_batches is None:
            raise DocumentError("A rule waits for calls that nobody counts.", code="step_invalid")
        return LastCallRule(_in(document["last_call"], optimizer, None), micro_batches)
    module, name = document["kind"]
    kind = getattr(importlib.import_module(module), name) if module.startswith(_PACKAGE) else None
    if not (isinstance(kind, type) and issubclass(kind, GroupRule)):
        raise DocumentError(f"No update rule is called {name!s:.40}.", code="step_invalid")
    return kind(document["group"], document["positions"], optimizer)


def _micro_batches_in(document: Mapping[str, Any]) -> MicroBatches:
    places = {name: (group, at) for name, (group, at) in document["micro_batches"].items()}
    return MicroBatches(places, document["calls"])
