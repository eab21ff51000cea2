"""What is written to flash is counted, not planned."""

from __future__ import annotations

from pathlib import Path

from poet_runtime import TrainStep
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.flash.wear import WearReport
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything
from tests.runtime.step_parts import batches, mlp_momentum, trained


def report(**changes: float | None) -> WearReport:
    figures = {
        "steps": 10, "written_bytes": 2_000, "step_bytes": 1_000, "planned_step_bytes": 90,
        "endurance_bytes": 10_000, "checkpoint_bytes": 0,
    }  # fmt: skip
    return WearReport(**{**figures, **changes})  # type: ignore[arg-type]


def test_life_is_what_was_written_of_what_the_flash_bears() -> None:
    assert report().bytes_per_step == 100
    assert report().life_used == 0.2
    assert report().steps_left == 80
    # Checkpoints of 300 bytes a step wear it too: 5000 are left, 400 a step.
    assert report(checkpoint_bytes=3_000).life_used == 0.5
    assert report(checkpoint_bytes=3_000).steps_left == 12
    assert report(written_bytes=20_000).steps_left == 0
    assert report(steps=0, step_bytes=0, written_bytes=0).steps_left == 111
    assert report(endurance_bytes=None).steps_left is None
    assert "20.00% of its endurance, 80 steps left" in report().line()
    assert report(busy_seconds=4.0, waited_seconds=1.0).hidden == 0.75
    assert report().hidden is None
    assert "through the page cache" in report(direct=False).line()
    assert "endurance unknown" in report(endurance_bytes=None).line()


def test_a_step_counts_its_own_writes_and_parking_beside_them(tmp_path: Path) -> None:
    data = batches(mlp_momentum, 3)
    program = trace(*mlp_momentum(), data[0])
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    model, loss_fn, optimizer = mlp_momentum()
    with TrainStep(
        model, loss_fn, optimizer, data[0], plan=plan, program=program, paging_directory=tmp_path,
        flash_write_bytes=2**40, flash=FlashOptions(endurance_bytes=2**30),
    ) as step:  # fmt: skip
        assert step.wear().written_bytes == 0
        trained(step, data)
        wear = step.wear()
        assert step.running.pager is not None
        assert wear.direct is step.running.pager.file.flash.direct
        assert wear.hidden is not None
        assert 0 <= wear.hidden <= 1
        transfers = step.running.compiled.layout.transfers
        blocks = sum(-(-t.size_bytes // 4096) * 4096 for t in transfers if t.outward)
        raw = sum(t.size_bytes for t in transfers if t.outward)
        assert wear.bytes_per_step == blocks
        assert wear.planned_step_bytes == raw == plan.claims.flash_bytes_written
        parked = wear.written_bytes - 3 * blocks
        homes = [program.graph.storages[s].size_bytes for s in plan.schedule.start_flash]
        assert parked == sum(-(-size // 4096) * 4096 for size in homes)
