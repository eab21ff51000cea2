"""SplitNote: what has become of one op that needs more than the limit at once.

Invariant: every op above the limit has a note, whether it could be split or not.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitNote:
    """`op` needs `bytes_before` as traced (its storages and its workspace) and `bytes_after` now.

    `rule`: what was done, empty where nothing was; `why_not`: then the reason in words."""

    op: str
    kind: str
    bytes_before: int
    bytes_after: int
    rule: str = ""
    why_not: str = ""
