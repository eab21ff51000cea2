"""The one error tree. Every error that reaches a user is one of these.

    PoetError                      anything that we say no to, with a stable code
    ├── DocumentError              a JSON or TOML text is not the document that it claims to be
    ├── GraphError                 a training graph contradicts itself
    ├── DeviceError                a device is unknown or its profile contradicts itself
    ├── BudgetError                no plan can meet the budget (always with a proof)
    ├── PlanError                  the judge refuses a plan: which instruction, which storage
    ├── PlanningError              a planner ended without a plan (no proof that none exists)
    ├── TraceError                 a model cannot be traced
    ├── ReplayError                a step could not be carried out as planned
    ├── DataError                  a data or model file is not what it should be
    ├── ServiceError               the planning service refused or could not be reached
    └── UsageError                 a command or a call was used wrongly

An error carries `code` (stable, machine-readable), `message` (expected, got, where), `hint` (what
to do) and `details` (numbers and names that belong to the code, JSON values only).
"""

from __future__ import annotations

from collections.abc import Mapping

Detail = str | int | float | bool | None


class PoetError(Exception):
    """Base of every error of this project; `str()` gives the message and the hint."""

    default_code = "error"

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        hint: str = "",
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        super().__init__(message)
        self.code = code or self.default_code
        self.message = message
        self.hint = hint
        self.details: dict[str, Detail] = dict(details or {})

    def __str__(self) -> str:
        return f"{self.message} Hint: {self.hint}" if self.hint else self.message

    def to_document(self) -> dict[str, Detail]:
        """The error as the JSON object that HTTP replies and `--json` carry."""
        return {**self.details, "code": self.code, "detail": self.message, "hint": self.hint}


class DocumentError(PoetError):
    """A text is not the document that it claims to be; `details['path']` says where."""

    default_code = "document_invalid"


class GraphError(PoetError):
    """A training graph contradicts itself."""

    default_code = "graph_invalid"


class DeviceError(PoetError):
    """A device is unknown or its profile contradicts itself."""

    default_code = "device_invalid"


class BudgetError(PoetError):
    """No plan can meet the budget, and that is proven."""

    default_code = "budget_infeasible"


class PlanError(PoetError):
    """The judge refuses a plan."""

    default_code = "plan_invalid"


class PlanningError(PoetError):
    """A planner ended without a plan; that proves nothing about other planners."""

    default_code = "no_plan_found"


class TraceError(PoetError):
    """A model cannot be traced to a training graph."""

    default_code = "trace_failed"


class ReplayError(PoetError):
    """A training step could not be carried out as planned; the step is void."""

    default_code = "replay_failed"


class DataError(PoetError):
    """A data or model file is not what it should be."""

    default_code = "data_invalid"


class ServiceError(PoetError):
    """The planning service refused a request or could not be reached."""

    default_code = "service_error"


class UsageError(PoetError):
    """A command or a call was used wrongly."""

    default_code = "usage"
