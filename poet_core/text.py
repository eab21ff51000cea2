"""Text that came from a document, made safe to show.

Names in graphs and plans are chosen by strangers. They are never executed or opened, and they are
shown only through `printable`, so that a terminal escape or a line break in a name stays a name.
"""

from __future__ import annotations

import unicodedata

_SHOWN_LENGTH = 120
# Cc control, Cf format (bidi overrides), Cs surrogates, Co private use, Zl/Zp line separators
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})


def printable(text: str, limit: int = _SHOWN_LENGTH) -> str:
    """`text` on one line, with control and format characters escaped, at most `limit` long."""
    head = text[: limit + 1]
    shown = "".join(_escaped(character) for character in head)
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


def _escaped(character: str) -> str:
    if unicodedata.category(character) in _HIDDEN_CATEGORIES:
        return f"\\u{ord(character):04x}"
    return character
