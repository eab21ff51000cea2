"""Which pull request a run was for, as GitHub says it and never as the run says it.

Invariant: the number comes from the API's list of open pull requests; its head is the very commit
and the very repository that the event names, its base is the repository that this job runs for.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from action.github_api import GitHub
from action.problems import ActionError, NothingToDoError
from poet_core.text import printable

_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]{1,100}/[A-Za-z0-9_.-]{1,100}")
_SHA = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_ENDED = ("success", "failure", "timed_out")  # not cancelled, skipped, stale, ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A finished run of the checking workflow. `numbers`: the event's own list of pull requests,
    empty where the head is in a fork."""

    identity: int
    head_sha: str
    head_repository: str
    head_branch: str
    numbers: tuple[int, ...]


def run_of(event: Any, repository: str) -> Run:
    """What a `workflow_run` event is about. Raises ActionError, NothingToDoError."""
    run = event.get("workflow_run") if isinstance(event, Mapping) else None
    if not isinstance(run, Mapping):
        raise ActionError(
            "Expected the event of a finished workflow (`on: workflow_run`).",
            code="event_unexpected",
            hint="This belongs into a workflow of its own; see docs/check.md.",
        )
    if run.get("event") != "pull_request":
        raise NothingToDoError("That run was not for a pull request.")
    if run.get("conclusion") not in _ENDED:
        raise NothingToDoError("That run did not come to an end.")
    own, head = (_name(run.get(key)) for key in ("repository", "head_repository"))
    if own != repository:
        raise ActionError(
            f"Expected a run of {repository}, got one of {printable(own) or 'no repository'}.",
            code="event_unexpected",
        )
    if not head:
        raise NothingToDoError("The repository that the pull request came from is no more.")
    sha, branch, identity = run.get("head_sha"), run.get("head_branch"), run.get("id")
    if not (
        isinstance(sha, str)
        and _SHA.fullmatch(sha)
        and isinstance(branch, str)
        and isinstance(identity, int)
    ):
        raise ActionError("Expected a run with a commit and a branch.", code="event_unexpected")
    listed = run.get("pull_requests")
    numbers = [one.get("number") for one in listed or () if isinstance(one, Mapping)]
    return Run(
        identity=identity,
        head_sha=sha,
        head_repository=head,
        head_branch=branch,
        numbers=tuple(number for number in numbers if isinstance(number, int)),
    )


def pull_request_of(github: GitHub, run: Run, repository: str) -> int:
    """The number of the one open pull request whose head the run checked. Raises ActionError,
    NothingToDoError where there is none or it has moved on."""
    owner = run.head_repository.partition("/")[0]
    found = github.get(
        f"/repos/{repository}/pulls", state="open", head=f"{owner}:{run.head_branch}", per_page=100
    )
    if not isinstance(found, list):
        raise ActionError("Expected a list of pull requests from GitHub.")
    from_there = [one for one in found if _is_between(one, run.head_repository, repository)]
    here = [one for one in from_there if one["head"].get("sha") == run.head_sha]
    if from_there and not here:
        raise NothingToDoError(
            f"The pull request has newer commits than {run.head_sha[:12]}; their run will comment."
        )
    numbers = {one["number"] for one in here} & (set(run.numbers) or {o["number"] for o in here})
    if len(numbers) > 1:
        raise NothingToDoError(
            f"{len(numbers)} open pull requests have the head {run.head_sha[:12]}, "
            "and the event does not say which one was checked."
        )
    if not numbers:
        raise NothingToDoError(f"No open pull request has the head {run.head_sha[:12]}.")
    return int(numbers.pop())


def _is_between(one: Any, head: str, base: str) -> bool:
    return (
        isinstance(one, Mapping)
        and isinstance(one.get("number"), int)
        and one["number"] > 0
        and all(isinstance(one.get(side), Mapping) for side in ("head", "base"))
        and _name(one["head"].get("repo")) == head
        and _name(one["base"].get("repo")) == base
    )


def checked_repository(name: str) -> str:
    """OWNER/NAME. Raises ActionError where `name` is something else."""
    if not _REPOSITORY.fullmatch(name) or ".." in name:
        raise ActionError(
            f"Expected GITHUB_REPOSITORY to be OWNER/NAME, got {printable(name)!r}.",
            code="environment_invalid",
        )
    return name


def _name(repository: Any) -> str:
    """The full name of a repository as the API gives it; empty where there is none."""
    name = repository.get("full_name") if isinstance(repository, Mapping) else None
    return name if isinstance(name, str) and _REPOSITORY.fullmatch(name) else ""
