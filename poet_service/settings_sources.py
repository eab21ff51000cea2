"""Where settings come from: a TOML file, the environment, keyword arguments; the last wins.

An unknown key or a wrong value is one UsageError that says the key, where it was written, what was
expected and what was got; what a secret was is never said. Origins are kept, so that an operator
can ask which of three places a value is from (`poet serve --show-settings`).
"""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn

from annotated_types import Ge, Le
from pydantic import SecretStr, ValidationError

from poet_core.errors import UsageError
from poet_core.text import printable
from poet_service.settings import ENVIRONMENT_PREFIX, SECRETS, Settings

CONFIG_VARIABLE = f"{ENVIRONMENT_PREFIX}CONFIG"
_MOST_FILE_BYTES = 2**20
_MOST_SECRET_BYTES = 4096

Origin = Literal["default", "file", "environment", "command line"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedSettings:
    """The settings, the file that was read, and for each key which source decided it."""

    settings: Settings
    file: Path | None
    origins: Mapping[str, Origin]

    def table(self) -> list[dict[str, Any]]:
        """Each setting as key, value (secrets hidden), origin and reason; JSON values only."""
        return [
            {
                "key": key,
                "value": shown(getattr(self.settings, key)),
                "origin": self.origins[key],
                "description": field.description,
            }
            for key, field in Settings.model_fields.items()
        ]


def load_settings(
    *, file: Path | None = None, given: Mapping[str, Any] | None = None
) -> LoadedSettings:
    """The effective settings. `file` is the TOML file, else POET_SERVICE_CONFIG names it; `given`
    are the command line's. Raises UsageError."""
    named = os.environ.get(CONFIG_VARIABLE)
    file = file or (Path(named) if named else None)
    written = _read_file(file) if file else {}
    origins: dict[str, Origin] = dict.fromkeys(Settings.model_fields, "default")
    origins |= dict.fromkeys(written, "file")
    origins |= dict.fromkeys(_keys_of_environment(), "environment")
    origins |= dict.fromkeys(given or {}, "command line")
    # Keyword arguments outrank the environment, so what the file says may only fill gaps.
    from_file = {key: value for key, value in written.items() if origins[key] == "file"}
    try:
        settings = Settings(**from_file, **(given or {}))
    except ValidationError as error:
        _refuse(error, origins, file)
    except RuntimeError as error:  # Path.home() of a user who has none
        raise UsageError(
            "Expected a folder for the service's state, and this user has no home directory.",
            code="setting_invalid",
            hint="Set state_dir (--state-dir, POET_SERVICE_STATE_DIR) or database.",
        ) from error
    secrets = _secrets_in_files(settings)
    origins |= {key: origins[f"{key}_file"] for key in secrets}
    settings = settings.model_copy(update=secrets)
    return LoadedSettings(settings=settings, file=file, origins=origins)


def shown(value: object) -> object:
    """A value as JSON may show it: of a secret only that there is one."""
    if isinstance(value, SecretStr):
        return "(secret)"
    if isinstance(value, frozenset):
        return sorted(value)
    return str(value) if isinstance(value, Path) else value


def _keys_of_environment() -> list[str]:
    """The settings that the environment names; an unknown one is an error, as a typing slip is."""
    named = {
        variable.upper().removeprefix(ENVIRONMENT_PREFIX).lower(): variable
        for variable, value in sorted(os.environ.items())
        if variable.upper().startswith(ENVIRONMENT_PREFIX)
        and variable.upper() != CONFIG_VARIABLE
        and value
    }
    for key, variable in named.items():
        if key not in Settings.model_fields:
            _refuse_unknown(key, f"the environment variable {printable(variable, 80)}")
    return list(named)


def _secrets_in_files(settings: Settings) -> dict[str, SecretStr]:
    named = {key: getattr(settings, f"{key}_file") for key in SECRETS}
    return {key: _read_secret(key, file) for key, file in named.items() if file is not None}


def _read_secret(key: str, file: Path) -> SecretStr:
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_SECRET_BYTES + 1).decode("utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not a text"
    else:
        if 0 < len(text) <= _MOST_SECRET_BYTES:
            return SecretStr(text)
        why = "too long" if text else "empty"
    raise UsageError(
        f"The file of the setting {key}, {printable(str(file), 200)}, cannot be used: {why}.",
        code="secret_unreadable",
        hint=f"{key}_file names it; it holds the secret alone, and the service's user may read it.",
        details={"setting": f"{key}_file"},
    )


def _read_file(file: Path) -> dict[str, Any]:
    where = printable(str(file), 200)
    try:
        with file.open("rb") as opened:
            text = opened.read(_MOST_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "no such path"
        raise UsageError(
            f"The configuration file {where} cannot be read: {why}.",
            code="config_unreadable",
            hint=f"Give a TOML file with --config or {CONFIG_VARIABLE}.",
        ) from error
    if len(text) > _MOST_FILE_BYTES:
        raise UsageError(
            f"The configuration file {where} has more than {_MOST_FILE_BYTES} bytes.",
            code="config_invalid",
        )
    try:
        written = tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        why = "too deep" if isinstance(error, RecursionError) else printable(str(error), 200)
        raise UsageError(
            f"The configuration file {where} is no TOML: {why}.",
            code="config_invalid",
            hint="One setting a line: queue_depth = 16.",
        ) from error
    for key in written:
        if key not in Settings.model_fields:
            _refuse_unknown(key, f"the file {where}")
    return written


def _refuse_unknown(key: str, origin: str) -> NoReturn:
    close = difflib.get_close_matches(key[:64], Settings.model_fields, n=1)
    meant = f"Did you mean {close[0]}? " if close else ""
    # Kubernetes tells every container of a Service called "poet" about POET_SERVICE_HOST and more.
    cluster = "In Kubernetes set enableServiceLinks: false. " if "environment" in origin else ""
    raise UsageError(
        f"There is no setting {printable(key, 60)!r}, which comes from {origin}.",
        code="setting_unknown",
        hint=f"{meant}{cluster}`poet serve --show-settings` lists them.",
        details={"setting": printable(key, 60)},
    )


def _refuse(error: ValidationError, origins: Mapping[str, Origin], file: Path | None) -> NoReturn:
    """The first thing that is wrong, in our words."""
    found = error.errors(include_url=False, include_context=False)
    key = str(found[0]["loc"][0]) if found[0]["loc"] else ""
    expected = _expected(key, found[0]["msg"])
    if key and key not in Settings.model_fields:
        _refuse_unknown(key, _place(key, "command line", file))
    got = "" if not key or key in SECRETS else f", got {printable(repr(found[0]['input']), 80)}"
    more = f" ({len(found) - 1} more are wrong.)" if len(found) > 1 else ""
    raise UsageError(
        f"The setting {key} from {_place(key, origins[key], file)}: expected {expected}{got}.{more}"
        if key
        else f"The settings contradict each other: {expected}.",
        code="setting_invalid",
        hint="`poet serve --show-settings` shows where each setting comes from.",
        details={"setting": key},
    )


def _place(key: str, origin: Origin, file: Path | None) -> str:
    if origin == "environment":
        return f"the environment variable {ENVIRONMENT_PREFIX}{key.upper()}"
    if origin == "file":
        return f"the file {printable(str(file), 200)}"
    return "the command line" if origin == "command line" else "its default"


def _expected(key: str, message: str) -> str:
    """The range where the setting is a number, else what pydantic says."""
    said = message.removeprefix("Value error, ").removeprefix("Input should be ")
    bounds = Settings.model_fields[key].metadata if key in Settings.model_fields else []
    least = next((bound.ge for bound in bounds if isinstance(bound, Ge)), None)
    most = next((bound.le for bound in bounds if isinstance(bound, Le)), None)
    return said.rstrip(".") if least is None else f"a number from {least} to {most}"
