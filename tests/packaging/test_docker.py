"""The image: what can be read off the Dockerfile, how pip's settings reach a build, and (slow) a build that is used."""

import json
import os
import re
import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from tests.packaging.outside import REPOSITORY, run

DOCKER = REPOSITORY / "docker"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))


def instructions(dockerfile: str) -> list[tuple[str, str]]:
    """(keyword, rest) of each instruction, comments gone and continued lines joined."""
    lines = [line for line in dockerfile.splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [
        (keyword.upper(), " ".join(rest.split()))
        for keyword, _, rest in (line.strip().partition(" ") for line in joined.splitlines())
        if keyword
    ]


@pytest.fixture(scope="module")
def every_stage() -> list[tuple[str, str]]:
    return instructions((DOCKER / "Dockerfile").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def image(every_stage: list[tuple[str, str]]) -> dict[str, str]:
    """The last of each instruction in the last stage: what the image is."""
    last = max(index for index, (keyword, _) in enumerate(every_stage) if keyword == "FROM")
    return dict(every_stage[last:])


def test_every_stage_is_built_on_the_base_that_the_argument_names(
    every_stage: list[tuple[str, str]],
) -> None:
    assert every_stage[0] == ("ARG", "BASE_IMAGE=python:3.11-slim")
    bases = [rest.split()[0] for keyword, rest in every_stage if keyword == "FROM"]
    assert bases
    assert set(bases) == {"${BASE_IMAGE}"}


def test_the_image_does_not_run_as_root(image: dict[str, str]) -> None:
    user, _, group = image["USER"].partition(":")
    assert int(user) >= 1000
    assert int(group) >= 1000


def test_the_health_check_asks_the_port_that_the_command_serves(image: dict[str, str]) -> None:
    command = json.loads(image["CMD"])
    port = command[command.index("--port") + 1]
    assert command[:2] == ["poet", "serve"]
    assert image["EXPOSE"] == port
    assert f"http://127.0.0.1:{port}/healthz" in image["HEALTHCHECK"]
    assert "curl" not in image["HEALTHCHECK"]


def test_what_the_image_installs_has_no_torch(every_stage: list[tuple[str, str]]) -> None:
    (extras,) = (
        found.group(1).split()
        for keyword, rest in every_stage
        if keyword == "RUN" and (found := re.search(r"requirements\.py ([^>]*)>", rest))
    )
    listed = run(sys.executable, DOCKER / "requirements.py", *extras, cwd=REPOSITORY)
    assert listed.returncode == 0, listed.stderr
    names = {re.split(r"[^\w-]", line)[0] for line in listed.stdout.split()}
    assert {"pulp", "highspy", "fastapi", "uvicorn"} <= names
    assert not {"torch", "scikit-learn", "pytest"} & names


def test_the_build_is_sent_every_package_and_little_else() -> None:
    sent = {
        line[1:].split("/")[0]
        for line in (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
        if line.startswith("!")
    }
    packages = {
        Path(item).parts[0] for item in PYPROJECT["tool"]["scikit-build"]["wheel"]["packages"]
    }
    assert packages | {"pyproject.toml", "CMakeLists.txt", "constraints.txt", "LICENSE"} <= sent
    assert not {"tests", "benchmarks", "examples", ".git"} & sent


def test_pip_settings_of_this_machine_reach_the_build(tmp_path: Path) -> None:
    wheels = tmp_path / "wheels"
    index = tmp_path / "mirror" / "simple"
    authority = tmp_path / "authority.crt"
    wheels.mkdir()
    index.mkdir(parents=True)
    authority.write_text("a certificate\n", encoding="utf-8")
    out = tmp_path / "out"
    out.mkdir()
    settings = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "https://index.example/simple",
        "PIP_EXTRA_INDEX_URL": f"file://{index} https://other.example/simple",
        "PIP_FIND_LINKS": str(wheels),
        "PIP_CERT": str(authority),
    }
    result = run(sys.executable, DOCKER / "pip_settings.py", out, cwd=tmp_path, **settings)
    assert result.returncode == 0, result.stderr

    written = (out / "pip.conf").read_text(encoding="utf-8").splitlines()
    assert "index-url = https://index.example/simple" in written
    assert f"extra-index-url = file://{index} https://other.example/simple" in written
    assert "cert = /run/secrets/pip_ca" in written
    assert (out / "pip_ca").read_text(encoding="utf-8") == "a certificate\n"
    arguments = result.stdout.split()
    assert f"id=pip_conf,src={out / 'pip.conf'}" in arguments
    assert f"id=pip_ca,src={out / 'pip_ca'}" in arguments
    mirror = index.parent
    assert [item for item in arguments if item.endswith(":ro")] == [
        f"{mirror}:{mirror}:ro",
        f"{wheels}:{wheels}:ro",
    ]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_image_builds_and_serves_a_plan(tmp_path: Path) -> None:
    if shutil.which("buildah") is None:
        pytest.skip("buildah is not here: scripts/system_packages.sh --docker installs it")
    tag = "localhost/poet-planner:test"
    try:
        result = run(DOCKER / "build_and_smoke.sh", tag, cwd=tmp_path, timeout_seconds=840)
        assert result.returncode == 0, result.stdout + result.stderr
        assert "smoke test passed as user 10001" in result.stdout
    finally:
        run("buildah", "rmi", tag, cwd=tmp_path)
