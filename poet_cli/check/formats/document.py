"""poet.check/1: a report as one JSON document, and reading one back.

    {"schema", "tool", "config_file", "exit_code", "took_seconds", "notes",
     "rows": [{"entry": {...}, "verdict", "reason", ..., "peak": {"bytes", "text"}, ...}]}

Sizes are exact in `bytes` and readable in `text`. A document that is read comes from a stranger: a
pull request's job uploads it, and a baseline is whatever the other branch holds. Invariant: what
`read_report` returns is bounded in every direction, and its exit code is the one of its rows.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from poet_cli.check.entries import Entry, Level, Limit, Place
from poet_cli.check.report import Held, Report, Row, Verdict
from poet_cli.check.versions import tool_version
from poet_core.documents import Fields, Limits, Node, parse_json, refuse
from poet_core.units import LARGEST_INTEGER, format_bytes

SCHEMA = "poet.check/1"
LIMITS = Limits(document_bytes=8 * 2**20, depth=8, values=200_000, string_length=2_000)
MOST_ROWS, _MOST_NOTES, _MOST_ADVICE, _MOST_HELD = 2_000, 200, 50, 200

_ENTRY = frozenset({
    "name", "step", "batch_size", "device", "ram", "max_time", "max_energy", "page",
    "rematerialize", "planner_seconds", "level", "undecided", "file", "line",
})  # fmt: skip
_OUTCOME = frozenset({
    "verdict", "reason", "code", "hint", "internal", "floor", "floor_set_by", "keep_everything",
    "peak", "headroom_bytes", "seconds", "base_seconds", "joules", "base_joules", "gap",
    "flash_written", "least", "at_peak", "advice", "from_cache", "took_seconds",
})  # fmt: skip


def render(report: Report) -> str:
    """The document as text, in ASCII, indented for people who look into it."""
    return json.dumps(report_document(report), indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def report_document(report: Report) -> dict[str, Any]:
    """The report as JSON values."""
    return {
        "schema": SCHEMA,
        "tool": {"name": "poet-planner", "version": tool_version()},
        "config_file": _text(str(report.rows[0].entry.place.file)) if report.rows else None,
        "exit_code": report.exit_code(),
        "took_seconds": report.took_seconds,
        "notes": [_text(note) for note in report.notes[:_MOST_NOTES]],
        "rows": [{"entry": entry_document(r.entry), **outcome_document(r)} for r in report.rows],
    }


def entry_document(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values."""
    return {
        "name": _text(entry.name),
        "step": _text(entry.step),
        "batch_size": entry.batch_size,
        "device": _text(entry.device),
        "ram": _size(entry.ram_bytes),
        "max_time": _limit(entry.max_time),
        "max_energy": _limit(entry.max_energy),
        "page": entry.page,
        "rematerialize": entry.rematerialize,
        "planner_seconds": entry.planner_seconds,
        "level": entry.level.value,
        "undecided": entry.undecided.value,
        "file": _text(str(entry.place.file)),
        "line": entry.place.line,
    }


def outcome_document(row: Row) -> dict[str, Any]:
    """A row without its entry as JSON values."""
    return {
        "verdict": row.verdict.value,
        "reason": _text(row.reason),
        "code": _text(row.code),
        "hint": _text(row.hint),
        "internal": row.internal,
        "floor": _size(row.floor_bytes),
        "floor_set_by": _text(row.floor_set_by),
        "keep_everything": _size(row.keep_everything_bytes),
        "peak": _size(row.peak_bytes),
        "headroom_bytes": row.headroom_bytes,
        "seconds": _number(row.seconds),
        "base_seconds": _number(row.base_seconds),
        "joules": _number(row.joules),
        "base_joules": _number(row.base_joules),
        "gap": _number(row.gap),
        "flash_written": _size(row.flash_written_bytes),
        "least": _size(row.least_bytes),
        "at_peak": [
            {"name": _text(held.name), "role": _text(held.role), "size": _size(held.size_bytes)}
            for held in row.at_peak[:_MOST_HELD]
        ],
        "advice": [_text(sentence) for sentence in row.advice[:_MOST_ADVICE]],
        "from_cache": row.from_cache,
        "took_seconds": row.took_seconds,
    }


def read_report(text: bytes | str) -> Report:
    """The report in a JSON text of a stranger. Raises DocumentError."""
    return report_from_document(parse_json(text, LIMITS))


def report_from_document(document: Any) -> Report:
    """The report in parsed JSON of a stranger. Raises DocumentError."""
    fields = Node(document, "$", LIMITS).fields(
        frozenset({"schema", "tool", "config_file", "exit_code", "took_seconds", "notes", "rows"})
    )
    fields.check_schema(SCHEMA)
    tool = fields["tool"].fields(frozenset({"name", "version"}))
    tool["name"].string()
    tool["version"].string()
    _optional_string(fields, "config_file")
    report = Report(
        rows=tuple(_row(node) for node in fields["rows"].items(MOST_ROWS)),
        took_seconds=fields["took_seconds"].number(),
        notes=tuple(node.string() for node in fields["notes"].items(_MOST_NOTES)),
    )
    told = fields["exit_code"].integer(0, 255)
    if told != report.exit_code():
        refuse("$.exit_code", f"{report.exit_code()}, by the rows", str(told), code="wrong_value")
    return report


def row_from_outcome(entry: Entry, node: Node) -> Row:
    """The row of `entry` with an outcome as `outcome_document` writes it. Raises DocumentError."""
    return _outcome(entry, node.fields(_OUTCOME))


def _row(node: Node) -> Row:
    fields = node.fields(_OUTCOME | {"entry"})
    return _outcome(_entry(fields["entry"]), fields)


def _entry(node: Node) -> Entry:
    fields = node.fields(_ENTRY)
    batch_size = fields.get("batch_size")
    return Entry(
        name=fields["name"].string(),
        step=fields["step"].string(),
        batch_size=None if batch_size is None else batch_size.integer(1),
        device=fields["device"].string(),
        ram_bytes=_read_size(fields["ram"]),
        max_time=_read_limit(fields.get("max_time")),
        max_energy=_read_limit(fields.get("max_energy")),
        page=fields["page"].boolean(),
        rematerialize=fields["rematerialize"].boolean(),
        planner_seconds=fields["planner_seconds"].number(),
        level=Level(fields["level"].choice(frozenset(Level))),
        undecided=Level(fields["undecided"].choice(frozenset(Level))),
        place=Place(file=Path(fields["file"].string()), line=fields["line"].integer(0)),
    )


def _outcome(entry: Entry, fields: Fields) -> Row:
    row = Row(
        entry=entry,
        verdict=Verdict(fields["verdict"].choice(frozenset(Verdict))),
        reason=fields["reason"].string(),
        code=fields["code"].string(),
        hint=fields["hint"].string(),
        internal=fields["internal"].boolean(),
        floor_bytes=_optional_size(fields, "floor"),
        floor_set_by=fields["floor_set_by"].string(),
        keep_everything_bytes=_optional_size(fields, "keep_everything"),
        peak_bytes=_optional_size(fields, "peak"),
        seconds=_optional_number(fields, "seconds"),
        base_seconds=_optional_number(fields, "base_seconds"),
        joules=_optional_number(fields, "joules"),
        base_joules=_optional_number(fields, "base_joules"),
        gap=_optional_number(fields, "gap"),
        flash_written_bytes=_optional_size(fields, "flash_written"),
        least_bytes=_optional_size(fields, "least"),
        at_peak=tuple(_held(item) for item in fields["at_peak"].items(_MOST_HELD)),
        advice=tuple(item.string() for item in fields["advice"].items(_MOST_ADVICE)),
        from_cache=fields["from_cache"].boolean(),
        took_seconds=fields["took_seconds"].number(),
    )
    if (headroom := fields.get("headroom_bytes")) is not None:
        headroom.integer(-LARGEST_INTEGER)
    return row


def _held(node: Node) -> Held:
    fields = node.fields(frozenset({"name", "role", "size"}))
    return Held(
        name=fields["name"].string(),
        role=fields["role"].string(),
        size_bytes=_read_size(fields["size"]),
    )


def _size(size_bytes: int | None) -> dict[str, Any] | None:
    return None if size_bytes is None else {"bytes": size_bytes, "text": format_bytes(size_bytes)}


def _read_size(node: Node) -> int:
    fields = node.fields(frozenset({"bytes", "text"}))
    fields["text"].string()
    return fields["bytes"].integer()


def _optional_size(fields: Fields, name: str) -> int | None:
    node = fields.get(name)
    return None if node is None else _read_size(node)


def _number(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _optional_number(fields: Fields, name: str) -> float | None:
    node = fields.get(name)
    return None if node is None else node.number()


def _optional_string(fields: Fields, name: str) -> str | None:
    node = fields.get(name)
    return None if node is None else node.string()


def _limit(limit: Limit | None) -> dict[str, Any] | None:
    if limit is None:
        return None
    return {"text": _text(limit.text), "ratio": limit.ratio, "absolute": limit.absolute}


def _read_limit(node: Node | None) -> Limit | None:
    if node is None:
        return None
    fields = node.fields(frozenset({"text", "ratio", "absolute"}))
    ratio, absolute = _optional_number(fields, "ratio"), _optional_number(fields, "absolute")
    if (ratio is None) == (absolute is None):
        refuse(node.path, "one of ratio and absolute", "both or none", code="wrong_value")
    return Limit(text=fields["text"].string(), ratio=ratio, absolute=absolute)


def _text(text: str) -> str:
    """What a reader takes: no half of a surrogate pair, and not too long."""
    whole = text.encode("utf-8", "backslashreplace").decode()
    most = LIMITS.string_length
    return whole if len(whole) <= most else f"{whole[: most - 1]}…"
