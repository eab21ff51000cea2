"""The overhead benchmark: its rows, what it makes of them, and both sides on a small step."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import overhead, overhead_child
from examples import mlp, resnet
from poet_runtime import TrainStep


def row(**changes: object) -> overhead.Row:
    figures = {
        "case": "mlp", "allocator": "libc", "ops": 10, "eager_seconds": 0.002,
        "our_seconds": 0.001, "ratio": 0.5, "cpu_ratio": 0.45, "empty_seconds": 0.0001, "same_losses": True, "load_average": 1.5,
    }  # fmt: skip
    return overhead.Row(**(figures | changes))  # type: ignore[arg-type]


def test_the_table_says_what_was_measured() -> None:
    text = overhead.table([row(), row(allocator="arena", load_average=2.5)])
    assert "| libc | 10 | 2.00 | 1.00 | 0.500 | 0.450 | 0.10 | 10.0 |" in text
    assert "load average 1.5 to 2.5" in text
    assert "Losses identical." in text
    assert "Losses DIFFERENT." in overhead.table([row(), row(same_losses=False)])


def test_what_is_written_is_read_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    measured: Callable[..., overhead.Row] = lambda name, allocator, *_: row(  # noqa: E731
        case=name, allocator=allocator, same_losses=allocator == "libc"
    )
    monkeypatch.setattr(overhead, "_measure", measured)
    monkeypatch.setattr(overhead, "_environments", lambda: [("libc", {}), ("arena", {})])
    monkeypatch.setattr(overhead, "RESULTS", tmp_path)
    monkeypatch.setattr(overhead, "PAGE", tmp_path / "page.md")
    marks = "<!-- benchmarks.overhead -->\nold\n<!-- end of benchmarks.overhead -->\n"
    (tmp_path / "page.md").write_text(f"before\n{marks}after\n")
    assert overhead.main(["--write"]) == 1  # losses that differ are no result to be proud of
    rows = overhead.stored()
    assert [(one.case, one.allocator) for one in rows] == [
        (name, allocator) for name in overhead_child.CASES for allocator in ("libc", "arena")
    ]
    assert overhead.table(rows) == (tmp_path / "overhead.md").read_text()
    page = (tmp_path / "page.md").read_text()
    assert page.startswith("before\n<!--")
    assert page.endswith("-->\nafter\n")
    assert overhead.table(rows) in page
    assert "old" not in page


def test_an_empty_step_runs_no_kernel_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A convolution with batch norm, whose buffers the step replaces, beside what updates change."""
    monkeypatch.setattr(overhead_child, "_EMPTY_STEPS", 3)
    model, loss_fn, optimizer, batch = resnet.step(batch_size=2, image_size=32, width=8, classes=10)
    with TrainStep(model, loss_fn, optimizer, batch) as step:
        for _ in range(2):
            step(*batch)
        before = {name: value.clone() for name, value in model.state_dict().items()}
        whole = min(_seconds(step, batch) for _ in range(3))
        after = model.state_dict()
        changed = {name: value.clone() for name, value in after.items()}
        empty = overhead_child.empty_seconds(step, batch)
        assert 0 < empty < whole
        now = model.state_dict()
        assert all(torch.equal(now[name], changed[name]) for name in now)
        assert not all(torch.equal(before[name], changed[name]) for name in before)


def _seconds(step: TrainStep, batch: tuple[torch.Tensor, ...]) -> float:
    begin = time.thread_time()
    step(*batch)
    return time.thread_time() - begin


@pytest.mark.parametrize("side", [overhead_child.EAGER, overhead_child.OURS])
def test_a_side_answers_and_both_have_the_same_losses(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = overhead_child.Case(
        title="tiny", build=lambda: mlp.step(features=8, hidden=(8,), batch_size=4), steps_a_turn=1
    )
    monkeypatch.setattr(overhead_child, "CASES", {"tiny": tiny})
    monkeypatch.setattr("sys.argv", ["overhead_child", "tiny", side])
    monkeypatch.setattr("sys.stdin", ["2\n", "1\n"])
    threads = torch.get_num_threads()
    try:
        overhead_child.main()
    finally:
        torch.set_num_threads(threads)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert len(first["seconds"]) == len(first["cpu_seconds"]) == 2
    losses = first["losses"] + second["losses"]
    assert float.fromhex(losses[2]) < float.fromhex(losses[0])
    model, loss_fn, optimizer, (inputs, labels) = tiny.build()
    assert losses[0] == loss_fn(model(inputs), labels).item().hex()
    assert optimizer.state_dict()["state"] == {}
