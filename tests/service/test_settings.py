"""Settings: what is allowed, where a value comes from, and errors that say both."""

import json
import math

import pytest
from annotated_types import Ge, Le
from pydantic import ValidationError

from poet_core.errors import UsageError
from poet_service.settings import Settings
from poet_service.settings_sources import load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    import os

    for name in list(os.environ):
        if name.upper().startswith("POET_SERVICE_"):
            monkeypatch.delenv(name)


@pytest.fixture
def config(tmp_path):
    def write(text):
        file = tmp_path / "poet.toml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def refused(code, **how):
    with pytest.raises(UsageError) as caught:
        load_settings(**how)
    assert caught.value.code == code
    return caught.value


def test_every_limit_has_bounds_within_which_its_default_lies_and_a_reason():
    for name, field in Settings.model_fields.items():
        assert field.description, name
        if field.annotation in (int, float):
            (least,) = [item.ge for item in field.metadata if isinstance(item, Ge)]
            (most,) = [item.le for item in field.metadata if isinstance(item, Le)]
            assert least <= field.default <= most < math.inf, name


def test_the_command_line_outranks_the_environment_which_outranks_the_file(config, monkeypatch):
    file = config("queue_depth = 11\nsolves = 12\nstreams = 13\n")
    monkeypatch.setenv("POET_SERVICE_SOLVES", "22")
    monkeypatch.setenv("POET_SERVICE_STREAMS", "23")
    loaded = load_settings(file=file, given={"streams": 33})
    settings = loaded.settings
    assert (settings.queue_depth, settings.solves, settings.streams) == (11, 22, 33)
    origins = [loaded.origins[key] for key in ("queue_depth", "solves", "streams", "port")]
    assert origins == ["file", "environment", "command line", "default"]


def test_the_environment_may_name_the_file(config, monkeypatch):
    monkeypatch.setenv("POET_SERVICE_CONFIG", str(config("port = 1")))
    assert load_settings().settings.port == 1


def test_an_empty_variable_is_none(monkeypatch):
    monkeypatch.setenv("POET_SERVICE_PORT", "")
    monkeypatch.setenv("POET_SERVICE_UNHEARD_OF", "")
    loaded = load_settings()
    assert (loaded.settings.port, loaded.origins["port"]) == (8080, "default")


def test_sizes_may_carry_a_unit_and_names_commas(monkeypatch):
    monkeypatch.setenv("POET_SERVICE_BODY_BYTES", "2MiB")
    monkeypatch.setenv("POET_SERVICE_STORED_BYTES", "2097152")
    monkeypatch.setenv("POET_SERVICE_ALLOWED_HOSTS", "Planner.local, other ,")
    settings = load_settings().settings
    assert settings.body_bytes == settings.stored_bytes == settings.limits.document_bytes == 2**21
    assert settings.allowed_hosts == {"planner.local", "other"}


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("POET_SERVICE_QUEUE_DEPTH", "many", "a number from 1 to 1000000, got 'many'"),
        ("POET_SERVICE_QUEUE_DEPTH", "0", "a number from 1 to 1000000, got '0'"),
        ("POET_SERVICE_PORT", "tcp://10.0.0.1:80", "a number from 0 to 65535"),
        ("POET_SERVICE_BODY_SECONDS", "nan", "a number from 0.05 to 600, got 'nan'"),
        ("POET_SERVICE_BODY_SECONDS", "inf", "got 'inf'"),
        ("POET_SERVICE_LOG_LEVEL", "loud", "'debug', 'info', 'warning' or 'error', got 'loud'"),
        ("POET_SERVICE_STORED_BYTES", "2 sacks", "got '2 sacks'"),
        ("poet_service_solves", "\x1b[31m", "got '\\x1b[31m'"),
    ],
)
def test_a_wrong_variable_is_named_with_what_was_expected(monkeypatch, variable, value, said):
    monkeypatch.setenv(variable, value)
    error = refused("setting_invalid")
    assert f"the environment variable {variable.upper()}" in error.message
    assert said in error.message
    assert "\x1b" not in error.message


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("solves = 0", "The setting solves from the file"),
        ("solves = true", "got True"),
        ('allowed_hosts = "a"\nport = -1\nsolves = 0', "(1 more are wrong.)"),
        ("allowed_hosts = 5", "The setting allowed_hosts from the file"),
        ("body_seconds = nan", "a number from 0.05 to 600"),
    ],
)
def test_a_wrong_value_of_the_file_names_it(config, text, said):
    file = config(text)
    error = refused("setting_invalid", file=file)
    assert said in error.message
    assert str(file) in error.message


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"most_wall_seconds": 5}, "most_wall_seconds should be at least default_wall_seconds"),
        ({"body_bytes": 2**27}, "buffered_bytes should be at least body_bytes"),
        ({"worker_lost_seconds": 9}, "at least 3 times worker_heartbeat_seconds, got 9 and 5"),
        ({"database": "sqlite:///a", "database_file": "b"}, "database and database_file"),
    ],
)
def test_settings_that_contradict_each_other(given, said):
    assert said in refused("setting_invalid", given=given).message


def test_an_unknown_key_is_a_typing_slip(config, monkeypatch):
    assert "queue_depth" in refused("setting_unknown", file=config("queue_dept = 1")).hint
    refused("setting_unknown", file=config("[solves]\nx = 1\n[y]"))
    refused("setting_unknown", given={"nothing": 1})
    monkeypatch.setenv("POET_SERVICE_PORT_HTTP", "80")
    error = refused("setting_unknown")
    assert "POET_SERVICE_PORT_HTTP" in error.message
    assert "enableServiceLinks" in error.hint


@pytest.mark.parametrize(
    "text", ["a ==", "\xff", "a" * (2**20 + 1), "a = " + "[" * 5_000, "solves = 1\nsolves = 2"]
)
def test_a_file_that_is_no_toml(tmp_path, text):
    file = tmp_path / "poet.toml"
    file.write_bytes(text.encode("latin-1"))
    refused("config_invalid", file=file)


def test_a_file_that_cannot_be_read(tmp_path):
    refused("config_unreadable", file=tmp_path)
    refused("config_unreadable", file=tmp_path / "nothing")
    refused("config_unreadable", file=tmp_path / "null\0byte")


SECRET = "postgresql://poet:hush-hush@db/poet"


def test_a_secret_is_never_shown(config, tmp_path, monkeypatch):
    named = tmp_path / "url"
    named.write_text(SECRET + "\n", encoding="utf-8")
    monkeypatch.setenv("POET_SERVICE_INITIAL_TOKEN", "hush-hush")
    loaded = load_settings(given={"database_file": named})
    assert loaded.settings.database_url == SECRET
    assert loaded.settings.distributed
    assert (loaded.origins["database"], loaded.origins["initial_token"]) == (
        "command line", "environment",
    )  # fmt: skip
    shown = json.dumps(loaded.table()) + repr(loaded) + str(loaded.settings)
    assert "hush" not in shown
    assert "(secret)" in shown


@pytest.mark.parametrize(
    "how",
    [
        {"given": {"database": 5, "state_dir": "hush"}},
        {"given": {"initial_token": ["hush-hush"]}},
        {"given": {"database": SECRET, "most_wall_seconds": 1}},
        {"given": {"database": SECRET, "database_file": "x"}},
    ],
)
def test_no_error_holds_a_secret(how):
    error = refused("setting_invalid", **how)
    assert "hush" not in str(error)


@pytest.mark.parametrize("content", [b"", b" \n", b"\xff", b"x" * 5000])
def test_a_secret_file_that_holds_none(tmp_path, content):
    file = tmp_path / "token"
    file.write_bytes(content)
    assert str(file) in refused("secret_unreadable", given={"initial_token_file": file}).message
    refused("secret_unreadable", given={"initial_token_file": tmp_path / "nothing"})


def test_the_database_is_in_the_state_folder_unless_named(tmp_path):
    settings = Settings(state_dir=tmp_path)
    assert settings.database_url == f"sqlite:///{tmp_path}/poet.sqlite3"
    assert not settings.distributed


def test_the_state_folder_is_the_platforms(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", "relative/is/ignored")
    assert Settings().state_dir == tmp_path / ".local" / "state" / "poet"
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert str(Settings().state_dir) == "/somewhere/poet"
    monkeypatch.setattr("sys.platform", "darwin")
    assert Settings().state_dir == tmp_path / "Library" / "Application Support" / "poet"


def test_nothing_changes_afterwards():
    with pytest.raises(ValidationError):
        Settings().port = 1
