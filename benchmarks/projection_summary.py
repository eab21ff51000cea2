"""Records of the projection benchmark -> one document: means, spreads, pairs, choices.

A *cell* is one row of one part over the seeds. Spread is the sample standard deviation. A *pair* is
the difference of two cells seed by seed; it is called significant where the 95% interval of its mean
(Student's t) leaves out 0.

Invariant: what is chosen (a variant of the intents) is chosen by the validation part alone.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.projection_recipes import LABELS, SEARCH_SETTINGS, SEARCH_SIZES, paper_table

Summary = dict[str, Any]
Record = dict[str, Any]
Cell = dict[str, Any]

# Two-sided 95% quantiles of Student's t by the number of pairs (any table).
_QUANTILES = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}  # fmt: skip

_IDENTITY = ("row", "labels", "network", "dropout")
_SHARES = ("test", "validation")


def summary(
    records: Sequence[Record], missing: Sequence[str], machine: Mapping[str, Any], *, steps: int,
    small: bool,
) -> Summary:  # fmt: skip
    """Everything that the tables and the picture show."""
    names = list(dict.fromkeys(record["job"]["part"] for record in records))
    by_part = {
        name: cells([record for record in records if record["job"]["part"] == name])
        for name in names
    }
    return {
        "steps": steps,
        "small": small,
        "machine": dict(machine),
        "sources": sorted({record["sources"] for record in records}),
        "missing": list(missing),
        "minutes": {
            name: round(
                statistics.mean(
                    record["job_seconds"] for record in records if record["job"]["part"] == name
                ) / 60, 2,
            )
            for name in names
        },
        "parts": by_part,
        "pairs": {name: part_pairs(name, found) for name, found in by_part.items()},
        "chosen": {
            name: chosen_intents(found) for name, found in by_part.items() if "intents" in name
        },
    }  # fmt: skip


def cells(records: Iterable[Record]) -> list[Cell]:
    """Rows of one part, over the seeds."""
    rows: dict[str, Cell] = {}
    for record in records:
        seed = str(record["job"]["seed"])
        for row in record["rows"]:
            identity = {name: row[name] for name in _IDENTITY if name in row}
            cell = rows.setdefault(str(sorted(identity.items())), {**identity, "by_seed": {}})
            cell["by_seed"][seed] = {k: v for k, v in row.items() if k not in identity}
    for cell in rows.values():
        cell.update(_over_seeds(list(cell["by_seed"].values())))
    return list(rows.values())


def _over_seeds(found: Sequence[Mapping[str, Any]]) -> Cell:
    """Mean and spread of shares and numbers; what is no number is the first seed's."""
    over: Cell = {}
    for name, value in found[0].items():
        values = [one[name] for one in found if name in one]
        if name in _SHARES:
            over[name] = {k: _mean_and_spread([one[k] for one in values]) for k in value}
        elif isinstance(value, bool):
            over[name] = all(values)
        elif isinstance(value, int | float) and name != "parameters":
            over[name] = _mean_and_spread(values)
        else:
            over[name] = value
    return over


def _mean_and_spread(values: Sequence[float]) -> list[float]:
    spread = statistics.stdev(values) if len(values) > 1 else 0.0
    return [round(statistics.mean(values), 4), round(spread, 4)]


def find(found: Iterable[Cell], **identity: Any) -> Cell | None:
    """The cell with these names."""
    for cell in found:
        if all(cell.get(name) == value for name, value in identity.items()):
            return cell
    return None


# -- pairs ------------------------------------------------------------------------------------


def part_pairs(name: str, found: list[Cell]) -> list[Cell]:
    """The comparisons that a part makes."""
    if name.startswith("table"):
        return _pairs(
            found,
            [
                ({"row": size}, {"row": size + LABELS})
                for size in paper_table(name.removeprefix("table-"))
            ],
        )
    if name.startswith("search"):
        return _pairs(
            found,
            [
                ({"row": f"{size} {setting}"}, {"row": size + LABELS})
                for size in SEARCH_SIZES
                for setting in SEARCH_SETTINGS
            ],
        )
    if name.startswith(("few", "layers", "intents")):
        return _twins(found)
    if name.startswith(("mentee", "graph")):
        return _against_plain(found)
    return []


def _twins(found: list[Cell]) -> list[Cell]:
    """Every row against the twin that learns from labels alone."""
    wanted = []
    for cell in found:
        row: str = cell["row"]
        rest = {name: cell[name] for name in _IDENTITY[1:] if name in cell}
        twin = _twin_name(row)
        if twin is not None and find(found, row=twin, **rest):
            wanted.append(({"row": row, **rest}, {"row": twin, **rest}))
    return _pairs(found, wanted)


def _twin_name(row: str) -> str | None:
    if LABELS in row:
        return None
    if " soft targets" in row:
        return row.partition(" soft targets")[0] + LABELS
    head, over, layer = row.partition(" over the ")
    if over:
        return head + LABELS + over + layer
    return row.partition(", weight")[0] + LABELS


def _against_plain(found: list[Cell]) -> list[Cell]:
    """Rows of a network against its row "alone"; a row's `network` says which."""
    wanted: list[tuple[dict[str, Any], dict[str, Any]]] = []
    for cell in found:
        rest: dict[str, Any] = {n: cell[n] for n in ("labels", "network") if n in cell}
        if cell["row"] != "alone" and find(found, row="alone", **rest):
            wanted.append(({"row": cell["row"], **rest}, {"row": "alone", **rest}))
    return _pairs(found, wanted)


def _pairs(
    found: list[Cell], wanted: Iterable[tuple[dict[str, Any], dict[str, Any]]]
) -> list[Cell]:
    made = []
    for one, other in wanted:
        left, right = find(found, **one), find(found, **other)
        if left is not None and right is not None:
            made.append({**one, "against": other["row"], **pair(left, right)})
    return made


def pair(left: Cell, right: Cell) -> Cell:
    """The differences of P@1 by seed, their mean, and whether it is certain to be on one side."""
    seeds = [seed for seed in left["by_seed"] if seed in right["by_seed"]]
    differences = [
        left["by_seed"][seed]["test"]["1"] - right["by_seed"][seed]["test"]["1"] for seed in seeds
    ]
    mean, spread = _mean_and_spread(differences)
    half = None
    if len(differences) in _QUANTILES:
        half = round(_QUANTILES[len(differences)] * spread / math.sqrt(len(differences)), 4)
    return {
        "differences": [round(x, 4) for x in differences],
        "mean": mean,
        "spread": spread,
        "half_interval": half,
        "significant": half is not None and abs(mean) > half,
    }


# -- choices ----------------------------------------------------------------------------------


def chosen_intents(found: list[Cell]) -> dict[str, Cell]:
    """Of trainers and of networks of each size the variant that is best on the validation part."""
    kinds = {
        "LSTM trainer": [cell for cell in found if cell["row"] == "trainer"],
        "60,12": [cell for cell in found if cell["row"].startswith("60,12")],
        "60,12 labels alone": [c for c in found if c["row"].startswith("60,12") and LABELS in c["row"]],
        "120,12": [cell for cell in found if cell["row"].startswith("120,12")],
    }  # fmt: skip
    chosen = {
        kind: max(variants, key=lambda cell: float(cell["validation"]["1"][0]))
        for kind, variants in kinds.items()
        if variants
    }
    for name in ("bag of words", "random", "most frequent"):
        cell = find(found, row=name)
        if cell is not None:
            chosen[name] = cell
    return chosen
