"""BERT base on a GPU within several budgets: time beside the same program without one.

    python -m benchmarks.cuda [--write] [--small]

Batch 4, 512 tokens, Adam, dropout 0.1, float32; budgets are shares of keep-everything's peak, copies
go to locked host memory, and at one budget also to flash. The reference is the same traced program
with everything kept. All take turns, a step each, on one model each; times are medians of the steps
after the first, by the wall clock between two synchronisations, ratios medians of a turn's ratios.
`--small`: two layers of 32, for a first try. `--write` writes results/cuda.json and .md beside this
file. Without a GPU it says so and ends with 0; status 1 where losses differ or tensors exceed a plan.
"""

from __future__ import annotations

import json
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from examples import bert
from poet_core.errors import PoetError
from poet_core.plan import Objective
from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.tracing.cuda_measure import CudaPeak, measure_step_on_cuda

RESULTS = Path(__file__).resolve().parent / "results"
_MIB = 2**20
_STEPS = 7
_PLANNING_SECONDS = 30.0
VARIANTS = ((1.0, "host"), (0.7, "host"), (0.5, "host"), (0.35, "host"), (0.25, "host"), (0.5, "flash"))  # fmt: skip
"""Share of keep-everything's peak, and the second tier. The first is the reference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One variant; where no plan was found, `problem` says why and the figures are None."""

    share: float
    tier: str
    budget_bytes: int
    problem: str
    peak: CudaPeak | None
    host_bytes: int | None
    written_bytes: int | None
    planned_seconds: float | None
    seconds: float | None
    ratio: float | None
    losses: tuple[str, ...]


def main(arguments: list[str] | None = None) -> int:
    """Measure, print the table, and say by the exit status whether plan and bits hold."""
    given = sys.argv[1:] if arguments is None else arguments
    reason = why_nothing()
    if reason:
        print(f"Nothing measured: {reason}")
        return 0
    rows = _measure(small="--small" in given)
    text = f"{torch.cuda.get_device_name()}, torch {torch.__version__}\n\n{table(rows)}"
    print(text)
    if "--write" in given:
        document = json.dumps([asdict(row) for row in rows], indent=1)
        (RESULTS / "cuda.json").write_text(document + "\n", encoding="utf-8")
        (RESULTS / "cuda.md").write_text(text, encoding="utf-8")
    return 0 if holds(rows) else 1


def why_nothing() -> str:
    """Why nothing can be measured here, or ""."""
    if torch.cuda.is_available():
        return ""
    built = "" if torch.version.cuda else f" (torch {torch.__version__} is built without CUDA)"
    return f"no CUDA device here{built}."


def table(rows: list[Row]) -> str:
    """The rows in Markdown: MiB (written: a step), and milliseconds."""
    lines = [
        "| budget | copies in | planned | requested | given | host | written | planned ms | ms | ratio |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        if row.peak is None or row.seconds is None or row.planned_seconds is None:
            lines.append(f"| {row.share:.0%} | {row.tier} | {row.problem} | | | | | | | |")
            continue
        peak = row.peak
        lines.append(
            f"| {row.share:.0%} | {row.tier} | {_mib(peak.planned_bytes)} "
            f"| {_mib(peak.requested_bytes)} | {_mib(peak.given_bytes)} | {_mib(row.host_bytes)} "
            f"| {_mib(row.written_bytes)} | {row.planned_seconds * 1e3:.1f} "
            f"| {row.seconds * 1e3:.1f} | {row.ratio:.2f} |"
        )
    same = "identical" if _same_losses(rows) else "DIFFERENT"
    lines += ["", f"Medians of {_STEPS} steps after the first; losses {same}."]
    return "\n".join(lines) + "\n"


def holds(rows: list[Row]) -> bool:
    """Whether all that ran have the same losses, and their tensors are inside their plans."""
    peaks = [row.peak for row in rows if row.peak is not None]
    inside = all(peak.requested_bytes <= peak.planned_bytes for peak in peaks)
    return bool(peaks) and inside and _same_losses(rows)


def _same_losses(rows: list[Row]) -> bool:
    return len({row.losses for row in rows if row.losses}) <= 1


def _mib(size_bytes: int | None) -> str:
    return "" if size_bytes is None else f"{size_bytes / _MIB:.0f}"


class _Variant:
    """A model of its own, trained within a budget."""

    def __init__(self, share: float, tier: str, budget_bytes: int, folder: Path, *, small: bool):
        self.share, self.tier, self.budget_bytes = share, tier, budget_bytes
        self.problem = ""
        self.step: TrainStep | None = None
        self.peak: CudaPeak | None = None
        self.losses: list[str] = []
        self.seconds: list[float] = []
        model, loss_fn, optimizer, batch = bert.step_tiny() if small else bert.step()
        model.cuda()
        self.batch = tuple(tensor.cuda() for tensor in batch)
        wishes: dict[str, Any] = {}
        if share < 1:
            wishes = {"ram": budget_bytes, "wall_seconds": _PLANNING_SECONDS}
        try:
            self.step = TrainStep(
                model, loss_fn, optimizer, self.batch, objective=Objective.TIME,
                flash=FlashOptions(tier=tier), paging_directory=folder, flash_write_bytes=2**50,
                **wishes,
            )  # fmt: skip
        except PoetError as error:
            self.problem = error.code

    def run(self, turn: int) -> None:
        """A step by the wall clock; the generator begins as in every other variant."""
        if self.step is None:
            return
        torch.manual_seed(turn)
        torch.cuda.synchronize()
        begin = time.perf_counter()
        loss = self.step(*self.batch)
        torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - begin)
        self.losses.append(float(loss.item()).hex())

    def measure(self) -> None:
        """The peak of one more step."""
        if self.step is not None:
            self.peak = measure_step_on_cuda(self.step, [self.batch])


def _measure(*, small: bool) -> list[Row]:
    with ExitStack() as exits:
        folder = Path(exits.enter_context(tempfile.TemporaryDirectory()))
        variants: list[_Variant] = []
        everything = 0
        for share, tier in VARIANTS:
            variant = _Variant(share, tier, int(everything * share), folder, small=small)
            variants.append(variant)
            if variant.step is not None:
                exits.callback(variant.step.close)
                # Between its turns a variant takes no more of the GPU than its plan keeps there.
                variant.step.park()
                everything = everything or variant.step.judgement.peak_bytes
        for turn in range(_STEPS + 1):
            for variant in variants:
                variant.run(turn)
        for variant in variants:
            variant.measure()
        reference = variants[0].seconds[1:]
        return [_row(variant, reference) for variant in variants]


def _row(variant: _Variant, reference: list[float]) -> Row:
    step, seconds = variant.step, variant.seconds[1:]
    ratios = [one / other for one, other in zip(seconds, reference, strict=False)]
    return Row(
        share=variant.share,
        tier=variant.tier,
        budget_bytes=variant.budget_bytes,
        problem=variant.problem,
        peak=variant.peak,
        host_bytes=step.wear().host_bytes if step else None,
        written_bytes=step.judgement.flash_bytes_written if step else None,
        planned_seconds=step.judgement.step_seconds if step else None,
        seconds=statistics.median(seconds) if seconds else None,
        ratio=statistics.median(ratios) if ratios else None,
        losses=tuple(variant.losses),
    )


if __name__ == "__main__":
    sys.exit(main())
