"""The operator's guide names commands, settings, errors, figures and files that exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from poet_cli.main import cli
from poet_service.settings import Settings

_ROOT = Path(__file__).parents[2]
_GUIDE = (_ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
_SOURCES = "\n".join(
    path.read_text(encoding="utf-8") for path in sorted((_ROOT / "poet_service").rglob("*.py"))
)
_COMMANDS = sorted(set(re.findall(r"^    (?:POET_\S+ )*poet (.+)$", _GUIDE, re.MULTILINE)))
_WORDS = sorted(set(re.findall(r"`([a-z]+(?:_[a-z]+)+)`", _GUIDE)))


def test_it_has_commands_and_names_to_check() -> None:
    assert len(_COMMANDS) >= 8
    assert len(_WORDS) >= 20


@pytest.mark.parametrize("text", _COMMANDS)
def test_its_commands_parse(text: str) -> None:
    words = shlex.split(text)
    command: click.Command = cli
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, text
        command = found
    command.make_parser(click.Context(command)).parse_args(list(words))


@pytest.mark.parametrize("word", _WORDS)
def test_its_names_are_settings_or_codes_or_figures(word: str) -> None:
    if word in Settings.model_fields:
        return
    quoted = (f'"{word}"', f"'{word}'")
    assert any(text in _SOURCES for text in quoted) or word in {
        "fsync", "max_connections", "poet_client", "synchronous_commit",
    }  # fmt: skip


def test_its_files_exist() -> None:
    for name in re.findall(r"`?((?:docker|benchmarks)/[A-Za-z_.]+)", _GUIDE):
        if name != "docker/secrets":
            assert (_ROOT / name.rstrip(".")).exists(), name
    for link in re.findall(r"\]\(([a-z]+\.md)\)", _GUIDE):
        assert (_ROOT / "docs" / link).is_file(), link
