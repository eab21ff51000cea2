"""Children that misbehave, one life a name; the name is the first word of the request's graph's name.

The warm process forks them as it forks the planner's children: same limits, same leash.
"""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from poet_core.baseline import keep_everything
from poet_core.graph_document import graph_sha256
from poet_core.plan import Bound, Do, HoldsFor, Instruction, Plan, PlannedBy
from poet_core.plan_document import plan_to_document
from poet_core.plan_request import request_from_document
from poet_core.simulate import simulate


def warm_up():
    """Everything is imported above."""


def converse():
    source = os.fdopen(0, "rb", closefd=False)
    asked = json.loads(source.readline())
    name = asked["request"]["graph"]["name"].split()[0]
    return _LIVES[name](asked, source) or 0


def plans(document, number):
    """Plans of falling cost: each pages something out in vain once less than the one before."""
    problem = request_from_document(document).problem()
    kept = keep_everything(problem.graph)
    # What is resident from the start and not in flash may be written there for nothing.
    vain = [Instruction(Do.PAGE_OUT, storage) for storage in kept.start_ram]
    assert len(vain) >= number - 1
    for waste in reversed(range(number)):
        schedule = replace(kept, instructions=(*vain[:waste], *kept.instructions))
        judgement = simulate(
            problem.graph, problem.costs, problem.budget, schedule, problem.allowed
        )
        yield Plan(
            graph_sha256=graph_sha256(problem.graph),
            device_name=problem.device_name,
            budget=problem.budget,
            objective=problem.objective,
            allowed=problem.allowed,
            costs=problem.costs,
            schedule=schedule,
            claims=judgement.claims,
            planned_by=PlannedBy(
                formulation=f"waste {waste}", solver="none", status="done", wall_seconds=0.0
            ),
            bound=Bound(value=1e-9, holds_for=HoldsFor.ANY_ORDER, by="a test"),
        )


def say(kind, **fields):
    os.write(1, json.dumps({"t": kind, **fields}, separators=(",", ":")).encode() + b"\n")


def _answer(asked, _source):
    (plan,) = plans(asked["request"], 1)
    say("done", plan=plan_to_document(plan))


def _start(asked, _source):
    """Answers with what it was given to start from."""
    say("done", plan=asked["warm_start"])


def _steps(asked, _source):
    for plan in plans(asked["request"], 4):
        say("incumbent", plan=plan_to_document(plan))
        say("log", text=f"found by {plan.planned_by.formulation}\nand told\x1b[31m\n")
        time.sleep(0.05)
    say("progress", message="all told")
    say("bound", value=2e-9)
    time.sleep(0.05)
    say("done", plan=plan_to_document(plan))


def _first(asked):
    plan = next(plans(asked["request"], 2))
    say("incumbent", plan=plan_to_document(plan))


def _hold(asked, source):
    """Has a plan, waits to be stopped, has a better one then."""
    _first(asked)
    while source.readline() not in (b"stop\n", b""):
        pass
    _answer(asked, source)


def _deaf(asked, _source):
    _first(asked)
    time.sleep(1000)


def _mute(_asked, _source):
    time.sleep(1000)


def _crash(asked, _source):
    _first(asked)
    os.kill(os.getpid(), signal.SIGKILL)


def _die(_asked, _source):
    sys.stderr.write("I regret nothing\n")
    sys.stderr.flush()
    os.kill(os.getpid(), signal.SIGSEGV)


def _error(asked, _source):
    say("error", error={"code": "not_found_in_time", "detail": "No.", "hint": "Go.",
                        "kind": "planning", "solver": "none"})  # fmt: skip


def _eat(asked, _source):
    """Allocates as native code does that does not look whether it got anything."""
    _first(asked)
    eaten = []
    try:
        while True:
            eaten.append(b"x" * 2**23)
    except MemoryError:
        os.abort()


def _garbage(asked, _source):
    _first(asked)
    os.write(1, b"\x00\xff{]\nSegmentation fault\n")
    time.sleep(1000)


def _nesting(asked, _source):
    os.write(1, b'{"t":"log","text":' + b"[" * 100_000 + b"\n")
    time.sleep(1000)


def _long_line(_asked, _source):
    while True:
        os.write(1, b"x" * 2**16)


def _flood(_asked, _source):
    while True:
        say("progress", message="still here")


def _stderr_flood(_asked, _source):
    while True:
        os.write(2, b"x" * 2**16)


def _cheat(asked, _source):
    (plan,) = plans(asked["request"], 1)
    document = plan_to_document(plan)
    document["claims"]["peak_bytes"] -= 1
    say("done", plan=document)


def _other(asked, _source):
    (plan,) = plans(asked["request"], 1)
    document = plan_to_document(plan)
    document["problem"]["ram_bytes"] += 1
    say("done", plan=document)


def _bound_too_high(asked, _source):
    (plan,) = plans(asked["request"], 1)
    document = plan_to_document(plan)
    document["bound"]["value"] = 1e9
    say("done", plan=document)


def _litter(asked, source):
    """Leaves files, a process of its group and a solver in a session of its own."""
    from poet_solvers.backends.process import private_folder, run_solver

    Path("litter").write_text("x" * 1000)
    subprocess.Popen(["/bin/sleep", "1000"])

    def solver():
        with private_folder() as folder:
            run_solver(
                ["/bin/sleep", "1001"],
                folder=folder, wall_seconds=1000, memory_bytes=None, cancel=None,
            )  # fmt: skip

    threading.Thread(target=solver, daemon=True).start()
    _first(asked)
    time.sleep(1000)


def _look(asked, _source):
    """Writes down what it sees of its surroundings."""
    import resource
    import tempfile

    limits = {
        name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}"))[0]
        for name in ("AS", "CORE", "FSIZE")
    }
    Path("seen.json").write_text(json.dumps({
        "limits": limits, "environment": dict(os.environ), "folder": str(Path.cwd()),
        "temporary": tempfile.gettempdir(), "session": os.getsid(0) == os.getpid(),
        "descriptors": [number for number in range(64) if _is_open(number)],
        "niceness": os.getpriority(os.PRIO_PROCESS, 0),
    }))  # fmt: skip
    _answer(asked, _source)


def _is_open(number):
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


_LIVES = {
    "answer": _answer, "start": _start, "steps": _steps, "hold": _hold, "deaf": _deaf,
    "mute": _mute, "crash": _crash, "die": _die, "error": _error, "eat": _eat,
    "garbage": _garbage, "nesting": _nesting, "long-line": _long_line, "flood": _flood,
    "stderr-flood": _stderr_flood, "cheat": _cheat, "other": _other,
    "bound-too-high": _bound_too_high, "litter": _litter, "look": _look,
}  # fmt: skip
