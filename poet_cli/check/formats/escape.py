"""Text that others chose (names of models and ops, messages of their code), for each format.

Invariant: what comes out shows what went in and does nothing: no terminal escape, no markup, no
link, no mention, no command of a CI system.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from poet_core.text import printable

# XML 1.0, section 2.2: what may stand in a document at all.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
# What GitHub's runner takes for a command wherever a step prints it: `::name ...` at the begin of a
# line, and the older `##[name]` anywhere.
_COMMAND = re.compile(r"^([ \t]*):(?=:)|(?<=#)#(?=\[)", re.MULTILINE)


def line(text: object, limit: int = 400) -> str:
    """On one line, without control and format characters."""
    return printable(str(text), limit)


def no_commands(text: str) -> str:
    """A whole output without what a CI's runner would carry out: a character of it is another one,
    so that no line gets longer."""
    return _COMMAND.sub(lambda found: f"{found[0][:-1]}_", text)


def markdown(text: object, limit: int = 200) -> str:
    """For a sentence or a table's cell: as code, in which GitHub links nothing and calls nobody.

    Every punctuation mark is a character reference, so that nothing ends the code or the cell."""
    shown = printable(str(text), limit)
    if not shown.strip():
        return ""
    escaped = "".join(
        f"&#{ord(character)};" if character.isascii() and not character.isalnum() else character
        for character in shown
    )
    return f"<code>{escaped.replace('&#32;', ' ')}</code>"


def markdown_block(sentences: Iterable[object], limit: int = 1_000) -> str:
    """Lines as they are, in a fence that none of them ends."""
    shown = [printable(str(sentence), limit) for sentence in sentences]
    runs = (len(run) for sentence in shown for run in re.findall("`+", sentence))
    fence = "`" * max(3, 1 + max(runs, default=0))
    return "\n".join([f"{fence}text", *shown, fence])


def xml(text: object, limit: int = 2_000) -> str:
    """For an XML writer that quotes markup: without what no XML can hold."""
    return _NOT_XML.sub("\ufffd", line(text, limit))


def sarif(text: object, limit: int = 2_000) -> str:
    """A plain text message: no embedded link, no placeholder (SARIF 2.1.0, 3.11.5 and 3.11.6)."""
    shown = re.sub(r"([\\\[\]])", r"\\\1", line(text, limit))
    return shown.replace("{", "{{").replace("}", "}}")


def workflow_data(text: object, limit: int = 2_000) -> str:
    """A line of the message of a GitHub workflow command; `%0A` parts them."""
    return line(text, limit).replace("%", "%25")


def workflow_property(text: object, limit: int = 400) -> str:
    """A property of a GitHub workflow command, such as `file`."""
    return line(text, limit).replace("%", "%25").replace(":", "%3A").replace(",", "%2C")


def repository_root(file: Path) -> Path:
    """The folder at or above `file` that git keeps; the current one where there is none."""
    try:
        above = [*file.resolve().parents]
        return next((folder for folder in above if (folder / ".git").exists()), Path.cwd())
    except (OSError, ValueError, RuntimeError):
        return Path.cwd()


def relative_path(file: Path, root: Path) -> str:
    """`file`, of the current folder, as seen from `root`, with slashes; as it is where it lies
    elsewhere."""
    try:
        return file.resolve().relative_to(root.resolve()).as_posix()
    except (OSError, ValueError, RuntimeError):
        return file.as_posix()
