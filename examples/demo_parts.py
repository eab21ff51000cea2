"""The processes of the demo: the planning service and the three training runs.

Invariant: each is a process of its own, so a comparison never compares a run with itself, and none
outlives the demo.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from poet_core.errors import ReplayError, ServiceError

_START_SECONDS = 30.0
_ANNOUNCEMENT = "Listening on "


@contextmanager
def planning_service(address: str | None) -> Iterator[str]:
    """The address of a service: the given one, or one started on a free loopback port."""
    if address is not None:
        yield address
        return
    process = subprocess.Popen(
        [sys.executable, "-m", "poet_cli.main", "serve", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # the service's log; what matters to the user comes as errors
        text=True,
    )
    try:
        yield _announced_address(process)
    finally:
        process.terminate()
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _announced_address(process: subprocess.Popen[str]) -> str:
    """`poet serve` prints "Listening on ADDRESS" once it listens."""
    assert process.stdout is not None
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        line = process.stdout.readline()
        if not line:
            break
        if line.startswith(_ANNOUNCEMENT):
            return line.removeprefix(_ANNOUNCEMENT).strip()
    raise ServiceError(
        "The planning service did not start.",
        code="service_not_started",
        hint="Run `.venv/bin/poet serve` to see why.",
    )


def run_worker(
    mode: str, plan_path: Path, report_path: Path, options: argparse.Namespace
) -> dict[str, Any]:
    """Train in another process (`examples.demo_worker`) and return what it reports."""
    command = [sys.executable, "-m", "examples.demo_worker", "--mode", mode]
    command += ["--steps", str(options.steps), "--threads", str(options.threads)]
    command += ["--optimizer", options.optimizer, "--out", str(report_path)]
    command += ["--plan", str(plan_path)]
    finished = subprocess.run(command, check=False, stderr=subprocess.PIPE, text=True)
    if finished.returncode != 0 or not report_path.exists():
        last = (finished.stderr.strip().splitlines() or ["no message"])[-1]
        raise ReplayError(
            f"The {mode} run ended with {finished.returncode}: {last}",
            code="demo_run_failed",
            hint=f"Run `{' '.join(command[1:])}` to see more.",
        )
    report: dict[str, Any] = json.loads(report_path.read_text())
    return report
