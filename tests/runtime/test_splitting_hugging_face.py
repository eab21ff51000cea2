"""Hugging Face models, every op split that can be, under schedules that page everything."""

from __future__ import annotations

from pathlib import Path

import pytest

from poet_runtime.splitting import head_pass, rules
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan, page_everything

pytest.importorskip(
    "transformers", reason="Hugging Face transformers is not installed: pip install transformers"
)

from tests.runtime.test_hugging_face import data, eager, made, replayed


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        # Columns of 20 that are summed apart round otherwise: no tiles.
        ("bert", "poet.cross_entropy_backward_"),
        ("gpt2", "poet.tiled_head"),
        pytest.param("t5", "poet.tiled_head", marks=pytest.mark.slow),
    ],
)
def test_split_and_paged(
    kind: str, rule: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "CHUNK_BYTES", 256)
    monkeypatch.setattr(head_pass, "TILE_BYTES", 4000)
    model, optimizer = made(kind)
    program = trace(model, None, optimizer, data(kind)[0], options=StepOptions(split_above_bytes=0))
    assert rule in {note.rule for note in program.splits}
    plan = hand_made_plan(program.graph, page_everything(program.graph))
    found, _ = replayed(kind, program, tmp_path, plan=plan, flash_write_bytes=2**40)
    assert found == eager(kind)
