"""Runs the service in a buildah container, exactly as its image says, and uses it as a client would.

    python3 docker/smoke.py CONTAINER IMAGE

Standard library only: it runs on the host, where nothing of the project need be installed. Exits with a sentence at the
first thing that is not as it should be.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SERVER = "http://127.0.0.1:8080"
START_SECONDS = 300
PLAN_SECONDS = 120
MIB = 2**20
DEVICE = "raspberry-pi-4b"
NOBODY = "postgresql://poet@127.0.0.1:1/poet"
# The image's own folders: everything but the state, /tmp and what the kernel shows.
LOOKED_INTO = (
    "/opt",
    "/usr",
    "/etc",
    "/home",
    "/root",
    "/srv",
    "/mnt",
    "/media",
    "/boot",
    "/bin",
    "/lib",
)


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


def call(method: str, path: str, body: Any = None, token: str = "") -> tuple[int, Any]:
    """One request: the status and the JSON of the answer, error or not."""
    headers = {"Content-Type": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(  # noqa: S310  The address is the constant above.
        SERVER + path,
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers=headers,
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """A buildah container and what it is run with: its state and its token lie on the host."""

    name: str
    state: Path
    token_file: Path
    command: list[str]
    health: list[str]

    def run(self, command: list[str], **options: str) -> list[str]:
        """The command line that runs a command in it, as the image's user."""
        environment = {"POET_SERVICE_INITIAL_TOKEN_FILE": "/run/secrets/token", **options}
        return [
            "buildah", "run", "--isolation", "chroot",
            "--volume", f"{self.state}:/var/lib/poet",
            "--volume", f"{self.token_file}:/run/secrets/token:ro",
            *(item for key, value in environment.items() for item in ("--env", f"{key}={value}")),
            self.name, "--", *command,
        ]  # fmt: skip

    def call(self, command: list[str], **options: str) -> subprocess.CompletedProcess[str]:
        """Run a command in it to its end."""
        return subprocess.run(
            self.run(command, **options), capture_output=True, text=True, check=False
        )

    @contextlib.contextmanager
    def served(self) -> Iterator[None]:
        """The service of the image's own command, while its health check passes."""
        with tempfile.TemporaryFile("w+") as log:
            server = subprocess.Popen(
                self.run(self.command), text=True, stdout=log, stderr=subprocess.STDOUT
            )
            try:
                self._wait_for_health(server)
                yield
            except BaseException:
                log.seek(0)
                print(log.read()[-4000:], file=sys.stderr)
                raise
            finally:
                server.terminate()
                server.wait(timeout=30)

    def _wait_for_health(self, server: subprocess.Popen[str]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            checked = self.call(self.health)
            if checked.returncode == 0:
                return
            expect(server.poll() is None, "the service ended by itself", server.returncode)
            expect(time.monotonic() < deadline, "the health check never passed", checked.stderr)
            time.sleep(0.5)


def check_rights(container: Container) -> str:
    """Nobody's rights, nothing that a container need not have; returns the user's number."""
    uid = container.call(["id", "-u"]).stdout.strip()
    expect(uid.isdigit() and uid != "0", "the service does not run as root", uid)
    torch = container.call(["python3", "-c", "import torch"])
    expect("No module named 'torch'" in torch.stderr, "torch is not in the image", torch.stderr)
    # What a read-only root file system would take away is what the user cannot write to anyway.
    looked = container.call(["find", *LOOKED_INTO, "-xdev", "-writable", "!", "-type", "l"])
    expect(not looked.stdout, "only the state and /tmp can be written", looked.stdout)
    worker = ["poet", "worker", "--json"]
    for url, code in ((None, "database_not_shared"), (NOBODY, "database_unavailable")):
        refused = container.call(worker, **({"POET_SERVICE_DATABASE": url} if url else {}))
        expect(code in refused.stdout, f"a worker without a database says {code}", refused.stdout)
    return uid


def check_token(container: Container) -> str:
    """Nobody without the token, everybody with it; returns it."""
    token = container.token_file.read_text(encoding="utf-8").strip()
    for wrong in ("", token[:-1] + ("a" if token[-1] != "a" else "b")):
        status, refused = call("GET", "/v1/devices", token=wrong)
        expect(status == 401, "a request without the token is refused", refused)
    status, devices = call("GET", "/v1/devices", token=token)
    expect(status == 200 and DEVICE in json.dumps(devices), f"{DEVICE} is listed", devices)
    return token


def check_plan(token: str) -> tuple[str, Any]:
    """A refusal that says what would fit, then a job to its end; returns its id and its view."""
    graph = training_step(layers=6)

    def ask(ram_bytes: int) -> tuple[int, Any]:
        body = {"graph": graph, "device": DEVICE, "budget": {"ram_bytes": ram_bytes}}
        return call("POST", "/v1/plans", body | {"planner": {"wall_seconds": 5}}, token)

    status, refusal = ask(1024)
    expect(
        status == 422 and refusal.get("code") == "ram_below_floor",
        "a budget of 1 KiB is refused",
        refusal,
    )
    budget_bytes = refusal["floor_bytes"] + MIB

    status, job = ask(budget_bytes)
    expect(status == 202, "a budget above the floor becomes a job", job)
    deadline = time.monotonic() + PLAN_SECONDS
    while True:
        status, view = call("GET", f"/v1/plans/{job['id']}?wait=10", token=token)
        expect(status == 200, "the job can be asked for", view)
        if view["state"] not in {"queued", "running"}:
            break
        expect(time.monotonic() < deadline, "the job ends", view)
    expect(view["state"] == "finished", "the job ends with a plan", view)

    instructions = view["plan"]["instructions"]
    computed = {item["op"] for item in instructions if item["do"] == "compute"}
    expect(computed == {item["id"] for item in graph["ops"]}, "every op runs", sorted(computed))
    peak_bytes = view["plan"]["claims"]["peak_bytes"]
    expect(peak_bytes <= budget_bytes, "the peak is within the budget", peak_bytes)
    return f"{len(instructions)} instructions, peak {peak_bytes} of {budget_bytes} bytes", view


def main() -> None:
    """Start, check, stop, start again, check what was kept."""
    name, image = sys.argv[1:]
    inspect = ["buildah", "inspect", "--type", "image", image]
    inspected = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout
    config = json.loads(inspected)["Docker"]["config"]
    health = config["Healthcheck"]["Test"]
    expect(health[0] == "CMD", "the health check is a command", health)
    expect("/var/lib/poet" in (config.get("Volumes") or {}), "the state is a volume", config)

    with tempfile.TemporaryDirectory(prefix="poet-smoke-") as folder:
        # Another user's container looks through it; the state inside is that user's alone.
        os.chmod(folder, 0o711)  # noqa: PTH101, S103  As the line above says.
        state, token_file = Path(folder, "state"), Path(folder, "secrets", "token")
        secrets = Path(__file__).with_name("make_secrets.sh")
        subprocess.run([secrets, token_file.parent], check=True, stdout=subprocess.DEVNULL)
        token_file.parent.chmod(0o711)
        state.mkdir(mode=0o700)
        owner = [int(number) for number in config["User"].split(":")]
        os.chown(state, *owner)
        container = Container(
            name=name, state=state, token_file=token_file, command=config["Cmd"], health=health[1:]
        )

        uid = check_rights(container)
        bare = container.call(config["Cmd"], POET_SERVICE_INITIAL_TOKEN_FILE="")
        expect(bare.returncode == 2, "without a token it does not start", bare.stdout + bare.stderr)
        with container.served():
            token = check_token(container)
            found, view = check_plan(token)
        with container.served():
            status, again = call("GET", f"/v1/plans/{view['id']}", token=token)
            expect(status == 200 and again == view, "a restart keeps the plan", again)
    print(f"smoke test passed as user {uid}: {found}, kept over a restart")


if __name__ == "__main__":
    main()
