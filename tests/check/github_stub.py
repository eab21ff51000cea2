"""As much of GitHub's API as a comment needs, over HTTP on this machine."""

from __future__ import annotations

import contextlib
import io
import json
import re
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REPOSITORY = "owner/nets"
FORK = "stranger/nets"
SHA = "a" * 40
TOKEN = "secret-token"
BOT = "github-actions[bot]"


def pull_request(number=7, *, head=FORK, sha=SHA, base=REPOSITORY):
    return {
        "number": number,
        "state": "open",
        "head": {"sha": sha, "ref": "wider", "repo": {"full_name": head}},
        "base": {"repo": {"full_name": base}},
    }


def event(**changes):
    run = {
        "id": 4242,
        "event": "pull_request",
        "conclusion": "failure",
        "head_sha": SHA,
        "head_branch": "wider",
        "head_repository": {"full_name": FORK},
        "repository": {"full_name": REPOSITORY},
        "pull_requests": [],
    }
    return {"action": "completed", "workflow_run": run | changes}


def archive(text, name="report.json", **more):
    """A zip with one file, and others of `more`."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, text)
        for other, content in more.items():
            file.writestr(other, content)
    return packed.getvalue()


@dataclass
class GitHubStub:
    """Its state, and what it was asked. `faults` are statuses (with headers) that come first."""

    pulls: list = field(default_factory=lambda: [pull_request()])
    comments: list = field(default_factory=list)
    artifact: bytes | None = None
    claimed_size: int | None = None
    faults: list = field(default_factory=list)
    requests: list = field(default_factory=list)  # (method, path, authorization)
    address: str = ""
    lost_replies: int = 0  # comments that are made without an answer

    def asked(self, method):
        return [path for verb, path, _ in self.requests if verb == method]

    def serve(self):
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do(self):
                stub.handle(self)

            do_GET = do_POST = do_PATCH = do  # noqa: N815  http.server's own names.

            def log_message(self, *_):
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        self.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    def handle(self, request):
        parts = urlsplit(request.path)
        query = {key: value[0] for key, value in parse_qs(parts.query).items()}
        length = int(request.headers.get("Content-Length") or 0)
        sent = json.loads(request.rfile.read(length)) if length else None
        token = request.headers.get("Authorization")
        self.requests.append((request.command, request.path, token))
        if parts.path == "/storage/blob":
            return _reply(request, 200, self.artifact)
        if token != f"Bearer {TOKEN}":
            return _reply(request, 401, {"message": "Bad credentials"})
        if self.faults:
            status, headers = self.faults.pop(0)
            return _reply(request, status, {"message": "no"}, headers)
        status, answer, headers = self.answer(request.command, parts.path, query, sent)
        return _reply(request, status, answer, headers)

    def answer(self, verb, path, query, sent):
        base = f"/repos/{REPOSITORY}"
        if (verb, path) == ("GET", f"{base}/pulls"):
            owner, _, branch = query["head"].partition(":")
            heads = [one for one in self.pulls if one["head"]["ref"] == branch]
            found = [o for o in heads if o["head"]["repo"]["full_name"].split("/")[0] == owner]
            return 200, found, {}
        if (verb, path) == ("GET", f"{base}/actions/runs/4242/artifacts"):
            size = self.claimed_size or len(self.artifact or b"")
            one = {"id": 99, "name": "poet-check", "size_in_bytes": size, "expired": False}
            return 200, {"artifacts": [one] if self.artifact is not None else []}, {}
        if (verb, path) == ("GET", f"{base}/actions/artifacts/99/zip"):
            return 302, {}, {"Location": f"{self.address}/storage/blob?signature=x"}
        if match := re.fullmatch(rf"{base}/issues/(\d+)/comments", path):
            number = int(match[1])
            if verb == "GET":
                start = (int(query["page"]) - 1) * int(query["per_page"])
                of_it = [one for one in self.comments if one["issue"] == number]
                return 200, of_it[start : start + int(query["per_page"])], {}
            self.comment(sent["body"], number=number)
            if self.lost_replies:
                self.lost_replies -= 1
                return 502, {"message": "lost"}, {}
            return 201, {"id": 1}, {}
        if verb == "PATCH" and (match := re.fullmatch(rf"{base}/issues/comments/(\d+)", path)):
            for one in self.comments:
                if one["id"] == int(match[1]):
                    one["body"] = sent["body"]
                    return 200, {}, {}
        return 404, {"message": "Not Found"}, {}

    def comment(self, body, *, login=BOT, number=7):
        identity = len(self.comments) + 1
        one = {"id": identity, "body": body, "issue": number, "user": {"login": login}}
        self.comments.append(one)


def _reply(request, status, answer, headers=None):
    body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
    request.send_response(status)
    for name, value in (headers or {}).items():
        request.send_header(name, value)
    request.send_header("Content-Length", str(len(body)))
    request.end_headers()
    with contextlib.suppress(OSError):  # the client may have read as much as it wants
        request.wfile.write(body)
