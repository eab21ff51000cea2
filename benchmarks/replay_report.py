"""Rows of `benchmarks.replay`: kept, judged, and as a table in Markdown."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.replay_fault import Fault
from benchmarks.replay_methods import METHODS
from benchmarks.replay_models import SUBJECTS

RESULTS = Path(__file__).resolve().parent / "results"
_MIB = 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class OursRow:
    """Ours, measured against a method. `ratio`: of the medians, ours to the method's."""

    cap_bytes: int
    planned_bytes: int
    peak_bytes: int | None
    seconds: float
    ratio: float
    gradient_error: float
    same_bits: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A method on a model. `compiler`: torch.compile's backend, or "". `refused`: why ours has no
    step under the method's peak, or "". `random`: eager draws random numbers."""

    model: str
    small: bool
    method: str
    compiler: str
    steps: int
    peak_bytes: int
    seconds: float
    gradient_error: float
    random: bool
    same_losses: bool
    same_bits: bool
    ours: OursRow | None
    refused: str
    load_average: float
    wall_seconds: float

    @property
    def title(self) -> str:
        """The step's name."""
        return f"a small {self.model}" if self.small else SUBJECTS[self.model].title

    def line(self) -> str:
        """For people who wait."""
        ours = f"no step of ours: {self.refused}"
        if self.ours is not None:
            bits = "same bits" if self.ours.same_bits else "OTHER BITS"
            ours = (
                f"ours {self.ours.seconds:.3f} s ({self.ours.ratio:.2f}) under "
                f"{_mib(self.ours.cap_bytes)} MiB, {bits}"
            )
        return (
            f"{self.model}, {self.method}: {_mib(self.peak_bytes)} MiB, {self.seconds:.3f} s, "
            f"gradient error {_error(self.gradient_error)}; {ours} "
            f"[{self.wall_seconds:.0f} s for this row]"
        )


class Store:
    """The rows kept in a folder under a name, and those measured now."""

    def __init__(self, folder: Path | None = None, *, kept: bool = True) -> None:
        """`kept`: read what is there, and write."""
        self._path, self._kept = (folder or RESULTS) / "replay.json", kept
        found: dict[str, Any] = {"rows": [], "fault": []}
        if kept and self._path.exists():
            found = json.loads(self._path.read_text(encoding="utf-8"))
        self._rows = {(row.model, row.method): row for row in map(_row, found["rows"])}
        self.fault = [Fault(**row) for row in found["fault"]]
        self.measured: list[Row] = []

    def has(self, model: str, method: str) -> bool:
        """Whether there is such a row."""
        return (model, method) in self._rows

    @property
    def rows(self) -> list[Row]:
        """In the order of models and methods."""
        keys = ((model, method) for model in SUBJECTS for method in METHODS)
        return [self._rows[key] for key in keys if key in self._rows]

    def put(self, row: Row) -> None:
        """In the place of an earlier one."""
        self._rows[row.model, row.method] = row
        self.measured.append(row)

    def write(self) -> None:
        """Rows, table and picture, where they are kept."""
        if not self._kept:
            return
        document = {
            "rows": [asdict(row) for row in self.rows],
            "fault": [asdict(row) for row in self.fault],
        }
        self._path.parent.mkdir(exist_ok=True)
        self._path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
        self.draw()

    def draw(self) -> None:
        """Table and picture, from the rows."""
        from benchmarks.replay_picture import picture

        self._path.with_suffix(".md").write_text(table(self), encoding="utf-8")
        drawn = picture(self.rows, self.capped())
        self._path.with_suffix(".svg").write_text(drawn, encoding="utf-8")

    def capped(self) -> dict[str, list[tuple[int, float]]]:
        """Caps in bytes, and seconds, of the same full steps from `benchmarks.caps`, if it was run:
        where no other method goes."""
        path = self._path.with_name("caps.json")
        kept = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
        return {
            model: sorted(
                (row["cap_bytes"], row["seconds"])
                for row in kept[model]
                if row["cap_bytes"] is not None and row["seconds"] is not None
            )
            for model in SUBJECTS
            if model in kept
        }


def _row(kept: dict[str, Any]) -> Row:
    ours = kept.pop("ours")
    return Row(**kept, ours=None if ours is None else OursRow(**ours))


def complaints(rows: Iterable[Row], *, judge_time: bool) -> list[str]:
    """A sentence for everything that ours does not keep."""
    found = []
    for row in rows:
        where = f"{row.title}, at the peak of {METHODS[row.method].title!r}:"
        if row.ours is None:
            found.append(f"{where} ours has no step: {row.refused}")
            continue
        if not row.ours.same_bits:
            error = _error(row.ours.gradient_error)
            found.append(f"{where} ours has other bits than eager (gradient error {error})")
        if judge_time and row.ours.ratio > 1:
            found.append(f"{where} ours takes {row.ours.ratio:.3f} of its time")
    return found


def table(store: Store) -> str:
    """The rows in Markdown."""
    heads = ["step", "method", "peak", "s", "gradient error", "bits"]
    heads += ["ours: cap", "peak", "s", "of its time", "bits"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for row in store.rows:
        ours = row.ours
        cells = [
            row.title,
            f"{METHODS[row.method].title}{f' ({row.compiler})' if row.compiler else ''}",
            _mib(row.peak_bytes),
            f"{row.seconds:.2f}",
            _error(row.gradient_error),
            _bits(row),
        ]
        if ours is None:
            cells += ["none", "", "", "", ""]
        else:
            cells += [
                _mib(ours.cap_bytes),
                "" if ours.peak_bytes is None else _mib(ours.peak_bytes),
                f"{ours.seconds:.2f}",
                f"**{ours.ratio:.2f}**",
                "as eager" if ours.same_bits else "OTHER",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_notes(store), *_fault(store.fault)]
    return "\n".join(lines) + "\n"


def short_table(store: Store) -> str:
    """Ours against every method, by step: for people who want one look."""
    models = [name for name in SUBJECTS if any(row.model == name for row in store.rows)]
    heads = ["at the peak of", *(SUBJECTS[name].title for name in models), "gradients"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for method, known in METHODS.items():
        rows = {row.model: row for row in store.rows if row.method == method}
        if not rows:
            continue
        cells = [known.title, *(_short(rows.get(model)) for model in models)]
        exact = all(row.gradient_error == 0 for row in rows.values())
        cells.append("exact" if exact else "differ from eager's")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _short(row: Row | None) -> str:
    if row is None:
        return "not measured"
    ours = "ours has no step" if row.ours is None else f"**{row.ours.ratio:.2f}**"
    return f"{_mib(row.peak_bytes)} MiB: {ours}"


def _notes(store: Store) -> list[str]:
    if not store.rows:
        return ["Nothing was measured yet."]
    steps = sorted({row.steps for row in store.rows})
    loads = [row.load_average for row in store.rows]
    how = (
        f"MiB; one thread; medians of {' or '.join(map(str, steps))} steps after the first, ours and "
        "the method's in turn (load average before a row "
        f"{min(loads):.1f} to {max(loads):.1f}). Peaks are the kernel's, of the whole process; ours "
        "runs under that number or up to a fifth less. Gradient error: the largest relative one of "
        "any parameter after the first step, against eager; exact means every bit. Bits: all of the "
        "state after all steps."
    )
    return [
        how,
        *(
            f"{row.title}, {METHODS[row.method].title}: no step of ours, {row.refused}"
            for row in store.rows
            if row.ours is None
        ),
    ]


def _bits(row: Row) -> str:
    if row.same_bits:
        return "as eager"
    if row.compiler == "inductor" and row.random and not row.same_losses:
        return "other random numbers"
    return "gradients as eager" if row.gradient_error == 0 else "other"


def _fault(rows: list[Fault]) -> list[str]:
    if not rows:
        return []
    heads = ["dropout", "compiler", "random numbers", "budget", "loss as eager", "gradient error"]
    heads += ["loss as with budget 1", "gradient error against budget 1"]
    lines = [
        "",
        "The memory budget of torch.compile on a BERT of two layers of 32, one pass:",
        "",
        f"| {' | '.join(heads)} |",
        "|---" * len(heads) + "|",
    ]
    lines += [
        f"| {row.dropout:g} | {row.backend} | {'its own' if row.own_random_numbers else 'eager'} "
        f"| {row.budget:g} | {_yes(row.same_loss)} | {_error(row.error)} "
        f"| {_yes(row.same_own_loss)} | {_error(row.error_own)} |"
        for row in rows
    ]
    return lines


def _yes(holds: bool) -> str:
    return "yes" if holds else "no"


def _error(value: float) -> str:
    return "exact" if value == 0 else f"{value:.2g}"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / _MIB:.0f}"
