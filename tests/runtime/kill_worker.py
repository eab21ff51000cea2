"""Trains in processes that are killed at chosen points, and resumes: run by test_kills.

    python -m tests.runtime.kill_worker FOLDER SEED KILLS [chain]

Traces once, then forks: one undisturbed run that counts every call (paging writes and reads,
checkpoint writes and syncs, ops, updates), then for each kill a run that kills itself at one of
them and a run that resumes. With `chain`, one run is killed again and again until it ends. Prints
one JSON line for each kill: where, whether it was killed, and the bits that the end has.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.program import OpCall, Program
from poet_runtime.tracing.trace import trace
from tests.runtime.disk_parts import Event, die, scripted
from tests.runtime.replay_parts import hand_made_plan, page_everything
from tests.runtime.step_parts import batches, norm_and_dropout, outcome

STEPS = 7
DATA = batches(norm_and_dropout, STEPS)
Kind = tuple[str, str]


class Life:
    """Counts the calls of one process, and ends it at call `number` of `kind`, on side `side`."""

    def __init__(self, kind: Kind = ("", ""), number: int = -1, side: str = "before") -> None:
        self.kind, self.number, self.side = kind, number, side
        self.seen: Counter[Kind] = Counter()

    def __call__(self, event: Event) -> str:
        name, call = event
        kind = ("paging" if name == "paging file" else "checkpoint", call)
        return self.side if self.arrives(kind) else ""

    def arrives(self, kind: Kind) -> bool:
        self.seen[kind] += 1
        return kind == self.kind and self.seen[kind] - 1 == self.number


def watched(program: Program, life: Life) -> Program:
    """The program with each call under the eyes of `life`."""

    def watch(call: OpCall, kind: Kind) -> OpCall:
        function = call.function

        def run(*args: Any, **kwargs: Any) -> Any:
            now = life.arrives(kind)
            if now and life.side != "after":
                die()
            result = function(*args, **kwargs)
            if now:
                die()
            return result

        return replace(call, function=run)

    kinds = ["update" if op.kind.startswith("poet.") else "op" for op in program.graph.ops]
    calls = [watch(c, ("compute", k)) for c, k in zip(program.calls, kinds, strict=True)]
    return replace(program, calls=tuple(calls))


def train(program: Program, folder: Path, life: Life) -> str:
    """Trains to the end, from the newest checkpoint; the bits that it ends with."""
    model, loss_fn, optimizer = norm_and_dropout()
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    with TrainStep(
        model, loss_fn, optimizer, DATA[0], plan=plan, program=watched(program, life),
        flash_write_bytes=2**40, paging_directory=folder, checkpoint_path=folder / "run",
        checkpoint_every=2, flash=FlashOptions(open_disk=scripted(life)),
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        step.resume()
        while step.steps < STEPS:
            step(*DATA[step.steps])
        return hashlib.sha256(repr(outcome(model, optimizer, ())).encode()).hexdigest()


def forked(work: Callable[[], Any], answer: Path, kill_after_seconds: float | None = None) -> bool:
    """Runs `work` in a process of its own; its result goes to `answer`. Whether it was killed."""
    child = os.fork()
    if not child:
        try:
            answer.write_text(json.dumps(work()))
        except BaseException as error:  # noqa: BLE001 - the parent looks for the answer's text
            answer.write_text(json.dumps(f"{error!r}"))
        os._exit(0)
    if kill_after_seconds is not None:
        time.sleep(kill_after_seconds)
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def main(folder: Path, seed: int, kills: int, *, chain: bool) -> None:
    torch.set_num_threads(1)
    program, chance, answer = trace(*norm_and_dropout(), DATA[0]), random.Random(seed), folder / "a"

    def result_of(work: Callable[[], Any]) -> Any:
        answer.unlink(missing_ok=True)
        assert not forked(work, answer)
        return json.loads(answer.read_text())

    def undisturbed() -> tuple[str, list[tuple[Kind, int]], float]:
        started, life = time.perf_counter(), Life()
        bits = train(program, fresh(folder, "undisturbed"), life)
        return bits, list(life.seen.items()), time.perf_counter() - started

    expected, counted, seconds = result_of(undisturbed)
    counts = {tuple(kind): number for kind, number in counted if kind[1] != "reserve"}
    say(expected=expected)
    kinds = [*sorted(counts), ("clock", "")]
    place = fresh(folder, "chain")
    for kill in range(kills):
        kind = kinds[kill % len(kinds)]
        number = chance.randrange(counts.get(kind, 1))
        if chain:
            number //= 3  # early, so that it takes many lives to get through
        side = chance.choice(
            ["before", "half", "after"] if kind[1] == "write" else ["before", "after"]
        )
        if not chain:
            place = fresh(folder, f"kill-{kill}")
        delay = seconds * chance.random() if kind[0] == "clock" else None
        life = Life(kind, number, side)
        killed = forked(lambda p=place, one=life: train(program, p, one), answer, delay)  # type: ignore[misc]
        found = "" if chain else result_of(lambda p=place: train(program, p, Life()))  # type: ignore[misc]
        say(kind=kind, number=number, side=side, killed=killed, found=found)
    if chain:
        say(found=result_of(lambda: train(program, place, Life())))


def say(**what: Any) -> None:
    """One line for the test."""
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def fresh(folder: Path, name: str) -> Path:
    place = folder / name
    place.mkdir()
    return place


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), chain="chain" in sys.argv)
