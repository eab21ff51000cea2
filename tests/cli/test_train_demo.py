"""`poet train --demo`: eager PyTorch killed, ours training, and what is said where nothing kills."""

import json
from pathlib import Path

import pytest

from poet_cli import demo, demo_steps
from poet_cli.caps import can_enforce
from poet_cli.demo_eager import EagerEnd
from poet_runtime.flash.paging_directory import memory_file_system
from poet_runtime.isolated.budget import ALLOWANCE_BYTES, ALLOWANCE_OF_PLAN
from tests.cli.conftest import poet_process

MIB = 2**20


@pytest.mark.slow
def test_eager_is_killed_and_the_plan_trains_under_the_same_cap(tmp_path):
    """The real command, as a process; `mlp` needs neither data nor time."""
    reason = can_enforce()
    if reason:
        pytest.skip(reason)
    ended = poet_process(
        "train", "--demo", "mlp", "--small", "--steps", "3", "--threads", "1", "--json",
        cwd=tmp_path,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr + ended.stdout
    found = json.loads(ended.stdout)
    assert found["eager"]["killed"]
    assert found["eager"]["peak_bytes"] == pytest.approx(found["cap_bytes"], rel=0.01)
    assert found["steps"] == 3
    assert found["process_peak_bytes"] <= found["cap_bytes"]
    assert found["planned_peak_bytes"] < found["keep_everything_bytes"]
    assert found["flash_written_per_step_bytes"] > 0
    if found["arena_peak_bytes"] is not None:
        assert abs(found["arena_peak_bytes"] - found["planned_peak_bytes"]) <= MIB
        planned_and_worker = found["planned_peak_bytes"] + found["worker_bytes"]
        assert found["process_peak_bytes"] == pytest.approx(planned_and_worker, rel=0.06)
    assert found["not_bound"] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", demo_steps.NAMES)
def test_every_small_demo_keeps_planned_and_worker_close_to_its_cap(name, poet):
    reason = can_enforce()
    if reason:
        pytest.skip(reason)
    result = poet("train", "--demo", name, "--small", "--threads", "1", "--json")
    assert result.code == 0, result.out
    found = result.json
    assert found["eager"]["killed"]
    assert found["process_peak_bytes"] <= found["cap_bytes"]
    budget_and_worker = found["ram_bytes"] + found["worker_bytes"]
    unused = budget_and_worker - found["process_peak_bytes"]
    if name == "mlp":  # none of the kernels and blocks that the allowance is for
        assert 0 <= unused <= ALLOWANCE_BYTES + ALLOWANCE_OF_PLAN * found["ram_bytes"]
    else:
        assert abs(unused) <= 0.03 * budget_and_worker


@pytest.mark.slow
def test_without_a_memory_group_it_trains_and_says_what_is_not_bound(poet, monkeypatch):
    monkeypatch.setattr(demo, "can_enforce", lambda: "No group can be made here. Run as root.")
    result = poet("train", "--demo", "mlp", "--small", "--steps", "1", "--threads", "1")
    assert result.code == 0, result.err
    assert "No cap can be enforced here" in result.err
    assert "Run as root." in result.err
    assert "not run: no cap here" in result.out
    assert "not enforced" in result.out
    assert "not bound: No limit of the kernel's" in result.out


def test_a_cap_that_eager_fits_in_is_said_to_be_one(monkeypatch):
    """Nobody is told of a kill that was none."""

    def fits(*_arguments, said, **_options):
        said("eager: step 1/1")
        return EagerEnd(
            killed=False, peak_bytes=300 * MIB, seconds=2.0, step_seconds=[1.0], losses=[2.5]
        )

    monkeypatch.setattr(demo, "can_enforce", lambda: "")
    monkeypatch.setattr(demo.demo_eager, "run", fits)
    choices = demo.DemoChoices(
        name="mlp", small=True, cap_bytes=None, steps=1, threads=1, wall_seconds=1.0,
        worker=demo.WorkerChoices(),
    )  # fmt: skip
    told = []
    ended = demo._eager(choices, 400 * MIB, 1, told.append, quiet=True)
    assert "was not killed: it fits in 400 MiB. The kernel saw 300 MiB." in told[-1]
    document = demo._eager_document(ended, 128)
    assert demo._outcome(document) == "1 steps: it fits"
    assert (document["rate"], document["killed"]) == (128.0, False)


@pytest.mark.parametrize("name", demo_steps.NAMES)
def test_a_demo_made_twice_is_the_same(name, monkeypatch, tmp_path):
    import torch

    monkeypatch.setenv("POET_DATA", str(tmp_path))  # no text there: numbers, and said so
    one, other = (demo_steps.build(name, small=True) for _ in range(2))
    for first, second in zip(one.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(first, second)
    for first, second in zip(one.batch_of(3), other.batch_of(3), strict=True):
        assert torch.equal(first, second)
    assert not torch.equal(one.batch_of(3)[0], one.batch_of(4)[0])
    assert "random" in one.data


def test_words_of_a_text_are_hashed(monkeypatch, tmp_path):
    folder = tmp_path / "tinyshakespeare"
    folder.mkdir()
    (folder / "input.txt").write_text("To be, or not to be: that is the question.\n" * 500)
    monkeypatch.setenv("POET_DATA", str(tmp_path))
    step = demo_steps.build("bert", small=True)
    tokens, target = step.batch_of(0)
    assert "tiny Shakespeare: 6,500 words" in step.data
    masked = target != -100
    assert (tokens[masked] == 0).all()  # 0 is the mask, and no word's number
    assert (tokens[~masked] > 0).all()
    assert len(set(target[masked].tolist())) <= 11  # the words and marks of the sentence
    assert 0.1 < masked.float().mean() < 0.2


@pytest.mark.parametrize(
    "arguments",
    [("--demo", "mlp", "--small"), ("examples.mlp:step", "--device", "host", "--ram", "3MiB")],
)
def test_a_paging_file_in_ram_is_refused_before_anything_is_run(arguments, poet, monkeypatch):
    if not memory_file_system(Path("/dev/shm")):
        pytest.skip("/dev/shm is no RAM file system here")
    monkeypatch.setattr(demo_steps, "build", None)  # what would be called first
    file = "/dev/shm/page.bin"
    result = poet("train", *arguments, "--isolated", "--paging-file", file)
    assert result.code == 2, result.err
    assert "would take RAM" in result.err
    assert not Path(file).exists()
