"""Schemathesis against a whole service of its own, over HTTP: its memory is its own, and a hang is a
time-out.

Schemathesis reads /openapi.json, makes requests that obey it and requests that do not, follows the
links from reply to reply, and holds each reply to all of its checks.
"""

from __future__ import annotations

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# A hang, not a slow reply: two busy cores must not fail a property that holds.
SECONDS_FOR_A_REPLY = "120"
# DELETE stops a job and keeps what it has; only ?discard=true takes it away, and this check does not
# tell the two apart.
NOT_MEANT = "use_after_free"
REACHED = (
    "/v1/plans", "/v1/plans/{job_id}", "/v1/plans/{job_id}/events", "/v1/plans:verify",
    "/v1/frontiers/{job_id}", "/v1/devices:validate",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a service says of itself: requests by route and status, and resident bytes."""

    requests: dict[tuple[str, int], int]
    resident_bytes: int

    @property
    def total(self) -> int:
        """Of all requests."""
        return sum(self.requests.values())

    def check(self) -> None:
        """No request failed for want of the service, and the routes that matter did answer."""
        assert not [key for key in self.requests if key[1] >= 500], self.requests
        routes = {route for route, status in self.requests if status != 404}
        assert routes >= set(REACHED), routes


@contextlib.contextmanager
def quick_service(folder: Path) -> Iterator[str]:
    """The address of a service for the block, which must end well and without a complaint."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.fuzz.quick_server", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        address = process.stdout.readline().strip()
        assert address, process.communicate()
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
    assert process.returncode == 0
    # A warning about what was no HTTP may be there; a failure of the service may not.
    assert [line for line in log.splitlines() if json.loads(line)["level"] != "warning"] == []


def attack(address: str, folder: Path, *arguments: str) -> int:
    """Run Schemathesis to its end; the number of its cases. A finding is an AssertionError with
    what it wrote."""
    done = subprocess.run(
        [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run",
         f"{address}/openapi.json", "--checks", "all", "--exclude-checks", NOT_MEANT,
         "--no-color", "--warnings", "off",
         "--request-timeout", SECONDS_FOR_A_REPLY, "--max-response-time", SECONDS_FOR_A_REPLY,
         "--suppress-health-check", "all", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    (cases,) = re.findall(r"^ *([\d,]+) generated", done.stdout, re.MULTILINE)
    return int(cases.replace(",", ""))


def attack_thrice(folder: Path) -> tuple[list[int], Told, int]:
    """Three long runs on one service: the cases of each, what the service says of itself, and the
    bytes that it grew by in the last (the first fills caches and pools)."""
    cases, told = [], []
    with quick_service(folder / "state") as address:
        for seed in ("1", "2", "3"):
            cases.append(attack(address, folder, "--seed", seed, "--max-examples", "200"))
            told.append(tell(address))
    return cases, told[-1], told[-1].resident_bytes - told[-2].resident_bytes


def tell(address: str) -> Told:
    """As the service counts."""
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=30).text
    requests = {
        (route, int(status)): int(float(count))
        for route, status, count in re.findall(
            r'^poet_http_requests_total\{method="[A-Za-z]+",route="([^"]*)",status="(\d+)"\} (\S+)$',
            text, re.MULTILINE,
        )
    }  # fmt: skip
    (memory,) = re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return Told(requests=requests, resident_bytes=int(float(memory)))
