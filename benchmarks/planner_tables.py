"""The Markdown tables of the planner benchmark. Overheads and gaps are in percent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = dict[str, Any]

_NONE = "\u2013"


def heading(found: Mapping[str, Any]) -> str:
    """What was run on what."""
    machine, key = found["machine"], found["key"]
    return (
        "# The planner, measured\n\n"
        f"By `python -m benchmarks.planner`: {key['seconds']:g} s of wall time a point, {key['jobs']} "
        f"points at a time on 2 cores of {machine['cores']} ({machine['processor']}), so each point had "
        f"{key['seconds'] * 2 / key['jobs']:g} core-seconds at most; seeds 0 to {found['seeds'] - 1}. "
        f"Python {machine['python']}, highspy {machine['highspy']}, PuLP {machine['pulp']}; MILP backend "
        f"{key['backend']}; planner sources {key['planner']}. Overhead: percent over what every op once "
        "costs. Every plan was accepted by the judge. Budget: percent of keep-everything's peak."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join(lines)


def percent(value: float | None) -> str:
    """Four significant digits are enough to tell two plans apart; zero is zero."""
    if value is None:
        return _NONE
    return "0" if abs(value) < 5e-8 else f"{value:.4g}"


def seconds(value: float | None) -> str:
    """Hundredths, or less where it is short."""
    return _NONE if value is None else f"{value:.3f}" if value < 0.1 else f"{value:.2f}"


def point_table(points: list[Record]) -> str:
    """Ours against the figures."""
    head = (
        "instance", "budget", "figure", "median", "best", "seeds", "", "found by", "s to 1%",
        "s to final", "bound", "holds for", "gap of total", "gap of overhead", "proven",
    )  # fmt: skip
    rows = []
    for one in points:
        skipped = one["seeds_not_run"]
        seeds = str(len(one["overhead_by_seed"])) + ("" if skipped is None else f" ({skipped})")
        proven = {"FITS": "yes", "PROVEN": "yes", "PROVEN_FOR_ORDER": "for its order"}
        rows.append(
            (
                one["instance"], one["budget"], f"{one['figure']:g}", percent(one["median"]),
                percent(one["best"]), seeds, one["verdict"], one["found_by"] or (one["error"] or _NONE).partition(":")[0],
                seconds(one["near_seconds"]), seconds(one["final_seconds"]),
                percent(one["bound_percent"]), _order(one["holds_for"]), percent(one["gap_percent"]),
                percent(one["overhead_gap_percent"]), proven.get(one["ending"] or "", "no"),
            )
        )  # fmt: skip
    return table(head, rows)


def _order(holds_for: str | None) -> str:
    return (holds_for or _NONE).replace("_", " ")


def published_table(points: list[Record]) -> str:
    """Ours beside what papers report."""
    planners = sorted({told["planner"] for one in points for told in one["published"]})
    rows = []
    for one in points:
        if not one["published"]:
            continue
        cells = {
            told["planner"]: percent(told["overhead"])
            + ("" if told["seconds"] is None else f" @ {told['seconds']:g} s")
            for told in one["published"]
        }
        ours = f"{percent(one['median'])} @ {seconds(one['worst_near_seconds'])} s"
        rows.append(
            (one["instance"], one["budget"], *(cells.get(name, _NONE) for name in planners), ours)
        )
    return table(("instance", "budget", *planners, "ours"), rows)


def alternative_table(
    points: list[Record], records: list[Record], alternatives: Sequence[str]
) -> str:
    """Ours beside the alternatives."""
    found = {
        (record["job"]["instance"], record["job"]["alternative"], row["budget"]): row[
            "overhead_percent"
        ]
        for record in records
        for row in record["rows"]
    }
    rows = [
        (
            one["instance"], one["budget"], percent(one["median"]),
            *(percent(found.get((one["instance"], name, one["budget"]))) for name in alternatives),
        )
        for one in points
    ]  # fmt: skip
    return table(("instance", "budget", "ours", *alternatives), rows)


def proof_table(proofs: list[Record]) -> str:
    """Points in the given order."""
    head = (
        "instance", "budget", "proven", "seconds", "overhead", "bound", "gap of overhead",
        "bound by",
    )  # fmt: skip
    rows = [
        (
            one["job"]["instance"], one["job"]["budget"], "yes" if one.get("proven") else "no",
            seconds(one["wall_seconds"]), percent(one.get("overhead_percent")),
            percent(one.get("bound_percent")), percent(one.get("overhead_gap_percent")),
            one.get("bound_by") or one.get("error", _NONE).partition(":")[0],
        )
        for one in proofs
    ]  # fmt: skip
    return table(head, rows)


def gap_table(points: list[Record], targets: Mapping[tuple[str, str], float]) -> str:
    """Points whose gap on total cost has a target."""
    rows = []
    for one in points:
        target = targets.get((one["instance"], one["budget"]))
        gap = one["gap_percent"]
        if target is not None:
            held = gap is not None and gap <= target
            rows.append(
                (
                    one["instance"], one["budget"], percent(gap), f"{target:g}",
                    "yes" if held else "no", _order(one["holds_for"]),
                )
            )  # fmt: skip
    return table(("instance", "budget", "gap", "target", "reached", "bound holds for"), rows)


def greedy_table(records: list[Record]) -> str:
    """Greedy's time, and what is left where it finds nothing."""
    rows = []
    for one in records:
        slowest = max(one["rows"], key=lambda row: float(row["seconds"]))
        near_floor = next(row for row in one["rows"] if row["budget"].startswith("floor"))
        limit = one["limit_seconds"]
        cheapest = min(
            (
                value
                for value in (near_floor["overhead_percent"], near_floor["evict_overhead_percent"])
                if value is not None
            ),
            default=None,
        )
        rows.append(
            (
                one["job"]["instance"], str(one["ops"]), f"{1000 * slowest['seconds']:.0f} ms",
                f"{1000 * limit:.0f} ms", "yes" if slowest["seconds"] <= limit else "no",
                " ".join(
                    f"{row['budget']}: {percent(row['overhead_percent'])}" for row in one["rows"]
                ),
                percent(cheapest),
            )
        )  # fmt: skip
    head = (
        "instance", "ops", "slowest budget", "target", "held", "overhead by budget",
        "floor + 5%: greedy or eviction",
    )  # fmt: skip
    return table(head, rows)


def single_table(records: list[Record]) -> str:
    """Problems that are timed by themselves."""
    head = (
        "problem", "seconds allowed", "seconds", "cost", "overhead", "s to 1%", "gap of total",
        "bound holds for", "ended",
    )  # fmt: skip
    rows = []
    for one in records:
        job = one["job"]
        layers = job.get("layers")
        name = f"{job['ram_bytes']:,} B" if layers is None else f"{layers}-layer step"
        if one.get("ops") and layers is not None:
            name += f", {one['ops']} ops"
        rows.append(
            (
                name, f"{job['seconds']:g}", seconds(one.get("wall_seconds")),
                _NONE if "cost" not in one else f"{one['cost']:.9g}",
                percent(one.get("overhead_percent")), seconds(one.get("near_seconds")),
                percent(one.get("gap_percent")), _order(one.get("holds_for")),
                one.get("ending") or one.get("error", _NONE),
            )
        )  # fmt: skip
    return table(head, rows)


def frontier_table(records: list[Record]) -> str:
    """Each frontier's points, loosest first."""
    parts = []
    for one in records:
        job = one["job"]
        rows = [
            (
                f"{row['ram_bytes']:,}", f"{row['ram_percent']:.1f}",
                percent(row["overhead_percent"]), percent(row["bound_percent"]),
                row["found_by"] or row["error"] or _NONE,
            )
            for row in one["rows"]
        ]  # fmt: skip
        parts.append(
            f"{job['instance']}, {job['seconds']:g} s a point one after the other: "
            f"{one['wall_seconds']:.0f} s.\n\n"
            + table(("RAM bytes", "% of the peak", "overhead", "bound", "found by"), rows)
        )
    return "\n\n".join(parts) or "Not run."
