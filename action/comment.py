"""Keeps one comment of a pull request at what its last `poet check` said.

    workflow_run event -> the pull request (by GitHub's word) -> the run's artifact (a stranger's)
      -> Report -> markdown written here -> the comment with our marker and our author, or a new one

Invariant: at most one comment is ours, and nobody else's is touched. The artifact chooses numbers
and short escaped texts; neither the pull request, nor the marker, nor an address comes from it.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from action.github_api import TRIES, GitHub
from action.problems import ActionError, NothingToDoError, annotation
from action.pull_request import Run, checked_repository, pull_request_of, run_of
from action.untrusted import LARGEST_ARCHIVE_BYTES, report_in
from poet_core.text import printable

LARGEST_COMMENT = 65_536
"""Of GitHub, in characters; kept in bytes here, of which there are never fewer."""
_LARGEST_EVENT_BYTES = 25 * 2**20  # GitHub's own cap on a webhook's payload
_MOST_PAGES = 50  # 5,000 comments; beyond that a new one would be made at every run
_ARTIFACT = re.compile(r"[A-Za-z0-9._]+(-[A-Za-z0-9._]+)*")  # it stands in an HTML comment


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What the environment says of this job. `author`: the login that our comments have."""

    repository: str
    server: str
    artifact: str
    author: str
    event: Any

    @property
    def marker(self) -> str:
        """The first line of our comment, which the page does not show."""
        return f"<!-- poet-check-comment: {self.artifact} -->"


def main(environment: Mapping[str, str] | None = None) -> int:
    """Run in the job's environment; the exit status."""
    given = os.environ if environment is None else environment
    try:
        print(keep_comment(_github(given), _job(given)))
    except ActionError as error:
        print(annotation(error))
        return 0 if isinstance(error, NothingToDoError) else 1
    return 0


def keep_comment(github: GitHub, job: Job) -> str:
    """Writes the comment; what was done, as a line for the log. Raises ActionError."""
    run = run_of(job.event, job.repository)
    number = pull_request_of(github, run, job.repository)
    refused: ActionError | None = None
    try:
        shown = _shown(github, job, run)
    except ActionError as error:
        if error.code not in _TOLD:
            raise
        refused, shown = error, f"**No report**: {_TOLD[error.code]}\n"
    done = _written(github, job, number, _body(job, run, shown))
    if refused is not None:
        raise refused
    return f"{done} the comment of pull request {number}."


_TOLD = {
    "artifact_missing": "the last run of `poet check` ended without one.",
    "artifact_refused": "the last run left something that is not a report of `poet check`.",
}
"""What the comment says where there is nothing to show: an old verdict must not stay."""


def _shown(github: GitHub, job: Job, run: Run) -> str:
    from poet_cli.check.formats.markdown import render

    return render(report_in(_archive(github, job, run)))


def _archive(github: GitHub, job: Job, run: Run) -> bytes:
    found = github.get(
        f"/repos/{job.repository}/actions/runs/{run.identity}/artifacts",
        name=job.artifact,
        per_page=100,
    )
    listed = found.get("artifacts") if isinstance(found, Mapping) else None
    ours = [
        one
        for one in listed or ()
        if isinstance(one, Mapping)
        and one.get("name") == job.artifact
        and isinstance(one.get("id"), int)
        and one.get("expired") is not True
    ]
    if not ours:
        raise NothingToDoError(
            f"Expected an artifact named {job.artifact} of run {run.identity}, got none.",
            code="artifact_missing",
            hint="`artifact` here and `upload-name` of the checking job must be the same.",
        )
    newest = max(ours, key=lambda one: int(one["id"]))  # a run that was repeated has several
    size = newest.get("size_in_bytes")
    if not isinstance(size, int) or size > LARGEST_ARCHIVE_BYTES:
        raise ActionError(
            f"The artifact was refused: expected at most {LARGEST_ARCHIVE_BYTES} bytes, "
            f"got {printable(str(size))}.",
            code="artifact_refused",
        )
    path = f"/repos/{job.repository}/actions/artifacts/{int(newest['id'])}/zip"
    try:
        return github.download(path, LARGEST_ARCHIVE_BYTES)
    except ActionError as error:
        if error.code != "reply_too_large":
            raise
        raise ActionError(
            f"The artifact was refused: {error.message}", code="artifact_refused"
        ) from error


def _body(job: Job, run: Run, shown: str) -> str:
    log = f"{job.server}/{job.repository}/actions/runs/{run.identity}"
    foot = f"\n<sub>For commit {run.head_sha}, as [its own run]({log}) reports it.</sub>\n"
    return f"{job.marker}\n{_cut(shown, LARGEST_COMMENT - len(job.marker) - len(foot) - 1)}{foot}"


_CUT = "\n\n… the rest did not fit into a comment: see the run.\n"


def _cut(text: str, most_bytes: int) -> str:
    """`text` by whole lines, in at most so many bytes of UTF-8."""
    if len(text.encode()) <= most_bytes:
        return text
    room = most_bytes - len(_CUT.encode())
    lines = text.encode()[:room].decode("utf-8", "ignore").splitlines()
    return "\n".join(lines[:-1]) + _CUT


def _written(github: GitHub, job: Job, number: int, body: str) -> str:
    """Finds our comment and changes it, or makes it. A comment whose making was not answered is
    looked for before it is made again."""
    for _ in range(TRIES):
        ours = next(_ours(github, job, number), None)
        if ours is None:
            path = f"/repos/{job.repository}/issues/{number}/comments"
            if github.post(path, {"body": body}):
                return "Made"
        elif str(ours.get("body")).split() == body.split():  # GitHub may store other line ends
            return "Left as it is:"
        elif github.patch(
            f"/repos/{job.repository}/issues/comments/{int(ours['id'])}", {"body": body}
        ):
            return "Updated"
    raise ActionError("Expected GitHub to take the comment, got no answer each time.")


def _ours(github: GitHub, job: Job, number: int) -> Iterator[Mapping[str, Any]]:
    for page in range(1, _MOST_PAGES + 1):
        found = github.get(
            f"/repos/{job.repository}/issues/{number}/comments", per_page=100, page=page
        )
        if not isinstance(found, list):
            raise ActionError("Expected a list of comments from GitHub.")
        for one in found:
            if _is_ours(one, job):
                yield one
        if len(found) < 100:
            return
    raise ActionError(f"Expected fewer than {_MOST_PAGES * 100} comments, got more.")


def _is_ours(one: Any, job: Job) -> bool:
    if not isinstance(one, Mapping) or not isinstance(one.get("user"), Mapping):
        return False
    body = one.get("body")
    return (
        one["user"].get("login") == job.author
        and isinstance(one.get("id"), int)
        and isinstance(body, str)
        and body.partition("\n")[0].rstrip("\r") == job.marker
    )


def _github(environment: Mapping[str, str]) -> GitHub:
    return GitHub(
        address=_needed(environment, "GITHUB_API_URL"), token=_needed(environment, "GITHUB_TOKEN")
    )


def _job(environment: Mapping[str, str]) -> Job:
    artifact = environment.get("POET_ARTIFACT") or "poet-check"
    if not _ARTIFACT.fullmatch(artifact) or len(artifact) > 100:
        raise ActionError(
            f"Expected an artifact's name of letters, digits, dots and dashes, "
            f"got {printable(artifact)!r}.",
            code="environment_invalid",
        )
    return Job(
        repository=checked_repository(_needed(environment, "GITHUB_REPOSITORY")),
        server=environment.get("GITHUB_SERVER_URL") or "https://github.com",
        artifact=artifact,
        author=environment.get("POET_COMMENT_AUTHOR") or "github-actions[bot]",
        event=_event(Path(_needed(environment, "GITHUB_EVENT_PATH"))),
    )


def _event(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            text = file.read(_LARGEST_EVENT_BYTES + 1)
        return json.loads(text)
    except (OSError, ValueError, RecursionError) as error:
        raise ActionError(
            f"Expected a JSON document in GITHUB_EVENT_PATH: {printable(str(error))}.",
            code="environment_invalid",
        ) from error


def _needed(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise ActionError(
            f"Expected the environment variable {name}, which GitHub gives to a job.",
            code="environment_invalid",
            hint="GITHUB_TOKEN has to be given to the step: env: GITHUB_TOKEN: ${{ github.token }}."
            if name == "GITHUB_TOKEN"
            else "",
        )
    return value


if __name__ == "__main__":
    sys.exit(main())
