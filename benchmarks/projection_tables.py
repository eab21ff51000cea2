"""The Markdown of the projection benchmark: lays out `projection_summary` and computes nothing new.

Every figure is percent of the test part, mean over the seeds and ± the sample standard deviation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from benchmarks.planner_tables import table
from benchmarks.projection_recipes import (
    LABELS,
    PAGING_WAYS,
    PAPER_RATIOS,
    PAPER_TRAINERS,
    STRETCH_FIGURES,
    TRAINER_FIGURE,
    PaperRow,
    paper_table,
)
from benchmarks.projection_summary import Cell, Summary, find

_NONE = "\u2013"
_KS = ("1", "3", "5")
_SHIPPED_LIMIT_BYTES = 8_000
_WITHIN_POINTS = 0.3
_LEAST_IMAGES_A_SECOND = 2_000
_LONGEST_RATIO = 1.3
_WITHIN_RELATIVE, _STRETCH_RELATIVE = 15.0, 5.0


def markdown(found: Summary) -> str:
    """All tables of what has been run."""
    sections: dict[str, Callable[[str, Summary], str]] = {
        "table": _table_section,
        "stretch": _stretch_section,
        "coupled": _coupled_section,
        "search": _search_section,
        "few": _few_section,
        "layers": _pairs_section,
        "bits": _bits_section,
        "baselines": _baselines_section,
        "intents": _intents_section,
        "quantized": _quantized_section,
        "c-code": _c_section,
        "ram": _ram_section,
        "mentee": _pairs_section,
        "graph": _pairs_section,
    }
    made = [_heading(found)]
    for part in found["parts"]:
        section = next(make for name, make in sections.items() if part.startswith(name))
        made.append(section(part, found))
    if found["missing"]:
        made.append("## Not run\n\n" + ", ".join(found["missing"]) + ".")
    return "\n\n".join(made) + "\n"


def _heading(found: Summary) -> str:
    machine = found["machine"]
    small = (
        "**A --small run: these figures say that it runs, and nothing else.** "
        if found["small"]
        else ""
    )
    minutes = sum(found["minutes"].values())
    return (
        "# ProjectionNet, measured\n\n"
        f"{small}By `python -m benchmarks.projection`: {found['steps']} steps of the joint training on "
        f"images (the paper: 400,000), {machine['threads']} threads on {machine['processor']}, Python "
        f"{machine['python']}, torch {machine['torch']}; sources {', '.join(found['sources']) or _NONE}; "
        f"{minutes:.0f} minutes a seed in all. P@k in percent of the test part, mean over the seeds "
        "± sample standard deviation. Pairs: difference of P@1 seed by seed, with the half-width of the "
        "95% interval of its mean (Student's t); *yes* where it leaves out 0: of twenty comparisons "
        "without a difference one is expected to say so by chance."
    )  # fmt: skip


# -- cells ------------------------------------------------------------------------------------


def _number(pair: Sequence[float] | None, places: int = 2) -> str:
    if pair is None:
        return _NONE
    return f"{pair[0]:.{places}f} ± {pair[1]:.{places}f}"


def _shares(cell: Cell | None) -> list[str]:
    if cell is None:
        return [_NONE] * len(_KS)
    return [_number(cell["test"].get(k)) for k in _KS]


def _p1(cell: Cell | None) -> float | None:
    return None if cell is None else float(cell["test"]["1"][0])


def _parameters(cell: Cell | None) -> str:
    return _NONE if cell is None else f"{cell['parameters']:,}"


def _yes(held: bool | None) -> str:
    return _NONE if held is None else "yes" if held else "no"


def _pair_cells(one: Mapping[str, Any] | None) -> list[str]:
    if one is None:
        return [_NONE] * 3
    half = _NONE if one["half_interval"] is None else f"{one['half_interval']:.2f}"
    listed = ", ".join(f"{x:+.2f}" for x in one["differences"])
    # a rounded zero has no sign
    return [f"{one['mean'] + 0.0:+.2f} ({listed})", half, _yes(one["significant"])]


def _pair_table(pairs: Iterable[Cell]) -> str:
    rows = [
        [
            str(one.get("network", f"dropout {one['dropout']:g}" if "dropout" in one else "")),
            str(one.get("labels", "all")), one["row"], one["against"], *_pair_cells(one),
        ]
        for one in pairs
    ]  # fmt: skip
    head = ("network", "labels", "row", "against", "difference (by seed)", "±", "significant")
    return table(head, rows)


# -- sections ---------------------------------------------------------------------------------


def _table_section(part: str, found: Summary) -> str:
    cells: list[Cell] = found["parts"][part]
    data = part.removeprefix("table-")
    published = PAPER_TRAINERS.get(data)
    trainer = find(cells, row="trainer")
    reached = f"{_yes((_p1(trainer) or 0) >= TRAINER_FIGURE)} (target {TRAINER_FIGURE})"
    rows = [
        [
            "trainer", _parameters(trainer), *_shares(trainer), _NONE, _published(published),
            reached if data == "mnist" else "",
        ]
    ]  # fmt: skip
    for size, paper in paper_table(data).items():
        cell = find(cells, row=size)
        if cell is None:
            continue
        counted = published is None or cell["parameters"] == paper.parameters
        held = _at_or_above(cell, paper.precision) and counted
        told = "" if counted else f" (paper: {paper.parameters:,})"
        rows.append(
            [
                size, _parameters(cell) + told, *_shares(cell),
                _shares(find(cells, row=size + LABELS))[0],
                _published(None if published is None else paper),
                "" if published is None else _yes(held),
            ]
        )  # fmt: skip
    head = ("[T,d]", "parameters", "P@1", "P@3", "P@5", "labels alone", "paper", "at or above")
    text = f"## Table 1: {part}\n\n" + table(head, rows)
    text += (
        "\n\n### The joint loss against labels alone, at the paper's weights\n\n"
        "Equal weights at the start, equal batches, the distillation detached.\n\n"
    )
    return text + _pair_table(found["pairs"][part])


def _published(paper: PaperRow | None) -> str:
    return _NONE if paper is None else " / ".join(f"{share:g}" for share in paper.precision)


def _at_or_above(cell: Cell, precision: Sequence[float]) -> bool:
    # the paper has one decimal
    return all(
        round(cell["test"][k][0], 1) >= figure for k, figure in zip(_KS, precision, strict=True)
    )


def _stretch_section(part: str, found: Summary) -> str:
    cells: list[Cell] = found["parts"][part]
    rows = [
        [
            cell["row"], _parameters(cell), f"{cell['bytes'][0]:,.0f}",
            f"{cell['int8_bytes'][0]:,.0f}", *_shares(cell),
        ]
        for cell in cells
    ]  # fmt: skip
    head = ("network", "parameters", "bytes, float32", "bytes, int8", "P@1", "P@3", "P@5")
    text = (
        f"## Stretch: {part}\n\nBeside the trainer of the table, trained before. Bits are -1 and 1 "
        "but where told. *T=4*: soft targets of temperature 4 with weight 4. *Dropped bits*: a "
        "training step does not see some of them. *Shifted images*: trained on each image and on it "
        "moved by one pixel each way. Of a lookup the touched rows are in the file.\n\n"
        + table(head, rows)
    )
    everything = [*found["parts"].get(part.replace("stretch", "table"), []), *cells]
    for name, (figure, names) in STRETCH_FIGURES.items():
        known = [cell for one in names if (cell := find(everything, row=one)) is not None]
        if known:
            best = max(known, key=lambda cell: float(cell["validation"]["1"][0]))
            told = "reached" if best["test"]["1"][0] >= figure else "not reached"
            text += (
                f"\n\n{name} at {figure:g}: {told}; best on the validation part: {best['row']}, "
                f"{best['test']['1'][0]:.2f}."
            )
    return text


def _coupled_section(part: str, found: Summary) -> str:
    detached = found["parts"].get(part.replace("coupled", "table"), [])
    rows = []
    for row in ("trainer", "60,12"):
        for name, cells in (("through both", found["parts"][part]), ("detached", detached)):
            cell = find(cells, row=row)
            rows.append([row, name, _parameters(cell), *_shares(cell)])
    head = ("network", "gradient of the distillation", "parameters", "P@1", "P@3", "P@5")
    return f"## Both settings of the distillation at [60,12]: {part}\n\n" + table(head, rows)


def _search_section(part: str, found: Summary) -> str:
    return (
        f"## Where the joint loss helps: {part}\n\nBeside the trainer of the table, trained before "
        "(its soft targets are recorded), against labels alone.\n\n"
        + _pair_table(found["pairs"][part])
    )


def _few_section(part: str, found: Summary) -> str:
    rows = [
        [str(cell["labels"]), cell["row"], _parameters(cell), *_shares(cell)]
        for cell in found["parts"][part]
    ]
    head = ("labels", "network", "parameters", "P@1", "P@3", "P@5")
    return (
        f"## Few labels: {part}\n\nTrainer and networks see so many labels. *Soft targets on all "
        "images*: the network learns what that trainer says of every training image, and no label.\n\n"
        + table(head, rows) + "\n\n" + _pair_table(found["pairs"][part])
    )  # fmt: skip


def _pairs_section(part: str, found: Summary) -> str:
    rows = [
        [
            str(cell.get("network", "")), str(cell.get("labels", "all")), cell["row"],
            str(cell.get("skipped", "")) or _parameters(cell),
            *(_shares(cell) if "test" in cell else _shares(None)),
        ]
        for cell in found["parts"][part]
    ]  # fmt: skip
    head = ("network", "labels", "row", "parameters", "P@1", "P@3", "P@5")
    pairs = found["pairs"][part]
    return f"## {part}\n\n" + table(head, rows) + ("\n\n" + _pair_table(pairs) if pairs else "")


def _bits_section(part: str, found: Summary) -> str:
    cells = sorted(found["parts"][part], key=lambda cell: float(cell["neural_bits"][0]))
    rows = [
        [
            cell["row"], f"{cell['neural_bits'][0]:.0f}", _parameters(cell), *_shares(cell),
            _number(cell["ratio"], 3), f"{PAPER_RATIOS.get(int(cell['neural_bits'][0]), _NONE)}",
        ]
        for cell in cells
    ]  # fmt: skip
    head = ("[T,d]", "neural bits", "parameters", "P@1", "P@3", "P@5", "ratio", "paper's ratio")
    return (
        f"## Neural bits (Figure 2): {part}\n\nRatio: P@1 over the trainer's of the same seed.\n\n"
        + table(head, rows)
    )


def _baselines_section(part: str, found: Summary) -> str:
    joint = found["parts"].get(part.replace("baselines", "table"), [])
    rows = []
    for cell in found["parts"][part]:
        size = cell["row"].removeprefix("small net for ")
        beside = _p1(find(joint, row=size)) if size != cell["row"] else None
        told = _NONE if beside is None else f"{beside:.2f}"
        rows.append([cell["row"], _parameters(cell), *_shares(cell), told])
    head = ("baseline", "parameters", "P@1", "P@3", "P@5", "projection net of that size")
    return f"## Baselines: {part}\n\n" + table(head, rows)


def _intents_section(part: str, found: Summary) -> str:
    chosen: dict[str, Cell] = found["chosen"][part]
    trainer = _p1(chosen.get("LSTM trainer"))
    rows = []
    for kind, cell in chosen.items():
        variant = cell["row"] if cell["row"] != "trainer" else ""
        if "dropout" in cell:
            variant += f"{', ' if variant else ''}dropout {cell['dropout']:g}"
        behind = _behind(trainer, _p1(cell))
        rows.append([kind, variant, _parameters(cell), *_shares(cell), behind])
    head = ("network", "variant", "parameters", "P@1", "P@3", "P@5", "relative to the trainer")
    return (
        f"## {part}\n\nThe variant of each kind is the best on the validation part. The paper's projection "
        f"net is 15% behind its LSTM; within {_WITHIN_RELATIVE:g}% is asked for, {_STRETCH_RELATIVE:g}% "
        "is the stretch.\n\n" + table(head, rows)
        + "\n\nThe joint loss against labels alone, equal variants:\n\n"
        + _pair_table(found["pairs"][part])
    )  # fmt: skip


def _behind(trainer: float | None, own: float | None) -> str:
    if not trainer or own is None:
        return _NONE
    change = 100 * (own / trainer - 1)
    if change >= 0:
        return f"{change:+.1f}%"
    within = next((f"{w:g}%" for w in (_STRETCH_RELATIVE, _WITHIN_RELATIVE) if -change <= w), None)
    return f"{change:+.1f}% ({'within ' + within if within else f'over {_WITHIN_RELATIVE:g}%'})"


def _quantized_section(part: str, found: Summary) -> str:
    cells: list[Cell] = found["parts"][part]
    rows = []
    for cell in cells:
        plain = find(cells, network=cell["network"], row="float32")
        gained = (_p1(cell) or 0) - (_p1(plain) or 0)
        rows.append(
            [
                cell["network"],
                cell["row"],
                f"{cell['bytes'][0]:,.0f}",
                *_shares(cell),
                f"{gained:+.2f}",
            ]
        )
    head = ("network", "weights", "bytes of the file", "P@1", "P@3", "P@5", "against float32")
    text = f"## Fewer bits: {part}\n\nA file holds all that a device needs.\n\n" + table(head, rows)
    small = find(cells, network="60,12", row="int8 after training")
    plain = find(cells, network="60,12", row="float32")
    if small is not None and plain is not None:
        lost = abs((_p1(plain) or 0) - (_p1(small) or 0))
        held = small["bytes"][0] <= _SHIPPED_LIMIT_BYTES and lost <= _WITHIN_POINTS
        text += (
            f"\n\n[60,12] at int8 in at most {_SHIPPED_LIMIT_BYTES:,} bytes and within "
            f"{_WITHIN_POINTS} points: {_yes(held)}."
        )
    return text


def _c_section(part: str, found: Summary) -> str:
    cell = found["parts"][part][0]
    if "skipped" in cell:
        return f"## C: {part}\n\n{cell['skipped']}."
    speed = cell["images_a_second"]
    rows = [
        ["model file, bytes", f"{cell['bytes'][0]:,.0f}"],
        ["constants, bytes", f"{cell['constant_bytes'][0]:,.0f}"],
        ["arrays in RAM, bytes", f"{cell['working_bytes'][0]:,.0f}"],
        ["additions of the head, at most", f"{cell['head_additions'][0]:,.0f}"],
        ["additions of the projection, at most", f"{cell['projection_additions'][0]:,.0f}"],
        ["random words, at most", f"{cell['random_words'][0]:,.0f}"],
        ["test images", f"{cell['images'][0]:,.0f}"],
        ["the classes of Python on all of them", _yes(cell["answers_as_python"])],
        ["P@1", _number(cell["test"]["1"])],
        ["images a second, one core", _number(speed, 0)],
        [f"at least {_LEAST_IMAGES_A_SECOND:,}", _yes(speed[0] >= _LEAST_IMAGES_A_SECOND)],
    ]
    return f"## C: {part}\n\n{cell['row']}, int8, `{cell['flags']}`.\n\n" + table(("", ""), rows)


def _ram_section(part: str, found: Summary) -> str:
    cell = found["parts"][part][0]
    rows = [
        ["steps", f"{cell['steps'][0]:.0f}"],
        ["keep-everything, bytes", f"{cell['kept_bytes'][0]:,.0f}"],
        ["budget, bytes", f"{cell['budget_bytes'][0]:,.0f}"],
        ["planned peak, bytes", f"{cell['planned_peak_bytes'][0]:,.0f}"],
        ["weights as in eager, to the bit", _yes(cell["same_as_eager"])],
        ["weights as with everything kept, to the bit", _yes(cell["same_as_kept"])],
        ["time over eager", _number(cell["ratio_to_eager"], 3)],
    ]  # fmt: skip
    for ratio, way in PAGING_WAYS.items():
        if ratio in cell:
            told = f"{_number(cell[ratio], 3)}: {_yes(cell[ratio][0] <= _LONGEST_RATIO)}"
            asked = f"at most {_LONGEST_RATIO:g} asked for"
            rows.append([f"time over everything kept, paging {way}; {asked}", told])
    return f"## {cell['row']}: {part}\n\n" + table(("", ""), rows)
