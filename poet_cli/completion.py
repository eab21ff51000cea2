"""What the shell is told when a user presses Tab, and the scripts that ask.

The shell runs `poet` with _POET_COMPLETE set; `answer` then speaks instead of the command line. It is
click's machinery, but for Bash: to Bash a step's `:` ends a word, so the words are read from the
whole line here and what stands before the last `:` is left out of the answers.

Invariant: nothing of the user's is imported or run; a step's name is read from the text of its file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

VARIABLE = "_POET_COMPLETE"
SHELLS = ("bash", "zsh", "fish")
_PROGRAM = "poet"
_MOST_FILE_BYTES = 1 << 20
_MOST_FILES = 500  # of a folder: Tab has to answer at once

_BASH = """\
_poet_completion() {
    local IFS=$'\\n' answer type value
    COMPREPLY=()
    answer=$(env COMP_LINE="$COMP_LINE" COMP_POINT="$COMP_POINT" _POET_COMPLETE=bash_complete "$1")
    for completion in $answer; do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'dir' ]]; then
            compopt -o dirnames
        elif [[ $type == 'file' ]]; then
            compopt -o default
        else
            COMPREPLY+=("$value")
        fi
    done
}
complete -F _poet_completion poet
"""


def script(shell: str) -> str:
    """What the shell is to read, for one of SHELLS."""
    if shell == "bash":
        return _BASH
    from click.shell_completion import get_completion_class

    known = get_completion_class(shell)
    assert known is not None
    return known(click.Command(_PROGRAM), {}, _PROGRAM, VARIABLE).source()


def answer(command: click.Command, asked: str) -> int:
    """Answer the shell, which asks for `bash_complete` or the like; the exit code."""
    from click.shell_completion import shell_complete

    if asked != "bash_complete":
        return shell_complete(command, {}, _PROGRAM, VARIABLE, asked)
    for item in _bash_items(command):
        click.echo(f"{item.type},{item.value}")
    return 0


def _bash_items(command: click.Command) -> Iterator[CompletionItem]:
    from click.shell_completion import BashComplete, CompletionItem, split_arg_string

    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    head = line[: int(point)] if point.isdigit() else line
    words = split_arg_string(head)[1:]
    incomplete = "" if head[-1:].isspace() or not words else words.pop()
    shell = BashComplete(command, {}, _PROGRAM, VARIABLE)
    before = incomplete.rfind(":") + 1
    for item in shell.get_completions(words, incomplete):
        yield CompletionItem(str(item.value)[before:], type=item.type)


def devices(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The names of the shipped devices."""
    from click.shell_completion import CompletionItem

    from poet_core.devices import device_names, load_device

    names = (name for name in device_names() if name.startswith(incomplete))
    return [CompletionItem(name, help=load_device(name).title) for name in names]


def steps(_: click.Context, __: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """MODULE:FUNCTION for functions of this folder's modules whose name begins with `step`, or
    with what stands after the colon."""
    from click.shell_completion import CompletionItem

    module, colon, function = incomplete.partition(":")
    found = [
        f"{name}:{each}"
        for name, path in _modules(module, whole=bool(colon))
        for each in _functions(path, function or "step")
    ]
    return [CompletionItem(name) for name in sorted(found)]


def _modules(start: str, *, whole: bool) -> Iterator[tuple[str, Path]]:
    """Modules of the current folder and of its packages whose name begins with `start`."""
    parts = start.split(".")
    folder = Path().joinpath(*parts[:-1])
    if not all(part.isidentifier() for part in parts[:-1]) or not folder.is_dir():
        return
    paths = sorted(folder.glob("*.py")) if len(parts) > 1 else sorted(Path().glob("*.py"))
    if len(parts) == 1 and not whole:
        paths += sorted(Path().glob("*/*.py"))
    for path in paths[:_MOST_FILES]:
        name = ".".join(path.with_suffix("").parts)
        if name == start or (not whole and name.startswith(start)):
            yield name, path


def _functions(path: Path, start: str) -> Iterator[str]:
    """Functions at the top of a file that can be called without arguments."""
    import ast

    try:
        if path.stat().st_size > _MOST_FILE_BYTES:
            return
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return
    for node in tree.body:
        if not isinstance(node, ast.FunctionDef) or not node.name.startswith(start):
            continue
        taken = node.args
        required = len(taken.posonlyargs + taken.args) - len(taken.defaults)
        if required <= 0 and all(default is not None for default in taken.kw_defaults):
            yield node.name
