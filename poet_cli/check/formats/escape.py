"""Text that others chose (names of models and ops, messages of their code), for each format.

Invariant: what comes out shows what went in and does nothing: no terminal escape, no markup, no
link, no mention, no command of a CI system.
"""

from __future__ import annotations

import re
from pathlib import Path

from poet_core.text import printable

# ASCII punctuation that starts something in GitHub's Markdown, HTML included.
_MARKDOWN = re.compile(r"[\\`*_{}\[\]<>()#+!|~$&^=-]")
# What GitHub turns into links by itself, and what calls people: kept apart by an empty comment
# would be HTML; a zero-width joiner is no visible change and breaks the word.
_AUTOLINKED = re.compile(r"@|://|(?<=www)\.|:(?=\S)")
# XML 1.0, section 2.2: what may stand in a document at all.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_WORD_JOINER = "\u2060"


def line(text: object, limit: int = 400) -> str:
    """On one line, without control and format characters: terminals, SARIF."""
    return printable(str(text), limit)


def markdown(text: object, limit: int = 200) -> str:
    """As plain text inside of a sentence or of a table's cell."""
    shown = _MARKDOWN.sub(lambda found: f"&#{ord(found[0])};", printable(str(text), limit))
    return _AUTOLINKED.sub(lambda found: f"&#{ord(found[0][0])};{found[0][1:]}", shown)


def xml(text: object, limit: int = 2_000) -> str:
    """For an XML writer that quotes markup: without what no XML can hold; lines are kept."""
    lines = (printable(part, limit) for part in str(text).split("\n"))
    return _NOT_XML.sub("\ufffd", "\n".join(lines))


def workflow_data(text: object, limit: int = 2_000) -> str:
    """The message of a GitHub workflow command; line breaks are kept."""
    lines = (printable(part, limit) for part in str(text).split("\n"))
    return "%0A".join(part.replace("%", "%25") for part in lines)


def workflow_property(text: object, limit: int = 400) -> str:
    """A property of a GitHub workflow command, such as `file`."""
    escaped = printable(str(text), limit).replace("%", "%25")
    return escaped.replace(":", "%3A").replace(",", "%2C")


def relative_path(file: Path, root: Path) -> str:
    """`file` from the repository's root, with slashes; as it is where it lies elsewhere."""
    path = file if file.is_absolute() else root / file
    try:
        return path.resolve().relative_to(root.resolve()).as_posix()
    except (OSError, ValueError, RuntimeError):
        return file.as_posix()
