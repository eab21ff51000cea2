"""Training runs: budget or none, killed or not, watched or not, the bits are the same."""

import copy

import pytest
import torch
from torch import nn

from poet_core.errors import DataError, UsageError
from projection_nets import JointTraining, ProjectionNet, Student, Teacher
from projection_nets.data.examples import LabelledExamples
from projection_nets.training import train

STEPS = 12


@pytest.fixture
def examples():
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (90, 64), generator=generator).float()
    return LabelledExamples(inputs=(pixels,), labels=(pixels[:, :4].argmax(dim=1)))


def joint(hidden=32, seed=2017):
    torch.manual_seed(0)
    trainer = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Dropout(0.2), nn.Linear(hidden, 4))
    return JointTraining(
        trainers={"big": Teacher(net=trainer, divisor=255.0)},
        students={"small": Student(net=ProjectionNet(64, 4, T=6, d=4, seed=seed))},
    )


def run(examples, *, model=None, steps=STEPS, **options):
    model = joint() if model is None else model
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    reports = train(
        model, optimizer, examples, steps=steps, batch_size=20, report_every=1, **options
    )
    return model, [report.loss for report in reports]


def same(one, other):
    return all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))


BUDGET = {"ram": "70KiB", "device": "host", "wall_seconds": 2}


def test_a_budget_changes_nothing(examples, tmp_path):
    model, losses = run(examples)
    planned, planned_losses = run(examples, **BUDGET, paging_directory=tmp_path)
    assert planned_losses == losses
    assert same(model, planned)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("budget", [{}, BUDGET], ids=["eager", "planned"])
def test_a_killed_run_resumes_to_the_same_bits(examples, tmp_path, budget):
    model, losses = run(examples)

    def kill(progress):
        if progress.step == 8:
            raise Killed

    kept = {**budget, "checkpoint": tmp_path / "run", "checkpoint_every": 5}
    with pytest.raises(Killed):
        run(examples, on_progress=kill, **kept)
    torch.rand(7)  # a new process has drawn other numbers
    resumed, rest = run(examples, **kept)
    assert rest == losses[5:]
    assert same(model, resumed)


def test_watching_changes_nothing(examples):
    model, losses = run(examples)
    seen = []
    watched, watched_losses = run(
        examples, validation=examples, evaluate_every=5, on_progress=seen.append
    )
    assert watched_losses == losses
    assert same(model, watched)
    assert [p.step for p in seen if p.precision] == [5, 10, 12]
    assert set(seen[-1].precision) == {"big", "small"}
    assert all(p.process_peak_bytes > 2**20 and p.planned_peak_bytes is None for p in seen)


def test_a_plan_says_its_peak(examples, tmp_path):
    seen = []
    run(examples, steps=2, on_progress=seen.append, paging_directory=tmp_path, **BUDGET)
    assert 0 < seen[-1].planned_peak_bytes <= 70 * 1024


def test_pretraining_comes_first_with_the_same_trainer(examples):
    model = joint()
    before = copy.deepcopy(model.nets["small"].state_dict())
    _, losses = run(examples, model=model.pretraining())
    assert losses[-1] < losses[0]
    assert all(map(torch.equal, before.values(), model.nets["small"].state_dict().values()))
    _, joint_losses = run(examples, model=model)
    assert joint_losses[0] < run(examples)[1][0]


def test_a_checkpoint_of_another_training_is_refused(examples, tmp_path):
    path = tmp_path / "run"
    run(examples, checkpoint=path, checkpoint_every=4)
    for other, code in (
        (joint(hidden=8), "checkpoint_mismatch"),
        (joint(seed=1), "projection_differs"),
    ):
        with pytest.raises(DataError) as caught:
            run(examples, model=other, checkpoint=path)
        assert caught.value.code == code
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DataError) as caught:
        run(examples, checkpoint=path)
    assert caught.value.code == "checkpoint_corrupt"


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"checkpoint_every": 0}])
def test_senseless_steps_are_refused(examples, wrong):
    with pytest.raises(UsageError) as caught:
        run(examples, **wrong)
    assert caught.value.code == "steps_invalid"
