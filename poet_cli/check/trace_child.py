"""The child that calls a model's factory and traces its step.

    python -P -m poet_cli.check.trace_child REQUEST LEASH

REQUEST is a JSON file beside which the answer goes: `step`, `batch_size`, `measured` (whether each
op is timed), `memory_bytes`. The answer is `answer.json`, {"graph_sha256"} or {"error"}, and with a
graph `graph.json` and `footprint.json`. Invariant: what the user's code prints goes to the parent's pipe and is no
part of the answer; the process ends with the answer, whatever that code has left running.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poet_cli.check.children import end_session, on_release
from poet_core.errors import PoetError

if TYPE_CHECKING:
    from poet_core.graph import TrainingGraph

REQUEST, ANSWER = "request.json", "answer.json"
GRAPH, FOOTPRINT = "graph.json", "footprint.json"


def main(request_file: str, leash: int) -> None:
    """Answers and ends."""
    from poet_cli.check.footprint import begin
    from poet_cli.check.inputs import footprint_bytes

    on_release(leash, end_session)
    work = Path(request_file).parent
    request = json.loads(Path(request_file).read_bytes())
    _limit(request["memory_bytes"])
    recorder = begin()  # from here on the user's code runs
    recorder.leave_out(work.parent)  # the folder of the whole check, gone when it has ended
    try:
        graph = _traced(request)
    except BaseException as error:  # noqa: BLE001  SystemExit and all that a user's code may raise.
        _print(error)
        answer: dict[str, Any] = {"error": _error(error, request["step"])}
    else:
        answer = _answer(graph, work)
        (work / FOOTPRINT).write_bytes(footprint_bytes(recorder.end()))
    _write(work / ANSWER, answer)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # threads and exit handlers of the user's code are not waited for


def _limit(memory_bytes: int | None) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes is not None:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _traced(request: dict[str, Any]) -> TrainingGraph:
    from poet_cli.loading import load_step

    made = load_step(request["step"], batch_size=request["batch_size"])
    import torch

    from poet_runtime.tracing.trace import trace

    if not request["measured"]:
        # The same graph on every machine, and no quarrel between children over the cores.
        torch.set_num_threads(1)
    program = trace(*made, measure_seconds=request["measured"], name=request["step"])
    return program.graph


def _answer(graph: TrainingGraph, work: Path) -> dict[str, Any]:
    from poet_core.graph_document import graph_sha256, graph_to_document

    document = json.dumps(graph_to_document(graph), ensure_ascii=True)
    (work / GRAPH).write_text(document, encoding="ascii")
    return {"graph_sha256": graph_sha256(graph)}


def _error(error: BaseException, step: str) -> dict[str, Any]:
    """The error as the parent shows it, with what can be pasted."""
    from poet_cli.check.trace_advice import explained

    told = explained(error, step, Path.cwd())
    failed = told.code == "step_failed"
    return {
        "code": told.code,
        "message": told.message,
        "hint": "See the whole traceback: poet check --verbose" if failed else told.hint,
        "internal": not isinstance(error, PoetError) and told.code == "internal",
    }


def _print(error: BaseException) -> None:
    """Into the pipe, for --verbose: what the user's code raised, and not how we said so."""
    shown = error.__cause__ if isinstance(error, PoetError) else error
    if shown is not None:
        traceback.print_exception(shown)


def _write(path: Path, answer: dict[str, Any]) -> None:
    whole = path.with_suffix(".part")
    whole.write_text(json.dumps(answer, ensure_ascii=True), encoding="ascii")
    whole.replace(path)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
