"""What the planner is measured on: instances, budgets, the figures to meet, and the rule for meeting them.

`PROTOTYPE` is in percent over the base cost: the best of many runs of a throw-away prototype, measured
on 2 cores before this planner was written (RL1 at 60% was found once and never again).
`PUBLISHED` holds what the papers say of the same graphs. Invariant: figures here are other people's or
the prototype's, never this planner's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.instances import FLOOR_PLUS

PROTOTYPE: dict[str, dict[str, float]] = {
    "RL1": {"90": 0, "80": 0, "70": 2.14, "60": 33},
    "RL3": {"90": 0, "80": 0.92, "70": 5.33, "60": 22.3},
    "CM1": {"90": 0.029, "80": 0.136, "70": 0.8915, FLOOR_PLUS: 1.617},
    "MobileNet": {
        "90": 0.164, "80": 0.370, "70": 0.626, "60": 1.07, "50": 1.635, "40": 2.47, "30": 4.29,
        FLOOR_PLUS: 9.14,
    },
    "vgg-unet": {"70": 2.97, "60": 4.45, "50": 6.97, "40": 13.1, FLOOR_PLUS: 11.7},
    "ResNet-18, a72": {
        "90": 0.0038, "80": 0.0116, "70": 0.0198, "60": 0.0280, "50": 0.0358, FLOOR_PLUS: 0.0405,
    },
    "ResNet-18, flops": {
        "90": 0.0038, "80": 0.0141, "70": 0.0249, "60": 0.0377, "50": 4.459, FLOOR_PLUS: 4.468,
    },
    "ResNet-18, m4": {
        "90": 0.0038, "80": 0.0141, "70": 0.0249, "60": 0.0377, "50": 2.377, FLOOR_PLUS: 4.31,
    },
    "VGG-16, a72": {
        "90": 0.0023, "80": 0.0060, "70": 0.0110, "60": 0.0161, "50": 0.0211, FLOOR_PLUS: 0.0244,
    },
    "VGG-16, flops": {
        "90": 0.0024, "80": 0.193, "70": 2.19, "60": 6.19, "50": 15.17, FLOOR_PLUS: 27.3,
    },
    "BERT-base, a72": {
        "90": 0.0064, "80": 0.0157, "70": 0.0251, "60": 0.0347, "50": 0.0443, "40": 0.0532,
        "30": 0.0626, FLOOR_PLUS: 0.0906,
    },
    "BERT-base, flops": {
        "90": 0.0070, "80": 0.0165, "70": 0.0268, "60": 0.0396, "50": 0.191, "40": 0.895,
        "30": 2.154,
    },
    "BERT-base, m4": {
        "90": 0.0070, "80": 0.0165, "70": 0.0268, "60": 0.0396, "50": 0.115, "40": 1.03,
        "30": 1.80, FLOOR_PLUS: 9.97,
    },
}  # fmt: skip

INSTANCES = (*PROTOTYPE, "VGG-16, m4")
"""Every instance with a part in the benchmark; the last has no row in the table."""

REPORT_ONLY = frozenset({("RL1", "60")})
"""Points that are reported and not judged."""

PROOF_SHARE = 0.70
"""The share of the proof points that should be proven optimal for the given order."""

GAP_TARGETS = {
    ("BERT-base, a72", "40"): 0.01,
    ("BERT-base, flops", "40"): 1.0,
    ("BERT-base, m4", "40"): 1.0,
}
"""The gap on total cost, in percent, that these points should reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """What a paper reports for one of our points. None: the seconds are not reported."""

    planner: str
    overhead_percent: float
    seconds: float | None = None


CHECKMATE, MOCCASIN, FASTSA = "Checkmate MILP", "Moccasin", "FastSA"

PLANNERS = {
    CHECKMATE: "Gurobi, cores not stated; keeps the order",
    MOCCASIN: "CP-SAT, 16 workers",
    FASTSA: "one core; reorders",
}
"""The published planners, and what they ran on."""


def _published(planner: str, overhead_percent: float, seconds: float | None = None) -> Published:
    return Published(planner=planner, overhead_percent=overhead_percent, seconds=seconds)


PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {
    ("RL1", "90"): (
        _published(CHECKMATE, 0.8, 18.5),
        _published(MOCCASIN, 0.8, 9.3),
        _published(FASTSA, 0, 11.7),
    ),
    ("RL1", "80"): (
        _published(CHECKMATE, 2.3, 22.7),
        _published(MOCCASIN, 2.3, 9.5),
        _published(FASTSA, 0.3, 11.5),
    ),
    ("RL1", "70"): (_published(FASTSA, 2.2),),
    ("RL3", "90"): (_published(MOCCASIN, 0.7, 1803), _published(FASTSA, 0.03, 21)),
    ("RL3", "80"): (_published(MOCCASIN, 3.4, 1805), _published(FASTSA, 2.3, 20.9)),
    ("RL3", "70"): (_published(FASTSA, 4.8),),
    ("CM1", "90"): (
        _published(CHECKMATE, 0, 6.3),
        _published(MOCCASIN, 0, 3.1),
        _published(FASTSA, 0.1, 9.4),
    ),
    ("CM1", "80"): (
        _published(CHECKMATE, 0.1, 5.6),
        _published(MOCCASIN, 0.1, 3.1),
        _published(FASTSA, 0.1, 9.7),
    ),
    ("CM1", "70"): (_published(FASTSA, 3.0),),
}

QUICK = (
    ("RL1", "80"),
    ("RL3", "80"),
    ("CM1", "70"),
    ("MobileNet", "50"),
    ("vgg-unet", "60"),
    ("ResNet-18, a72", "50"),
    ("ResNet-18, m4", "60"),
    ("ResNet-18, flops", "50"),
    ("VGG-16, a72", "50"),
    ("VGG-16, flops", "60"),
    ("BERT-base, a72", "40"),
    ("BERT-base, flops", "40"),
    ("BERT-base, m4", "40"),
)
"""The points of the short form: one or two an instance."""


def table_points() -> tuple[tuple[str, str], ...]:
    """(instance, budget) for every figure of the table."""
    return tuple((name, budget) for name, row in PROTOTYPE.items() for budget in row)


def proof_points() -> tuple[tuple[str, str], ...]:
    """Budgets of at least 50%, above the floor, of the conv nets: planned in the given order."""
    rows = {name: tuple(PROTOTYPE[name]) for name in ("MobileNet", "vgg-unet", "CM1")}
    shares = ("90", "80", "70", "60", "50")
    for network in ("ResNet-18", "VGG-16"):
        rows |= {f"{network}, {model}": shares for model in ("a72", "flops", "m4")}
    return tuple(
        (name, budget) for name, budgets in rows.items() for budget in budgets if budget in shares
    )


def meets(overhead_percent: float, figure: float) -> bool:
    """Within 0.5 percentage points of the figure, and within 2% of it where it is above 0.5%."""
    return overhead_percent <= figure + 0.5 and (figure <= 0.5 or overhead_percent <= figure * 1.02)


def greedy_limit_seconds(ops: int) -> float:
    """50 ms up to 400 ops, 0.5 s at 1000, a power law between them and beyond."""
    return max(0.05, 0.05 * math.pow(ops / 400, math.log(10, 2.5)))
