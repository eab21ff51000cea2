"""A planning service in small, on a loopback port: what it answers, and how badly, a test decides.

It keeps no promise of the real one's but the addresses and shapes; `faults` come before everything.
"""

import contextlib
import json
import re
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from poet_core.baseline import keep_everything
from poet_core.documents import parse_json
from poet_core.errors import PoetError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Plan, PlannedBy
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import request_from_document
from poet_core.simulate import simulate


def keep_everything_plan(request):
    """A judged plan for a request in which everything fits."""
    problem = request.problem()
    schedule = keep_everything(problem.graph)
    judgement = simulate(problem.graph, problem.costs, problem.budget, schedule)
    return Plan(
        graph_sha256=graph_sha256(problem.graph),
        device_name=problem.device_name,
        budget=problem.budget,
        objective=problem.objective,
        allowed=problem.allowed,
        costs=problem.costs,
        schedule=schedule,
        claims=judgement.claims,
        planned_by=PlannedBy(
            formulation="keep everything", solver=request.backend, status="done",
            wall_seconds=request.wall_seconds,
        ),
    )  # fmt: skip


def reply(handler, status, body=b"", headers=()):
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    handler.send_response(status)
    for name, value in headers:
        handler.send_header(name, value)
    handler.send_header("Content-Length", str(len(data)))
    handler.end_headers()
    handler.wfile.write(data)


def problem(handler, status, code, headers=(), **more):
    document = {"code": code, "detail": f"It is {code}.", "hint": "Do this.", "kind": "service"}
    reply(handler, status, document | {"status": status} | more, headers)


class FakeJob:
    """A job whose life a test tells: `say` an event, `end` it."""

    def __init__(self, job_id, root, request):
        self.job_id, self.root, self.request = job_id, root, request
        self.state, self.plan, self.error, self.discarded = "queued", None, None, False
        self.figures, self.events, self.log, self.points = {}, [], "", []
        self.changed = threading.Condition()

    def say(self, kind, **data):
        with self.changed:
            if "state" in data:
                self.state = data["state"]
            self.figures |= {k: data[k] for k in ("cost", "bound", "gap") if k in data}
            self.events.append((kind, data))
            self.changed.notify_all()

    def end(self, state="finished", plan=None, error=None):
        with self.changed:
            self.plan = plan if plan is not None else self.plan
            self.error = error
        self.say("state", state=state)
        self.say("done", state=state)

    @property
    def ended(self):
        return self.state in {"finished", "failed", "stopped"}

    def document(self):
        found = {"id": self.job_id, "kind": "plan" if self.root == "/v1/plans" else "frontier",
                 "state": self.state, "created_at": 1.0, "error": self.error,
                 "plan": self.plan, "links": {"self": "http://elsewhere/"}}  # fmt: skip
        if self.root == "/v1/frontiers":
            found["points"] = [
                {k: v for k, v in point.items() if k != "plan"} for point in self.points
            ]
        return found | self.figures


class FakeService:
    """`faults`: each takes one request; what it returns true for is answered. `on_job`: what becomes
    of a new job. `seen`: every request as (method, path, headers, body)."""

    def __init__(self, on_job):
        self.on_job, self.faults, self.seen, self.jobs, self.keys = on_job, deque(), [], {}, {}
        self.stream_limits = deque()  # events that each stream sends before it breaks
        self.no_streams = False

    def paths(self, method=None):
        return [path for way, path, *_ in self.seen if method in (None, way)]

    @property
    def job(self):
        """The only job."""
        (found,) = self.jobs.values()
        return found

    def handle(self, handler, body):
        url = urlsplit(handler.path)
        self.seen.append((handler.command, handler.path, dict(handler.headers), body))
        if self.faults and self.faults.popleft()(handler):
            return None
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        if handler.command == "POST":
            return self._post(handler, url.path, body)
        if url.path == "/v1/plans":
            return self._list(handler, query)
        match = re.fullmatch(r"(/v1/(?:plans|frontiers))/([^/]+)(/.*)?", url.path)
        job = self.jobs.get(match[2]) if match else None
        if job is None or job.root != match[1] or job.discarded:
            of_frontiers = match is not None and match[1] == "/v1/frontiers"
            return problem(handler, 404, "frontier_unknown" if of_frontiers else "plan_unknown")
        if handler.command == "DELETE":
            return self._delete(handler, job, query)
        return self._get(handler, job, match[3] or "", query)

    def _post(self, handler, path, body):
        document = parse_json(body)
        known = self.keys.get(handler.headers["Idempotency-Key"])
        if known is None:
            try:
                known = self._new(path, document)
            except PoetError as error:
                return reply(handler, 422, error.to_document() | {"kind": "usage"})
            self.keys[handler.headers["Idempotency-Key"]] = known
            self.on_job(known)
        return reply(handler, 200 if known.ended else 202, known.document())

    def _new(self, path, document):
        start = document.pop("warm_start", None)
        budgets = document.pop("ram_bytes", None)
        if budgets is not None:
            document["budget"]["ram_bytes"] = max(budgets)
        job = FakeJob(f"{len(self.jobs) + 1:032x}", path, request_from_document(document))
        job.warm_start, job.ram_bytes = start, budgets
        self.jobs[job.job_id] = job
        return job

    def _list(self, handler, query):
        jobs = [job.document() | {"plan": None} for job in reversed(self.jobs.values())]
        begin, limit = int(query.get("before", 0)), int(query["limit"])
        more = begin + limit < len(jobs)
        page = {"jobs": jobs[begin : begin + limit], "next": str(begin + limit) if more else None}
        reply(handler, 200, page)

    def _delete(self, handler, job, query):
        if query.get("discard") == "true":
            job.discarded = True
            if not job.ended:
                job.end("stopped")
            return reply(handler, 204)
        if not job.ended:
            job.end("stopped")
        return reply(handler, 200, job.document())

    def _get(self, handler, job, rest, query):
        if rest == "/events":
            return self._stream(handler, job)
        if rest == "/log":
            text = job.log[int(query["offset"]) :][:10]
            after = int(query["offset"]) + len(text)
            done = job.ended and after == len(job.log)
            return reply(handler, 200, {"text": text, "next_offset": after, "done": done})
        if rest == "/plan":
            return (
                problem(handler, 409, "no_plan")
                if job.plan is None
                else reply(handler, 200, job.plan)
            )
        if rest.startswith("/plans/"):
            plans = {point["ram_bytes"]: point.get("plan") for point in job.points}
            plan = plans.get(int(rest.removeprefix("/plans/")))
            return problem(handler, 409, "no_plan") if plan is None else reply(handler, 200, plan)
        ends = time.monotonic() + min(1.0, float(query.get("wait", 0)))
        with job.changed:
            while not job.ended and time.monotonic() < ends:
                job.changed.wait(max(0.0, ends - time.monotonic()))
        return reply(handler, 200, job.document())

    def _stream(self, handler, job):
        if self.no_streams:
            return problem(handler, 429, "too_many_streams")
        most = self.stream_limits.popleft() if self.stream_limits else 10**9
        seq = int(handler.headers.get("Last-Event-ID") or 0)
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
        handler.end_headers()
        handler.wfile.write(b": hello\n\n")
        ends = time.monotonic() + 10
        while most and time.monotonic() < ends:
            with job.changed:
                if len(job.events) == seq:
                    job.changed.wait(0.05)
                news = job.events[seq : seq + most]
            for kind, data in news:
                seq, most = seq + 1, most - 1
                text = f"id: {seq}\nevent: {kind}\ndata: {json.dumps(data)}\n\n"
                handler.wfile.write(text.encode())
                if kind == "done":
                    return None
        return None


@contextlib.contextmanager
def served(handle):
    """`handle(handler, body)` answers what comes to the address."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self):
            body = self.rfile.read(int(self.headers["Content-Length"] or 0))
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                handle(self, body)

        do_POST = do_GET = do_DELETE = answer  # noqa: N815  The library's names.

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def finish(job):
    """A job ends at once, with everything kept."""
    if job.root == "/v1/plans":
        job.end(plan=plan_to_document(keep_everything_plan(job.request)))


@contextlib.contextmanager
def fake_service(on_job=finish):
    """(service, address)"""
    service = FakeService(on_job)
    with served(service.handle) as url:
        yield service, url
