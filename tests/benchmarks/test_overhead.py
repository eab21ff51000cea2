"""The overhead benchmark: its rows, what it makes of them, and both sides on a small step."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from benchmarks import overhead, overhead_child
from examples import mlp
from poet_runtime.trace import trace


def row(**changes: object) -> overhead.Row:
    figures = {
        "case": "mlp", "allocator": "libc", "ops": 10, "eager_seconds": 0.002,
        "our_seconds": 0.001, "ratio": 0.5, "our_cpu_seconds": 0.0009, "cpu_ratio": 0.45,
        "alone_seconds": 0.0008, "same_losses": True, "load_average": 1.5,
    }  # fmt: skip
    return overhead.Row(**(figures | changes))  # type: ignore[arg-type]


def test_the_table_says_what_was_measured() -> None:
    text = overhead.table([row(), row(allocator="arena", load_average=2.5)])
    assert "| libc | 10 | 2.00 | 1.00 | 0.500 | 0.450 | 0.80 | 10.0 |" in text
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


def test_the_ops_alone_are_timed_and_nothing_is_drawn() -> None:
    program = trace(*mlp.step(features=8, hidden=(8,), batch=4))
    before = torch.get_rng_state()
    assert 0 < overhead_child.seconds_alone(program) < 1
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("side", [overhead_child.EAGER, overhead_child.OURS])
def test_a_side_answers_and_both_have_the_same_losses(
    side: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = overhead_child.Case(
        title="tiny", build=lambda: mlp.step(features=8, hidden=(8,), batch=4), steps_a_turn=1
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
