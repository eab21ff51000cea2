"""Every address of the service under requests that nobody thought of.

Schemathesis reads /openapi.json, makes requests that obey it and requests that do not, follows the
links from reply to reply, and holds each reply to all of its checks. The service is a process of its
own, over HTTP, so that its memory is its own and a hang is a time-out.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

HERE = Path(__file__).parent
SCHEMATHESIS = Path(sys.executable).with_name("schemathesis")
# A hang, not a slow reply: two busy cores must not fail a property that holds.
SECONDS_FOR_A_REPLY = "120"
# DELETE stops a job and keeps what it has; only ?discard=true takes it away, and this check does not
# tell the two apart.
NOT_MEANT = "use_after_free"


@contextlib.contextmanager
def quick_service(folder):
    """(address, what it says about itself)."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.service.fuzz.quick_server", str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
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


def attack(address, folder, *arguments):
    """Run Schemathesis to its end; a finding fails the test with what it wrote."""
    done = subprocess.run(
        [SCHEMATHESIS, "--config-file", HERE / "schemathesis.toml", "run",
         f"{address}/openapi.json", "--checks", "all", "--exclude-checks", NOT_MEANT,
         "--no-color", "--warnings", "off",
         "--request-timeout", SECONDS_FOR_A_REPLY, "--max-response-time", SECONDS_FOR_A_REPLY,
         "--suppress-health-check", "all", *arguments],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]


def figures(address):
    """({(route, status): requests}, resident bytes) as the service counts them."""
    text = httpx.get(f"{address}/metrics", trust_env=False, timeout=30).text
    requests = {
        (route, int(status)): float(count)
        for route, status, count in re.findall(
            r'^poet_http_requests_total\{method="[A-Za-z]+",route="([^"]*)",status="(\d+)"\} (\S+)$',
            text, re.MULTILINE,
        )
    }  # fmt: skip
    (memory,) = re.findall(r"^process_resident_memory_bytes (\S+)$", text, re.MULTILINE)
    return requests, float(memory)


def check_replies(requests):
    assert not [key for key in requests if key[1] >= 500], requests
    routes = _answering_routes(requests)
    for reached in ("/v1/plans", "/v1/plans/{job_id}", "/v1/plans/{job_id}/events",
                    "/v1/plans:verify", "/v1/frontiers/{job_id}", "/v1/devices:validate"):  # fmt: skip
        assert reached in routes, routes


def _answering_routes(requests):
    """Routes that did not only answer that there is nothing."""
    return {route for route, status in requests if status != 404}


def test_a_few_hundred_requests(tmp_path):
    with quick_service(tmp_path / "state") as address:
        attack(address, tmp_path, "--phases", "examples,fuzzing,stateful", "--seed", "6",
               "--max-examples", "20")  # fmt: skip
        requests, _ = figures(address)
    assert sum(requests.values()) >= 300
    check_replies(requests)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_ten_thousand_requests_leave_nothing_behind(tmp_path):
    resident = []
    with quick_service(tmp_path / "state") as address:
        for seed in ("1", "2", "3"):
            attack(address, tmp_path, "--seed", seed, "--max-examples", "200")
            requests, memory = figures(address)
            resident.append(memory)
    assert sum(requests.values()) >= 10_000
    check_replies(requests)
    # The first run fills caches and pools; after it memory may breathe, not grow.
    assert resident[2] - resident[1] < 32 * 2**20, resident
