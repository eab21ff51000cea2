"""The comment's job from its event to the comment, against a GitHub on this machine."""

import re
from html.parser import HTMLParser

import pytest

from action import comment
from poet_cli.check.formats import document
from tests.check.action_parts import entry, failing, job, report, row
from tests.check.github_stub import (
    BOT,
    FORK,
    REPOSITORY,
    SHA,
    TOKEN,
    GitHubStub,
    archive,
    event,
    pull_request,
)


@pytest.fixture
def github():
    stub = GitHubStub(artifact=archive(document.render(report())))
    server = stub.serve()
    yield stub
    server.shutdown()
    server.server_close()


@pytest.fixture
def run(github, tmp_path, capsys, monkeypatch):
    """Runs the job; its exit status and what it printed. `waited` records instead of waiting."""
    waited = []
    make = comment.GitHub
    monkeypatch.setattr(comment, "GitHub", lambda **given: make(**given, wait=waited.append))

    def once(**changes):
        status = comment.main(job(tmp_path, github, **changes))
        return status, capsys.readouterr().out

    once.waited = waited
    return once


def bodies(github):
    return [one["body"] for one in github.comments]


def test_the_first_run_makes_a_comment_and_the_second_updates_it(github, run):
    status, said = run()
    assert (status, said) == (0, "Made the comment of pull request 7.\n")
    [first] = github.comments
    assert first["issue"] == 7
    assert first["body"].startswith("<!-- poet-check-comment: poet-check -->\n")
    assert "mlp on mkr1000" in first["body"]
    assert f"https://github.com/{REPOSITORY}/actions/runs/4242" in first["body"]
    assert SHA in first["body"]

    github.artifact = archive(document.render(report(row(entry=entry(step="nets.wider:step")))))
    status, said = run()
    assert (status, said) == (0, "Updated the comment of pull request 7.\n")
    [second] = github.comments
    assert "wider" in second["body"]
    assert "mlp on mkr1000" not in second["body"]


def test_the_same_again_changes_nothing(github, run):
    run()
    status, said = run()
    assert (status, said) == (0, "Left as it is: the comment of pull request 7.\n")
    assert github.asked("PATCH") == []
    assert len(github.comments) == 1


def test_comments_of_others_are_left_alone(github, run):
    marker = "<!-- poet-check-comment: poet-check -->"
    github.comment(f"{marker}\nforged", login="stranger")
    github.comment(f"quoted:\n{marker}", login=BOT)
    github.comment("<!-- poet-check-comment: another -->\nof another check", login=BOT)
    status, said = run()
    assert (status, said.split()[0]) == (0, "Made")
    assert [len(github.comments), bodies(github)[0]] == [4, f"{marker}\nforged"]
    assert github.asked("PATCH") == []


def test_ours_is_found_behind_two_full_pages(github, run):
    for number in range(230):
        github.comment(f"talk {number}", login="someone")
    run()
    assert run()[1].startswith("Left as it is")
    assert len(github.comments) == 231


def test_two_checks_of_a_workflow_have_a_comment_each(github, run):
    run()
    status, _ = run(POET_ARTIFACT="other")
    assert status == 0
    assert [body.split("\n")[0] for body in bodies(github)] == [
        "<!-- poet-check-comment: poet-check -->",
        "<!-- poet-check-comment: other -->",
    ]


def test_a_pull_request_of_the_same_repository(github, run):
    github.pulls = [pull_request(8, head=REPOSITORY)]
    own = {"head_repository": {"full_name": REPOSITORY}, "pull_requests": [{"number": 8}]}
    assert run(event=event(**own))[1] == "Made the comment of pull request 8.\n"


# --------------------------------------------------------------------------- which pull request


@pytest.mark.parametrize(
    ("pulls", "said"),
    [
        ([], "No open pull request has the head"),
        ([pull_request(sha="b" * 40)], "newer commits"),
        ([pull_request(base="other/nets")], "No open pull request"),
        ([pull_request(head="stranger/nets2")], "No open pull request"),
        ([pull_request(7), pull_request(9)], "does not say which one"),
        ([{"number": 7, "head": {"ref": "wider", "repo": {"full_name": FORK}}}], "No open"),
    ],
    ids=["none", "newer", "other base", "other head", "two", "incomplete"],
)
def test_no_pull_request_to_comment_on(github, run, pulls, said):
    github.pulls = pulls
    status, out = run()
    assert (status, github.comments) == (0, [])
    assert out.startswith("::notice title=poet check::")
    assert said in out


def test_the_events_own_number_decides_between_two(github, run):
    github.pulls = [pull_request(7), pull_request(9)]
    assert run(event=event(pull_requests=[{"number": 9}]))[1].endswith("pull request 9.\n")
    github.comments.clear()
    assert run(event=event(pull_requests=[{"number": 5}]))[0] == 0
    assert github.comments == []


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"event": "push"}, 0, "not for a pull request"),
        ({"conclusion": "cancelled"}, 0, "did not come to an end"),
        ({"head_repository": None}, 0, "is no more"),
        ({"repository": {"full_name": "other/nets"}}, 1, "Expected a run of owner/nets"),
        ({"head_sha": "main; rm -rf"}, 1, "a commit and a branch"),
        ({"id": "4242/../1"}, 1, "a commit and a branch"),
    ],
)
def test_an_event_of_something_else(github, run, change, status, said):
    got, out = run(event=event(**change))
    assert (got, github.comments) == (status, [])
    assert said in out


def test_a_job_of_another_event(github, run):
    status, out = run(event={"pull_request": {"number": 7}})
    assert (status, github.comments) == (1, [])
    assert "on: workflow_run" in out


# --------------------------------------------------------------------------- forged artifacts


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{ no json", "not a report"),
        ('{"pull_request": 1}', "not a report"),
        (b"\xff", "not a report"),
    ],
)
def test_a_forged_report_is_refused(github, run, text, said):
    run()
    github.artifact = archive(text)
    status, out = run()
    assert status == 1
    assert out.startswith("::error title=poet check::The artifact was refused:")
    assert said in out
    [ours] = bodies(github)
    assert "not a report of `poet check`" in ours  # and no old verdict any more
    assert "mkr1000" not in ours


def test_a_huge_artifact_is_not_downloaded(github, run):
    github.claimed_size = 2**31
    status, out = run()
    assert status == 1
    assert "got 2147483648" in out
    assert not [path for path in github.asked("GET") if "/zip" in path]


def test_an_artifact_that_is_larger_than_it_claims(github, run):
    github.artifact = b"\0" * (comment.LARGEST_ARCHIVE_BYTES + 10)
    github.claimed_size = 100
    status, out = run()
    assert status == 1
    assert "The artifact was refused: Expected at most" in out


def test_a_run_without_an_artifact_takes_the_old_verdict_away(github, run):
    run()
    github.artifact = None
    status, out = run()
    assert (status, out.startswith("::notice")) == (0, True)
    assert "ended without one" in bodies(github)[0]
    assert len(github.comments) == 1


HOSTILE = [
    "[click](https://evil.example/x)",
    "![x](https://evil.example/pixel.png)",
    "<img src=https://evil.example/p>",
    "<!-- poet-check-comment: poet-check -->",
    "</details><script>x</script>",
    "a | b | c",
    "line\n\n# Approved by @maintainers\n",
    "`` code `` https://evil.example www.evil.example",
    "@owner/team fixes #1 GH-1 owner/nets#2",
    "\u202eright to left\x1b[31m",
    "::error::x",
    "&lt;b&gt; &#64;all",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_a_report_stays_text(github, run, text):
    hostile = failing(entry=entry(name=text, device=text, step=text), hint=text)
    github.artifact = archive(document.render(report(hostile)))
    status, _ = run()
    [body] = bodies(github)
    assert status == 0
    assert "\x1b" not in body
    assert "\u202e" not in body
    page = Page(body)
    assert page.tags <= Page.HARMLESS
    assert page.links == [f"https://github.com/{REPOSITORY}/actions/runs/4242"]
    assert page.comments == ["poet-check-comment: poet-check", "poet-check"]
    # What GitHub itself would make links of, or call people by, outside of code.
    assert not re.search(r"@\w|#\d|GH-\d|https?:|www\.", page.plain)
    assert "Approved" not in page.plain


class Page(HTMLParser):
    """What a reader gets to see of Markdown."""

    HARMLESS = frozenset({
        "a", "code", "details", "h3", "li", "p", "pre", "strong", "sub", "summary", "table",
        "tbody", "td", "th", "thead", "tr", "ul",
    })  # fmt: skip

    def __init__(self, body):
        from markdown_it import MarkdownIt

        super().__init__()
        self.tags, self.links, self.comments, self.plain = set(), [], [], ""
        self.open = []
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(body))

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.open.append(tag)
        self.links += [value for name, value in attributes if name in ("href", "src")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_comment(self, text):
        self.comments.append(text.strip())

    def handle_data(self, text):
        if not {"code", "pre"} & set(self.open):
            self.plain += text


def test_a_long_report_is_cut(github, run):
    rows = [failing(entry=entry(name=f"model number {number}")) for number in range(2000)]
    github.artifact = archive(document.render(report(*rows)))
    assert run()[0] == 0
    [body] = bodies(github)
    assert 30_000 < len(body) <= 65_536
    assert body.startswith("<!-- poet-check-comment: poet-check -->\n")
    assert SHA in body


# --------------------------------------------------------------------------- the API's bad days


@pytest.mark.parametrize(
    "fault",
    [
        (500, {}),
        (502, {}),
        (403, {"Retry-After": "7"}),
        (429, {}),
        (403, {"X-RateLimit-Remaining": "0", "X-RateLimit-Reset": "1"}),
    ],
)
def test_a_refusal_for_now_is_asked_again(github, run, fault):
    github.faults = [fault]
    assert run()[1] == "Made the comment of pull request 7.\n"
    assert len(run.waited) == 1
    assert run.waited[0] == {403: run.waited[0], 429: 60.0}.get(fault[0], 1.0)
    assert 0 < run.waited[0] <= 60


def test_a_limit_that_lasts_is_told(github, run):
    github.faults = [(403, {"Retry-After": "3600"})]
    status, out = run()
    assert (status, run.waited, github.comments) == (1, [], [])
    assert "got status 403 each time" in out


def test_an_api_that_stays_away_is_given_up(github, run):
    github.faults = [(503, {})] * 50
    status, out = run()
    assert status == 1
    assert "got status 503 each time" in out
    assert sum(run.waited) <= 60


def test_a_comment_whose_making_was_not_answered_is_not_made_twice(github, run):
    github.lost_replies = 1
    assert run()[0] == 0
    assert len(github.comments) == 1


def test_a_token_without_the_right_is_explained(github, run):
    github.faults = [(403, {})]
    status, out = run()
    assert status == 1
    assert "pull-requests: write" in out
    assert run.waited == []


def test_nobody_there(run, nobody_listens):
    status, out = run(GITHUB_API_URL=nobody_listens)
    assert status == 1
    assert "got no answer each time" in out


@pytest.fixture
def nobody_listens():
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening
        yield f"http://127.0.0.1:{taken.getsockname()[1]}"


def test_the_token_goes_to_the_api_only(github, run):
    run()
    sent = {token for _, path, token in github.requests if not path.startswith("/storage/")}
    assert sent == {f"Bearer {TOKEN}"}
    [(_, _, at_storage)] = [one for one in github.requests if one[1].startswith("/storage/")]
    assert at_storage is None


@pytest.mark.parametrize(
    "address", ["http://api.github.com", "ftp://x", "file:///etc/passwd", "https://u:p@x", "x"]
)
def test_an_address_that_is_not_https(run, address):
    status, out = run(GITHUB_API_URL=address)
    assert status == 1
    assert "Expected an https address" in out


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_REPOSITORY", "owner/nets/../x"),
        ("GITHUB_REPOSITORY", ".."),
        ("POET_ARTIFACT", "a --> b"),
        ("POET_ARTIFACT", "../x"),
        ("GITHUB_EVENT_PATH", "no-such-file.json"),
        ("GITHUB_TOKEN", ""),
    ],
)
def test_an_environment_that_makes_no_sense(github, run, name, value):
    status, out = run(**{name: value})
    assert (status, github.requests) == (1, [])
    assert "environment_invalid" in out
