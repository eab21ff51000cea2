"""The parts of the projection benchmark, and what each is expected to take.

The minutes are of one core, for one seed at the full number of steps, reckoned from a few steps of
each kind; after the first parts the display of the time left goes by what they took. A part that builds on the joint run
trains it where it is not there yet.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.projection_devices import QUANTIZED_SIZES, c_code_rows, quantized_rows
from benchmarks.projection_fit import Row
from benchmarks.projection_graphs import (
    GRAPH_IMAGES,
    GRAPH_LABELS,
    GRAPH_SIZES,
    GRAPH_WEIGHTS,
    graph_rows,
)
from benchmarks.projection_images import (
    baselines_rows,
    bits_rows,
    coupled_rows,
    few_rows,
    layers_rows,
    search_rows,
    stretch_rows,
    table_rows,
)
from benchmarks.projection_mentors import CONVOLUTION_LABELS, MENTEE_LABELS, mentee_rows
from benchmarks.projection_mentors import RECIPE as MENTEE_RECIPE
from benchmarks.projection_place import Place
from benchmarks.projection_ram import SHARE, STEPS, ram_rows
from benchmarks.projection_recipes import (
    FEW_LABELS,
    FEW_SIZES,
    LOOKUPS,
    NEURAL_BITS,
    PAGING_WAYS,
    PAPER_TABLE,
    SHIFTED,
    SHIFTED_LOOKUPS,
    STRETCH,
    digest,
    search,
)
from benchmarks.projection_taught import recipe_digest
from benchmarks.projection_texts import intents_rows, text_digest

Run = Callable[[Place, str, int], list[Row]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One part on one data set. `recipe`: a digest of what decides its rows, beside the seed.

    `timed`: what it measures is time, so nothing runs beside it.
    """

    name: str
    data: str
    run: Run
    minutes: float
    recipe: Callable[[Place], str]
    timed: bool = False


def have_cifar100() -> bool:
    """Whether POET_DATA has CIFAR-100 in its binary version."""
    folder = os.environ.get("POET_DATA")
    return folder is not None and (Path(folder) / "cifar-100-binary").is_dir()


def parts() -> tuple[Part, ...]:
    """All parts whose data is here, in the order in which they run for a seed."""
    found = [
        _images("table", "mnist", table_rows, 7.5),
        _images("table", "fashion-mnist", table_rows, 7.5),
        _images("coupled", "mnist", coupled_rows, 5.5),
        _images(
            "stretch", "mnist", stretch_rows, 5, *STRETCH, *LOOKUPS, *SHIFTED, *SHIFTED_LOOKUPS
        ),
        _images("bits", "mnist", bits_rows, 1, NEURAL_BITS),
        _images("search", "mnist", search_rows, 2, *search()),
        _images("few", "mnist", few_rows, 6, FEW_LABELS, FEW_SIZES),
        _images("quantized", "mnist", quantized_rows, 1.5, *QUANTIZED_SIZES),
        _images("layers", "mnist", layers_rows, 1.5),
        _images("baselines", "mnist", baselines_rows, 1, list(PAPER_TABLE)),
        _images("baselines", "fashion-mnist", baselines_rows, 1, list(PAPER_TABLE)),
        _texts("clinc150", 6),
        _texts("banking77", 3.5),
        _texts("snips", 5),
    ]
    if have_cifar100():
        found.append(_images("table", "cifar100", table_rows, 12))
    mentees = (MENTEE_LABELS, MENTEE_RECIPE)
    found += [
        _images("mentee", "mnist", mentee_rows, 7, *mentees, CONVOLUTION_LABELS),
        _images("mentee", "fashion-mnist", mentee_rows, 1.5, *mentees),
    ]
    graph = (GRAPH_LABELS, GRAPH_SIZES, GRAPH_WEIGHTS, GRAPH_IMAGES)
    found.append(_images("graph", "mnist", graph_rows, 3, *graph))
    found.append(
        _images("ram", "mnist", ram_rows, 4, STEPS, SHARE, "time", PAGING_WAYS, timed=True)
    )
    found.append(_images("c-code", "mnist", c_code_rows, 0.3, timed=True))
    return tuple(found)


def _images(
    name: str, data: str, run: Run, minutes: float, *recipe: object, timed: bool = False
) -> Part:
    return Part(
        name=f"{name}-{data}", data=data, run=run, minutes=minutes, timed=timed,
        recipe=functools.partial(_image_digest, data=data, recipe=recipe),
    )  # fmt: skip


def _image_digest(place: Place, *, data: str, recipe: tuple[object, ...]) -> str:
    return digest(recipe_digest(place, data), *recipe)


def _texts(data: str, minutes: float) -> Part:
    return Part(
        name=f"intents-{data}", data=data, run=intents_rows, minutes=minutes,
        recipe=lambda place: digest(text_digest(), place.text_epochs, place.small),
    )  # fmt: skip
