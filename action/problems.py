"""What the Action says no to, as lines of a job's log.

Invariant: no text is a workflow command but those that are written here: GitHub reads a line that
begins with `::` as an order to itself.
"""

from __future__ import annotations

from poet_core.errors import PoetError


class ActionError(PoetError):
    """The Action cannot go on; `code` and `hint` as of every error of this project."""

    default_code = "action_failed"


class NothingToDoError(ActionError):
    """There is nothing wrong and nothing to comment on."""

    default_code = "nothing_to_do"


def escaped(text: str) -> str:
    """`text` as the message of a workflow command (the rules of @actions/core, `escapeData`)."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def annotation(error: ActionError) -> str:
    """The workflow command that shows an error: a notice where nothing is wrong."""
    kind = "notice" if isinstance(error, NothingToDoError) else "error"
    return f"::{kind} title=poet check::{escaped(f'{error} [{error.code}]')}"
