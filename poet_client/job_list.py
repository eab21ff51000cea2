"""The list of a caller's jobs, a page at a time, newest first."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import quote

from poet_client.job_flows import PLANS, Terms, ask_json
from poet_client.views import JobView, invalid, read_view
from poet_client.wire import Deadline, Flow, Request
from poet_core.documents import Limits, Node, refuse
from poet_core.errors import DocumentError, UsageError
from poet_core.text import printable

MOST_A_PAGE = 100
_CURSOR = re.compile(r"[!-~]{1,200}")
_PAGE = Limits(document_bytes=2**22, depth=8, values=100_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPage:
    """Some jobs, without their plans. `following`: what to pass as `before` for older ones; None:
    there are none."""

    jobs: tuple[JobView, ...]
    following: str | None


def job_page(limit: int, before: str | None, terms: Terms, ends: Deadline) -> Flow[JobPage]:
    """A page of at most `limit` jobs. Raises UsageError (`cursor_invalid`, `limit_out_of_range`)."""
    if not 1 <= limit <= MOST_A_PAGE:
        raise UsageError(
            f"Expected 1 to {MOST_A_PAGE} jobs a page, got {limit}.",
            code="limit_out_of_range",
            hint="Ask for the next page with `before`.",
        )
    path = f"{PLANS}?limit={limit}"
    if before is not None:
        path += f"&before={quote(_checked(before), safe='')}"
    request = Request(method="GET", path=path, most_bytes=_PAGE.document_bytes)
    document = yield from ask_json(request, terms, ends, _PAGE)
    try:
        items = list(Node(document.get("jobs"), "$.jobs", _PAGE).items(MOST_A_PAGE))
        for item in items:
            if not isinstance(item.value, dict):
                refuse(item.path, "an object", "something else", code="wrong_type")
        following = document.get("next")
        if following is not None and not _CURSOR.fullmatch(Node(following, "$.next").string()):
            refuse("$.next", "a cursor of printable ASCII", "something else", code="wrong_value")
    except DocumentError as error:
        raise invalid(error) from error
    return JobPage(jobs=tuple(read_view(item.value, _PAGE) for item in items), following=following)


def _checked(before: str) -> str:
    if not _CURSOR.fullmatch(before):
        raise UsageError(
            f"Expected what the page before gave, got {printable(before, 60)!r}.",
            code="cursor_invalid",
            hint="Take `following` of the page before.",
        )
    return before
