"""A worker of `benchmarks.replay_worker`, seen from outside, in a memory group that only counts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from benchmarks.replay_methods import METHODS
from poet_core.errors import ReplayError
from poet_runtime.memory.cgroup import memory_cgroup

_MAPPED_BYTES = 128 << 10  # mallopt(3): where it begins; set, it no longer grows with use


class Other:
    """One method on one model, in a process of its own, without a cap."""

    def __init__(self, model: str, method: str, *, small: bool) -> None:
        self.losses: list[str] = []
        self.random = False  # whether a step draws from the generator
        self._exits = ExitStack()
        try:
            self._group = self._exits.enter_context(memory_cgroup(None))
            self._start(model, method, small=small)
        except BaseException:
            self._exits.close()
            raise

    def _start(self, model: str, method: str, *, small: bool) -> None:
        command = [sys.executable, "-m", "benchmarks.replay_worker", model, method]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
            # Its helpers would live on and be counted as the step's memory.
            "TORCHINDUCTOR_COMPILE_THREADS": "1",
        }
        if METHODS[method].mapped:
            environment["MALLOC_MMAP_THRESHOLD_"] = str(_MAPPED_BYTES)
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the others
        self._exits.callback(self._errors.close)
        self._process = subprocess.Popen(
            self._group.inside([*command, *(["--small"] if small else [])]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
        )
        self._exits.callback(self._end)

    def run(self) -> float:
        """One step; its seconds."""
        answer = self._ask({"do": "step"})
        self.losses.append(answer["loss"])
        self.random = answer["random"]
        return float(answer["seconds"])

    def save(self, path: Path) -> None:
        """Writes the gradients of the first step."""
        self._ask({"do": "save", "path": str(path)})

    def compare(self, reference: Path) -> float:
        """The error of the first step's gradients against saved ones."""
        return float(self._ask({"do": "compare", "path": str(reference)})["error"])

    def fingerprint(self) -> str:
        """Of the whole state."""
        return str(self._ask({"do": "fingerprint"})["fingerprint"])

    def count_from_here(self) -> None:
        """What was compiled, made or read so far is not training's; file cache is nobody's."""
        with suppress(OSError):  # v1 only; elsewhere what is cached stays in the count
            (self._group.directory / "memory.force_empty").write_text("0")
        self._group.reset_peak()

    def peak_bytes(self) -> int:
        """The most that the kernel charged to the process. Raises ReplayError (`no_cgroup`)."""
        peak = self._group.peak_bytes()
        if peak is None:
            raise ReplayError("This kernel does not count a group's peak.", code="no_cgroup")
        return peak

    def close(self) -> None:
        """Ends the process."""
        self._exits.close()

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            status = self._process.wait()
            self._errors.seek(0)
            tail = self._errors.read()[-500:]
            raise ReplayError(f"The process ended with {status}: {tail}", code="worker_failed")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _end(self) -> None:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        with suppress(OSError):
            process.stdin.close()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
