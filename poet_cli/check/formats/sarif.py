"""A report as SARIF 2.1.0: a result a row that does not fit, at its line of the configuration.

Rules are the stable codes of rows. Invariant: file names are relative to the repository's root, and
a result keeps its fingerprint as long as the row keeps its name and its code.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

from poet_cli.check.baseline import changes
from poet_cli.check.formats import words
from poet_cli.check.formats.escape import line, relative_path, repository_root, sarif
from poet_cli.check.report import Report, Row, Verdict
from poet_cli.check.versions import tool_version

_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_ROOT = "%SRCROOT%"
_RULES = {
    "ram_below_floor": "The RAM budget is below what any plan of the model's training step needs.",
    "limit_below_bound": "Every plan within the RAM budget costs more than the limit allows.",
    "time_below_base": "Running every op once takes longer than the limit allows.",
    "energy_below_base": "Running every op once takes more energy than the limit allows.",
    "not_found_in_time": "Neither a plan nor a proof was found in the planner's time.",
    "trace_timed_out": "The model's training step was not built and traced in time.",
}
_BY_VERDICT = {
    Verdict.FITS: "The model fits.",
    Verdict.DOES_NOT_FIT: "The model is proven not to fit.",
    Verdict.UNDECIDED: "Neither a plan nor a proof was found.",
    Verdict.FAILED: "The model's training step cannot be traced or planned.",
}


def render(report: Report, *, baseline: Report | None = None, root: Path | None = None) -> str:
    """The SARIF log. `root`: the repository's root, the one of the configuration's unless given."""
    changed = {} if baseline is None else changes(report, baseline)
    rows = [r for r in words.ordered(report) if r.verdict is not Verdict.FITS or r.internal]
    codes = list(dict.fromkeys(_code(row) for row in rows))
    first = {_code(row): row for row in reversed(rows)}
    results = []
    for row in rows:
        result = _result(
            row, codes.index(_code(row)), root or repository_root(row.entry.place.file)
        )
        change = changed.get(row.entry.name)
        if change is not None:
            result["properties"]["sinceBaseline"] = words.change_sentence(change)
        results.append(result)
    log = {
        "$schema": _SCHEMA,
        "version": "2.1.0",
        "runs": [
            {
                "tool": {
                    "driver": {
                        "name": "poet check",
                        "version": tool_version(),
                        "rules": [_rule(code, first[code]) for code in codes],
                    }
                },
                "invocations": [
                    {
                        "executionSuccessful": report.exit_code() in {0, 1, 3},
                        "exitCode": report.exit_code(),
                    }
                ],
                "columnKind": "unicodeCodePoints",
                "results": results,
            }
        ],
    }
    return json.dumps(log, indent=1, ensure_ascii=True, allow_nan=False) + "\n"


def _code(row: Row) -> str:
    return line(row.code or row.verdict.value.replace(" ", "_"), 80)


def _rule(code: str, row: Row) -> dict[str, Any]:
    return {
        "id": code,
        "shortDescription": {"text": _RULES.get(code, _BY_VERDICT[row.verdict])},
        "defaultConfiguration": {"level": "error"},
    }


def _result(row: Row, rule: int, root: Path) -> dict[str, Any]:
    entry = row.entry
    told = [f"{entry.name}: {row.verdict.value}"]
    told += [f"{label}: {text}" if label else text for label, text in words.details(row)]
    if fix := words.fix_of(row):
        told.append(f"Fix: write {fix}")
    identity = json.dumps([entry.name, _code(row)], ensure_ascii=True)
    return {
        "ruleId": _code(row),
        "ruleIndex": rule,
        "level": "error" if words.is_failure(row) else "warning",
        "message": {"text": "\n".join(map(sarif, told))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": _location(entry.place.file, root),
                    "region": {"startLine": max(1, entry.place.line)},
                }
            }
        ],
        "partialFingerprints": {
            "poetCheckRow/v1": hashlib.sha256(identity.encode()).hexdigest(),
        },
        "properties": {
            "step": line(entry.step),
            "device": line(entry.device),
            "budgetBytes": entry.ram_bytes,
            "floorBytes": row.floor_bytes,
            "peakBytes": row.peak_bytes,
            "leastKnownBytes": row.least_bytes,
        },
    }


def _location(file: Path, root: Path) -> dict[str, str]:
    path = relative_path(file, root)
    quoted = quote(path.encode("utf-8", "replace"))
    if path.startswith("/"):  # outside of the repository
        return {"uri": f"file://{quoted}"}
    return {"uri": quoted, "uriBaseId": _ROOT}
