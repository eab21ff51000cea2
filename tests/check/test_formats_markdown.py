"""The comment on a pull request: one table, folded details, and nobody's text but as code."""

from __future__ import annotations

import re
from dataclasses import replace

from markdown_it import MarkdownIt

from poet_cli.check.formats.markdown import MARKER, MOST_BYTES, render
from poet_cli.check.report import Report
from tests.check.sample_reports import FITTING, HOSTILE, REPORT, TOO_SMALL, hostile_report


def html_of(text: str) -> str:
    """As GitHub's Markdown: tables, and HTML let through."""
    return str(
        MarkdownIt("commonmark", {"html": True, "linkify": False}).enable("table").render(text)
    )


def outside_of_code(html: str) -> str:
    """What GitHub would look through for mentions, links and references."""
    return re.sub(r"<code[^>]*>.*?</code>", "", html, flags=re.DOTALL)


def test_comment_begins_with_its_mark() -> None:
    assert render(REPORT).splitlines()[0] == MARKER
    assert "❌" in render(REPORT).splitlines()[1]
    assert "✅" in render(Report(rows=(FITTING,))).splitlines()[1]


def test_table_has_a_line_for_each_row_failures_first() -> None:
    html = html_of(render(REPORT, baseline=REPORT))
    rows = re.findall(r"<tr>\n(.*?)</tr>", html, re.DOTALL)[1:]
    assert len(rows) == 4
    assert {row.count("<td") for row in rows} == {11}
    assert "undecided" in rows[0]
    assert "300 MiB" in rows[3]


def test_details_say_what_to_write() -> None:
    shown = render(Report(rows=(TOO_SMALL,)))
    assert "<details open><summary><code>vgg on nrf52840</code>: does not fit</summary>" in shown
    assert 'Fix, in pyproject.toml:12:\n    ram = "340MiB"\n' in shown


def test_hostile_text_is_code_and_breaks_nothing() -> None:
    text = render(hostile_report(), baseline=REPORT)
    html = html_of(text)
    visible = outside_of_code(html)
    for part in (
        "@",
        "evil",
        "script",
        "#1",
        "www",
        "gnp",
        "everyone",
        "stop-commands",
        "<!-- -->",
    ):
        assert part not in visible, part
    assert visible.count("<!--") == 1  # the mark
    assert "<a " not in html
    assert "<script" not in html
    rows = re.findall(r"<tr>\n(.*?)</tr>", html, re.DOTALL)
    assert {row.count("<td") + row.count("<th") for row in rows} == {11}
    assert len(rows) == 1 + 4
    assert html.count("<details") == html.count("</details>") == 3
    assert html.count("<pre>") == 3


def test_fence_is_longer_than_any_run_of_backticks() -> None:
    row = replace(TOO_SMALL, reason="`" * 7, hint="x\n```\n<img src=x>")
    html = html_of(render(Report(rows=(row,))))
    assert html.count("<pre>") == 1
    assert "<img" not in html


def test_comment_is_short_enough_for_github_and_says_what_is_left_out() -> None:
    rows = tuple(
        replace(
            TOO_SMALL,
            entry=replace(TOO_SMALL.entry, name=f"{HOSTILE} {number}"),
            reason=HOSTILE * 3 + 300 * "日本",
        )
        for number in range(500)
    )
    text = render(Report(rows=rows, notes=(HOSTILE,) * 50))
    assert len(text.encode()) <= MOST_BYTES
    assert "more: see the run" in text
    html = html_of(text)
    assert html.count("<details") == html.count("</details>") > 3
