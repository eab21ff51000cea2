"""Reports and jobs for the tests of the Action."""

from __future__ import annotations

import json
from pathlib import Path

from poet_cli.check.entries import Entry, Place
from poet_cli.check.report import Held, Report, Row, Verdict
from tests.check.github_stub import REPOSITORY, TOKEN, event


def entry(**changes):
    given = {
        "name": "mlp on mkr1000",
        "step": "nets.mlp:step",
        "device": "mkr1000",
        "ram_bytes": 32768,
        "place": Place(file=Path("poet-check.toml"), line=3),
    }
    return Entry(**(given | changes))


def row(**changes):
    given = {
        "entry": entry(),
        "verdict": Verdict.FITS,
        "reason": "A plan inside every limit.",
        "floor_bytes": 20000,
        "keep_everything_bytes": 60000,
        "peak_bytes": 30000,
        "seconds": 0.2,
        "base_seconds": 0.1,
        "joules": 0.02,
        "base_joules": 0.01,
        "gap": 0.0,
    }
    return Row(**(given | changes))


def failing(**changes):
    return row(
        verdict=Verdict.DOES_NOT_FIT,
        reason="The RAM floor is above the budget.",
        code="ram_below_floor",
        floor_bytes=40000,
        floor_set_by="addmm.3",
        peak_bytes=None,
        at_peak=(Held(name="fc1.weight", role="parameter", size_bytes=1000),),
        advice=("Batch 4 fits.",),
        **changes,
    )


def report(*rows):
    return Report(rows=rows or (row(), failing()))


def job(folder, stub, **changes):
    """The environment of a `workflow_run` job."""
    told = folder / "event.json"
    told.write_text(json.dumps(changes.pop("event", event())))
    return {
        "GITHUB_API_URL": stub.address,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_EVENT_PATH": str(told),
        "GITHUB_TOKEN": TOKEN,
        "GITHUB_SERVER_URL": "https://github.com",
    } | changes
