"""Runs the service in a buildah container, exactly as its image says, and uses it as a client would.

    python3 docker/smoke.py CONTAINER IMAGE

Standard library only: it runs on the host, where nothing of the project need be installed. Exits with a sentence at the
first thing that is not as it should be.
"""

import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from typing import Any

SERVER = "http://127.0.0.1:8080"
START_SECONDS = 60
PLAN_SECONDS = 120
MIB = 2**20
DEVICE = "raspberry-pi-4b"


def training_step(layers: int) -> dict[str, Any]:
    """A chain of layers forward, a loss, the chain backward and one update: 1 MiB a storage, 1 Mflop an op."""
    storages: list[dict[str, Any]] = []
    ops: list[dict[str, Any]] = []

    def storage(name: str, role: str, size_bytes: int = MIB, **flags: bool) -> int:
        storages.append(
            {"id": len(storages), "name": name, "bytes": size_bytes, "role": role, **flags}
        )
        return len(storages) - 1

    def op(name: str, phase: str, reads: list[int], **touches: list[int]) -> None:
        ops.append(
            {
                "id": len(ops),
                "name": name,
                "kind": "smoke",
                "phase": phase,
                "reads": reads,
                "flops": 10**6,
            }
            | ({"recomputable": False} if phase == "update" else {})
            | touches
        )

    weight = storage("weight", "parameter", persistent=True)
    activations = [storage("x", "input")]
    for layer in range(layers):
        activations.append(storage(f"a{layer}", "activation"))
        op(f"forward{layer}", "forward", [activations[-2]], writes=[activations[-1]])
    loss = storage("loss", "result", size_bytes=64, result=True)
    op("loss", "forward", [activations[-1]], writes=[loss])
    gradient = loss
    for layer in reversed(range(layers)):
        reads = [gradient, activations[layer + 1]]
        gradient = storage(f"g{layer}", "gradient")
        op(f"backward{layer}", "backward", reads, writes=[gradient])
    op("update", "update", [gradient], mutates=[weight])
    return {"schema": "poet.graph/1", "name": "smoke", "storages": storages, "ops": ops}


def call(method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """One request: the status and the JSON of the answer, error or not."""
    request = urllib.request.Request(  # noqa: S310  The address is the constant above.
        SERVER + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=PLAN_SECONDS) as answer:  # noqa: S310  As above.
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def expect(holds: bool, sentence: str, got: object) -> None:
    """Stop with a sentence unless it holds."""
    if not holds:
        sys.exit(f"smoke test: {sentence}; got {json.dumps(got, default=str)[:2000]}")


def in_container(container: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command in the container, as the image's user."""
    buildah = ["buildah", "run", "--isolation", "chroot", container, "--", *command]
    return subprocess.run(buildah, capture_output=True, text=True, check=False)


def wait_for_health(server: subprocess.Popen[str], container: str, command: list[str]) -> None:
    """Until the image's own health check passes."""
    deadline = time.monotonic() + START_SECONDS
    while True:
        checked = in_container(container, command)
        if checked.returncode == 0:
            return
        expect(server.poll() is None, "the service ended by itself", server.returncode)
        expect(time.monotonic() < deadline, "the health check never passed", checked.stderr)
        time.sleep(0.5)


def check_plans() -> str:
    """A refusal that says what would fit, then a plan inside a tight budget; returns a line about it."""
    graph = training_step(layers=6)

    def ask(ram_bytes: int) -> tuple[int, Any]:
        body = {"graph": graph, "device": DEVICE, "budget": {"ram_bytes": ram_bytes}}
        return call("POST", "/v1/plans", body)

    status, refusal = ask(1024)
    expect(
        status == 422 and refusal.get("code") == "ram_below_floor",
        "a budget of 1 KiB is refused",
        refusal,
    )
    budget_bytes = refusal["floor_bytes"] + MIB

    status, answer = ask(budget_bytes)
    expect(status == 200, "a budget above the floor gets a plan", answer)
    status, again = call("GET", f"/v1/plans/{answer['id']}")
    expect(status == 200 and again == answer, "the plan can be asked for again", again)

    instructions = answer["plan"]["instructions"]
    computed = {item["op"] for item in instructions if item["do"] == "compute"}
    expect(computed == {item["id"] for item in graph["ops"]}, "every op runs", sorted(computed))
    peak_bytes = answer["plan"]["claims"]["peak_bytes"]
    expect(peak_bytes <= budget_bytes, "the peak is within the budget", peak_bytes)
    return f"{len(instructions)} instructions, peak {peak_bytes} of {budget_bytes} bytes"


def main() -> None:
    """Start, check, stop."""
    container, image = sys.argv[1:]
    inspect = ["buildah", "inspect", "--type", "image", image]
    inspected = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    config = json.loads(inspected)["Docker"]["config"]
    health = config["Healthcheck"]["Test"]
    expect(health[0] == "CMD", "the health check is a command", health)

    uid = in_container(container, ["id", "-u"]).stdout.strip()
    expect(uid.isdigit() and uid != "0", "the service does not run as root", uid)
    torch = in_container(container, ["python3", "-c", "import torch"])
    expect("No module named 'torch'" in torch.stderr, "torch is not in the image", torch.stderr)

    buildah = ["buildah", "run", "--isolation", "chroot", container, "--", *config["Cmd"]]
    with tempfile.TemporaryFile("w+") as log:
        server = subprocess.Popen(buildah, text=True, stdout=log, stderr=subprocess.STDOUT)
        try:
            wait_for_health(server, container, health[1:])
            status, devices = call("GET", "/v1/devices")
            expect(status == 200 and DEVICE in json.dumps(devices), f"{DEVICE} is listed", devices)
            found = check_plans()
        except BaseException:
            log.seek(0)
            print(log.read()[-4000:], file=sys.stderr)
            raise
        finally:
            server.terminate()
            server.wait(timeout=30)
    print(f"smoke test passed as user {uid}: {found}")


if __name__ == "__main__":
    main()
