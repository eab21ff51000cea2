"""`poet jobs`: what a service works on for this token: list, show, watch, log, cancel."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from poet_cli.command_group import CommandGroup
from poet_cli.files import write_file
from poet_cli.job_report import event_line, page_document, print_page, print_view, view_document
from poet_cli.options import json_option
from poet_cli.output import print_json
from poet_cli.server_options import ServerChoice, token_options
from poet_core.errors import ServiceError, UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from poet_client import FrontierJob, FrontierView, Job, JobView, PlannerClient

_Command = TypeVar("_Command", bound=Callable[..., Any])
_FOLLOW_SECONDS = 5.0
_NOT_FOUND = 404


@click.group(
    cls=CommandGroup,
    epilog="Examples: poet jobs list; poet jobs watch ID. The server is --server URL or POET_SERVER; "
    "a token is in POET_TOKEN_FILE or POET_TOKEN.",
)
def jobs() -> None:
    """See and stop what a service works on for you.

    The figures are the server's word. A plan that is saved here counts once `poet verify` accepts it.
    """


def _at_a_server(command: _Command) -> _Command:
    command = json_option(token_options(command))
    return click.option(
        "--server", metavar="URL", envvar="POET_SERVER", default="http://127.0.0.1:8080",
        show_default=True, show_envvar=True, help="The service.",
    )(command)  # fmt: skip


def _client(server: str, token: str | None, insecure_token: bool) -> PlannerClient:
    return ServerChoice(
        url=server, token=token, allow_insecure=insecure_token, fallback=False
    ).client()


@jobs.command(
    "list",
    epilog="Examples:\n\n"
    "\b\n"
    "  poet jobs list\n"
    "  poet jobs list --limit 100 --json\n"
    "  poet jobs list --server https://plans.example --before CURSOR",
)
@click.option(
    "--limit", type=click.IntRange(1, 100), default=20, show_default=True, help="Most jobs shown."
)
@click.option("--before", metavar="CURSOR", help="Older ones: what the page before ended with.")
@_at_a_server
def list_jobs(limit: int, before: str | None, as_json: bool, **where: Any) -> None:
    """The newest jobs of this token."""
    page = _client(**where).jobs(limit=limit, before=before)
    if as_json:
        print_json({"ok": True} | page_document(page))
    else:
        print_page(page)


@jobs.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet jobs show 0123456789abcdef0123456789abcdef\n"
    "  poet jobs show 0123456789abcdef0123456789abcdef -o best.plan.json",
)
@click.argument("job_id")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), metavar="FILE",
    help="Save the best plan so far there, not judged yet; - is standard output.",
)  # fmt: skip
@_at_a_server
def show(job_id: str, output: Path | None, as_json: bool, **where: Any) -> None:
    """A job's state and figures."""
    with _client(**where) as client:
        job, view = _found(client, job_id)
        if output is not None:
            document = json.dumps(_plan_document(job), ensure_ascii=True)
            write_file(output, document.encode() + b"\n")
    if as_json:
        print_json({"ok": True} | view_document(view))
    elif str(output) != "-":
        print_view(view)


def _planned(client: PlannerClient, job_id: str) -> Job:
    """The job of that id, which must be a plan's."""
    from poet_client import Job

    job, _ = _found(client, job_id)
    if not isinstance(job, Job):
        raise UsageError(
            "A frontier has no log of its own.",
            code="job_is_frontier",
            hint="`poet jobs watch` shows what happens to its points.",
        )
    return job


def _plan_document(job: Job | FrontierJob) -> dict[str, Any]:
    from poet_client import Job

    if isinstance(job, Job):
        return job.plan_document()
    raise UsageError(
        "A frontier has a plan for every budget, not one.",
        code="job_is_frontier",
        hint="`poet frontier --server URL --plans FOLDER` judges and writes them.",
    )


@jobs.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet jobs watch 0123456789abcdef0123456789abcdef\n"
    "  poet jobs watch 0123456789abcdef0123456789abcdef --json | jq .gap",
)
@click.argument("job_id")
@click.option(
    "--after", default="", metavar="ID", help="Begin after the event of this id (--json shows it)."
)
@_at_a_server
def watch(job_id: str, after: str, as_json: bool, **where: Any) -> None:
    """Follow a job until it ends, a line an event (with --json, a document a line).

    Ctrl-C ends the watching; the job goes on. Fails as the job does.
    """
    with _client(**where) as client:
        job, _ = _found(client, job_id)
        for event in job.events(after=after):
            if as_json:
                print_json({"id": event.event_id, "event": event.kind} | dict(event.data))
            else:
                click.echo(event_line(event))
        view = job.view()
    error = getattr(view, "error", None)  # a frontier has none of its own
    if error is not None:
        raise error


@jobs.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet jobs log 0123456789abcdef0123456789abcdef\n"
    "  poet jobs log 0123456789abcdef0123456789abcdef --follow",
)
@click.argument("job_id")
@click.option("--offset", type=click.IntRange(0, 2**53 - 1), default=0, help="Begin there.")
@click.option("--follow", is_flag=True, help="Until the job has ended.")
@_at_a_server
def log(job_id: str, offset: int, follow: bool, as_json: bool, **where: Any) -> None:
    """What the planner wrote. With --json, a document a piece."""
    with _client(**where) as client:
        job = _planned(client, job_id)
        while True:
            part = job.log(offset)
            if as_json and (part.text or part.done):
                print_json({"text": part.text, "next_offset": part.next_offset, "done": part.done})
            elif not as_json:
                _echo(part.text)
            if part.done or (part.next_offset == offset and not follow):
                return
            if part.next_offset == offset:
                job.view(wait_seconds=_FOLLOW_SECONDS)
            offset = part.next_offset


def _echo(text: str) -> None:
    """A stranger's lines, without what a terminal would obey."""
    lines = text.split("\n")
    click.echo("\n".join(printable(line, 2000) for line in lines), nl=False)


@jobs.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  poet jobs cancel 0123456789abcdef0123456789abcdef             # keeps the best plan so far\n"
    "  poet jobs cancel 0123456789abcdef0123456789abcdef --discard   # and erases it",
)
@click.argument("job_id")
@click.option("--discard", is_flag=True, help="Erase the job and its plan there.")
@_at_a_server
def cancel(job_id: str, discard: bool, as_json: bool, **where: Any) -> None:
    """Stop a job; its best plan so far is kept there unless --discard."""
    with _client(**where) as client:
        job, _ = _found(client, job_id)
        if discard:
            job.discard()
            result: dict[str, Any] = {"id": job_id, "discarded": True}
        else:
            job.stop()
            result = view_document(job.view())
    if as_json:
        print_json({"ok": True} | result)
    elif discard:
        click.echo("erased")
    else:
        click.echo(f"{result['state']}; what was found is kept: poet jobs show {job_id}")


def _found(client: PlannerClient, job_id: str) -> tuple[Job | FrontierJob, JobView | FrontierView]:
    """The job of that id, be it a plan's or a frontier's, and how it is now."""
    try:
        job = client.job(job_id)
        return job, job.view()
    except ServiceError as error:
        if error.details.get("status") != _NOT_FOUND:
            raise
    try:
        frontier = client.frontier_job(job_id)
        return frontier, frontier.view()
    except ServiceError as error:
        if error.details.get("status") != _NOT_FOUND:
            raise
        raise ServiceError(
            "The service has no job of that id for this token, neither a plan's nor a frontier's.",
            code="job_unknown",
            hint="`poet jobs list` shows those that there are; ended ones are erased after a while.",
        ) from error
