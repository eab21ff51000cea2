"""docker/compose.yaml: a compose file by its specification, and each promise that it makes kept."""

import importlib
import json
import re
import shutil
import stat
from pathlib import Path
from typing import Any

import click
import jsonschema
import pytest
import yaml

from tests.packaging.outside import REPOSITORY, run

DOCKER = REPOSITORY / "docker"
SPECIFICATION = Path(__file__).parent / "compose_spec" / "compose-spec.json"
OURS = ("api", "worker")


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((DOCKER / "compose.yaml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def specification() -> jsonschema.Draft7Validator:
    schema = json.loads(SPECIFICATION.read_text(encoding="utf-8"))
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def seconds(duration: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m)", duration).groups()
    return int(number) * {"s": 1, "m": 60}[unit]


def test_it_is_a_compose_file(
    compose: dict[str, Any], specification: jsonschema.Draft7Validator
) -> None:
    specification.validate(compose)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("services", "api", "cap_drop"), "ALL"),
        (("services", "api", "healthchek"), {}),
        (("services", "worker", "deploy", "resources", "limits", "memory"), 6),
        (("secrets", "token", "path"), "x"),
    ],
)
def test_the_specification_would_notice_a_slip(
    compose: dict[str, Any],
    specification: jsonschema.Draft7Validator,
    path: tuple[str, ...],
    value: object,
) -> None:
    broken = json.loads(json.dumps(compose))
    inner = broken
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    assert not specification.is_valid(broken)


def test_every_name_that_is_used_is_defined(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service["secrets"]) <= set(compose["secrets"])
        assert set(service["networks"]) <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
        for volume in service.get("volumes", ()):
            assert volume.split(":")[0] in compose["volumes"]


@pytest.mark.parametrize("name", OURS)
def test_our_containers_have_nobodys_rights(compose: dict[str, Any], name: str) -> None:
    service = compose["services"][name]
    assert service["user"] == "10001:10001"
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in service
    assert "volumes" not in service
    assert {item.split(":")[0] for item in service["tmpfs"]} == {"/tmp", "/var/lib/poet"}
    assert all("size=" in item for item in service["tmpfs"])


def test_every_service_has_limits_a_health_check_and_time_to_end(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        assert set(service["deploy"]["resources"]["limits"]) == {"cpus", "memory"}
        assert service["pids_limit"] > 0
        assert service["healthcheck"]["test"][0].startswith("CMD")
        assert service["restart"] == "unless-stopped"
        assert seconds(service["stop_grace_period"]) >= 15
        assert service["logging"]["options"]["max-size"]


def test_a_worker_is_not_killed_before_its_own_grace_is_over(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    grace = float(worker["environment"]["POET_SERVICE_WORKER_GRACE_SECONDS"])
    assert seconds(worker["stop_grace_period"]) >= grace + 20


def test_a_workers_solves_fit_into_its_memory(compose: dict[str, Any]) -> None:
    worker = compose["services"]["worker"]
    solves = int(worker["command"][worker["command"].index("--solves") + 1])
    each = int(worker["environment"]["POET_SERVICE_SOLVE_MEMORY_BYTES"].removesuffix("GiB"))
    assert solves * each < int(worker["deploy"]["resources"]["limits"]["memory"].removesuffix("g"))


def test_nothing_secret_is_in_the_file_or_in_an_environment(compose: dict[str, Any]) -> None:
    text = (DOCKER / "compose.yaml").read_text(encoding="utf-8")
    assert not re.search(r"poet_[A-Za-z0-9_-]{43}|postgresql://", text)
    for name, service in compose["services"].items():
        for key, value in service["environment"].items():
            if any(word in key for word in ("PASSWORD", "TOKEN", "DATABASE")):
                assert key.endswith("_FILE"), f"{name}: {key}"
                assert value.removeprefix("/run/secrets/") in service["secrets"]


def test_only_the_api_is_reached_and_only_from_this_machine(compose: dict[str, Any]) -> None:
    assert [name for name, item in compose["services"].items() if "ports" in item] == ["api"]
    assert compose["services"]["api"]["ports"] == ["127.0.0.1:8080:8080"]
    assert compose["networks"]["inside"] == {"internal": True}
    for name in ("worker", "database"):
        assert compose["services"][name]["networks"] == ["inside"]


@pytest.mark.parametrize("name", OURS)
def test_our_settings_exist(compose: dict[str, Any], name: str) -> None:
    fields = importlib.import_module("poet_service.settings").Settings.model_fields
    for key in compose["services"][name]["environment"]:
        assert key.removeprefix("POET_SERVICE_").lower() in fields


@pytest.mark.parametrize("name", OURS)
def test_our_commands_take_their_options(compose: dict[str, Any], name: str) -> None:
    poet, command, *arguments = compose["services"][name]["command"]
    assert poet == "poet"
    cli = importlib.import_module("poet_cli.main").cli
    found = cli.get_command(click.Context(cli), command)
    assert found is not None
    # Parses and checks every option, and runs nothing.
    found.make_context(command, list(arguments)).close()


def test_what_it_is_built_from_is_there(compose: dict[str, Any]) -> None:
    for name in OURS:
        build = compose["services"][name]["build"]
        context = (DOCKER / build["context"]).resolve()
        assert context == REPOSITORY
        assert (context / build["dockerfile"]).is_file()


def test_secrets_are_made_once_and_fit_together(compose: dict[str, Any], tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    made = run(DOCKER / "make_secrets.sh", folder, cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    files = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert set(files) == set(compose["secrets"])
    assert [item["file"] for item in compose["secrets"].values()] == [
        f"secrets/{name}" for name in compose["secrets"]
    ]
    assert re.fullmatch(r"poet_[A-Za-z0-9_-]{43}", files["token"])
    host, database = "database", compose["services"]["database"]["environment"]
    assert files["database_url"] == (
        f"postgresql://{database['POSTGRES_USER']}:{files['database_password']}"
        f"@{host}/{database['POSTGRES_DB']}"
    )
    assert host in compose["services"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    again = run(DOCKER / "make_secrets.sh", folder, cwd=tmp_path)
    assert (again.returncode, again.stdout) == (0, "")
    assert {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()} == files


def test_secrets_stay_out_of_the_repository_and_of_the_build() -> None:
    assert "/docker/secrets/" in (REPOSITORY / ".gitignore").read_text(encoding="utf-8").split()
    sent = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    assert sent[sent.index("*") - 1 :]  # everything is left out first
    assert "!docker/requirements.py" in sent
    assert not any(line.startswith("!docker") for line in sent if line != "!docker/requirements.py")


@pytest.mark.skipif(shutil.which("docker") is None, reason="there is no docker command here")
def test_docker_compose_reads_it(tmp_path: Path) -> None:
    if run("docker", "compose", "version", cwd=tmp_path).returncode != 0:
        pytest.skip("this docker has no compose plugin")
    result = run(
        "docker", "compose", "-f", DOCKER / "compose.yaml", "config", "--quiet", cwd=tmp_path
    )
    assert result.returncode == 0, result.stderr
