"""The GPU's benchmark where there is no GPU: it says so; its table and its verdict, on made rows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import cuda
from poet_runtime.tracing.cuda_measure import CudaPeak

MIB = 2**20
PEAK = CudaPeak(
    planned_bytes=100 * MIB, requested_bytes=98 * MIB, given_bytes=101 * MIB,
    reserved_bytes=130 * MIB,
)  # fmt: skip
ROW = cuda.Row(
    share=0.5, tier="host", budget_bytes=100 * MIB, problem="", peak=PEAK, host_bytes=64 * MIB,
    written_bytes=20 * MIB, planned_seconds=0.01, seconds=0.012, ratio=1.2, losses=("0x1p+0",),
)  # fmt: skip


def test_without_a_gpu_it_says_why_and_is_no_failure(capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device here")
    assert cuda.main([]) == 0
    assert capsys.readouterr().out.startswith("Nothing measured: no CUDA device here")


def test_the_table_and_the_verdict() -> None:
    failed = replace(ROW, peak=None, seconds=None, problem="ram_below_floor", losses=())
    text = cuda.table([ROW, failed])
    assert "| 50% | host | 100 | 98 | 101 | 64 | 20 | 10.0 | 12.0 | 1.20 |" in text
    assert "ram_below_floor" in text
    assert cuda.holds([ROW, failed])
    assert not cuda.holds([failed])
    assert not cuda.holds([ROW, replace(ROW, losses=("0x1p+1",))])
    assert "DIFFERENT" in cuda.table([ROW, replace(ROW, losses=("0x1p+1",))])
    assert not cuda.holds([replace(ROW, peak=replace(PEAK, requested_bytes=101 * MIB))])
