"""Errors of a solve as documents: what the Store keeps and a client reads.

A document is an error's own (`PoetError.to_document`) and `kind`, its branch of the error tree.
What a child says of its errors is checked like the rest of its words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from poet_core.errors import (
    BudgetError,
    DeviceError,
    DocumentError,
    GraphError,
    PlanningError,
    PoetError,
    ServiceError,
    UsageError,
)
from poet_core.text import printable

_KINDS: tuple[tuple[type[PoetError], str], ...] = (
    (DocumentError, "document"),
    (GraphError, "graph"),
    (DeviceError, "device"),
    (BudgetError, "budget"),
    (UsageError, "usage"),
    (PlanningError, "planning"),
    (ServiceError, "service"),
)
_CODE = re.compile(r"[a-z][a-z0-9_]{0,63}")
_MOST_DETAILS = 32
_MOST_CHARACTERS = 2000


def error_document(error: PoetError) -> dict[str, Any]:
    """The error with its kind. What is the planner's fault and not the client's (a plan that the
    judge refuses) says no more than that."""
    for cls, kind in _KINDS:
        if isinstance(error, cls):
            return {**error.to_document(), "kind": kind}
    return internal_document()


def internal_document() -> dict[str, Any]:
    """What a client hears of a fault of ours; the log has the rest."""
    return {
        "code": "internal",
        "detail": "The planner failed in a way that it should not.",
        "hint": "Ask the operator of this service to look into its log.",
        "kind": "internal",
    }


def checked_document(said: Mapping[str, Any]) -> dict[str, Any] | None:
    """An error document from a child, its strings made safe; None where it is none."""
    if not {"code", "detail", "hint", "kind"} <= said.keys() or len(said) > _MOST_DETAILS:
        return None
    if not isinstance(said["code"], str) or not _CODE.fullmatch(said["code"]):
        return None
    checked: dict[str, Any] = {}
    for name, value in said.items():
        if isinstance(value, str):
            checked[printable(name, 64)] = printable(value, _MOST_CHARACTERS)
        elif value is None or isinstance(value, bool | int | float):
            checked[printable(name, 64)] = value
        else:
            return None
    return checked if checked["kind"] in {"internal", *(kind for _, kind in _KINDS)} else None
