"""The table of POET's own optima as it was published, and where its graphs are.

POET's model solved to 1e-7 with HiGHS, and closed forms for the unit chains; an optimum of `None`
means that POET's model is infeasible there.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from poet_solvers.published_graph import PublishedGraph, read_published_graph, unit_chain

Mode = Literal["both", "remat only", "page only", "neither"]

REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """One published optimum; `optimum_joules` None means infeasible. `slow`: POET's model takes
    minutes for it."""

    graph: str
    ram_bytes: int
    time_ratio: float | None
    mode: Mode
    optimum_joules: float | None
    slow: bool = False

    @property
    def title(self) -> str:
        return f"{self.graph}, {self.ram_bytes} B, {self.mode}"

    @property
    def paging(self) -> bool:
        return self.mode in ("both", "page only")

    @property
    def rematerialization(self) -> bool:
        return self.mode in ("both", "remat only")


def _instance_rows(
    graph: str, ram_bytes: int, ratio: float, *optima: float | None, slow: bool = False
) -> Iterator[PublishedRow]:
    modes: tuple[Mode, ...] = ("both", "remat only", "page only")
    for mode, optimum in zip(modes, optima, strict=False):
        yield PublishedRow(
            graph=graph,
            ram_bytes=ram_bytes,
            time_ratio=ratio,
            mode=mode,
            optimum_joules=optimum,
            slow=slow,
        )


def _chain_rows(
    half: int, page_joules: float, ram_bytes: int, *optima: float | None
) -> Iterator[PublishedRow]:
    modes: tuple[Mode, ...] = ("both", "remat only", "page only", "neither")
    for mode, optimum in zip(modes, optima, strict=False):
        yield PublishedRow(
            graph=f"unit-chain-{half}-{page_joules}",
            ram_bytes=ram_bytes,
            time_ratio=None,
            mode=mode,
            optimum_joules=optimum,
        )


ROWS: tuple[PublishedRow, ...] = (
    *_instance_rows("linear-a72", 3256, 2.0, 0.00660322357, 0.00666395916, 0.00664594964),
    *_instance_rows("linear-a72", 5000, 2.0, 0.00658942492),
    *_instance_rows("linear-a72", 3255, 2.0, None),
    *_instance_rows("linear-m0", 3256, 2.0, 0.104912967, 0.105862680, 0.105627228),
    *_instance_rows("linear-m0", 5000, 2.0, 0.10467864),
    *_instance_rows("transformer-a72", 31457280, 2.0, 119.424346, 124.555367, 119.439165),
    *_instance_rows("transformer-a72", 34603008, 2.0, 119.394716, 119.409361, 119.409534),
    *_instance_rows("transformer-a72", 31457279, 2.0, None, slow=True),
    *_instance_rows("resnet18_cifar-a72", 3000000, 7.6, 7.88951018, slow=True),
    *_chain_rows(3, 5.0, 3, 10, 10, 27, None),
    *_chain_rows(3, 5.0, 4, 8, 8, 17, None),
    *_chain_rows(3, 5.0, 5, 7, 7, 7, 7),
    *_chain_rows(4, 5.0, 3, 15, 15, 39),
    *_chain_rows(4, 5.0, 4, 11, 11, 29),
    *_chain_rows(4, 5.0, 5, 10, 10, 19),
    *_chain_rows(4, 5.0, 6, 9, 9, 9),
    *_chain_rows(5, 5.0, 3, 21, 21, 51),
    *_chain_rows(5, 5.0, 4, 14, 14, 41),
    *_chain_rows(5, 5.0, 5, 13, 13, 31),
    *_chain_rows(5, 5.0, 6, 12, 12, 21),
    *_chain_rows(5, 5.0, 7, 11, 11, 11),
    *_chain_rows(4, 0.6, 3, 12.4),
    *_chain_rows(4, 0.6, 4, 11.0),
    *_chain_rows(5, 0.6, 3, 15.6),
    *_chain_rows(5, 0.6, 4, 14.0),
    *_chain_rows(6, 0.6, 4, 17.2),
)


def load_graph(name: str) -> PublishedGraph | None:
    """A unit chain by its name, or an instance file; None where the file is not on this machine."""
    if name.startswith("unit-chain-"):
        half, page_joules = name.removeprefix("unit-chain-").split("-")
        return unit_chain(int(half), page_joules=float(page_joules))
    outside = Path(os.environ.get("POET_INSTANCES") or REPOSITORY.parent / "shared" / "instances")
    for folder in (REPOSITORY / "tests" / "solvers" / "instances", outside / "poet"):
        path = folder / f"{name}.json"
        if path.is_file():
            return read_published_graph(path.read_text(encoding="utf-8"))
    return None
