"""Several trainers and students in one step: the terms, who is moved by what, and one run for all."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from poet_core.errors import UsageError
from projection_nets import JointTraining, ProjectionNet, Student, Teacher, trainers
from projection_nets.data.examples import LabelledExamples
from projection_nets.losses import distillation
from projection_nets.metrics import evaluate, evaluate_networks


def teacher(hidden=(8,), **options):
    return Teacher(net=trainers.feed_forward(20, 4, hidden=hidden), divisor=255.0, **options)


def student(bits=3, **options):
    return Student(net=ProjectionNet(20, 4, T=5, d=bits), **options)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (16, 20), generator=generator).float()
    return pixels, torch.randint(0, 4, (16,), generator=generator)


def moved(joint, batch):
    """The networks that a step of the loss gives a gradient to."""
    pixels, target = batch
    joint.zero_grad()
    joint.loss(joint(pixels), target).backward()
    return {
        name
        for name, net in joint.nets.items()
        if any(p.grad is not None and p.grad.abs().sum() > 0 for p in net.parameters())
    }


def test_the_loss_is_the_sum_of_its_parts(batch):
    pixels, target = batch
    joint = JointTraining(
        trainers={"big": teacher(weight=0.5, l2=0.1), "wide": teacher((16,))},
        students={
            "small": student(distillation_weight=0.3, temperature=2.0, label_weight=2.0),
            "tiny": student(2, teachers=("wide",), detach_teacher=True),
        },
    )
    outputs = joint(pixels)
    logits = {name: joint.nets[name](pixels) for name in ("small", "tiny")}
    logits |= {name: joint.nets[name](pixels / 255) for name in ("big", "wide")}
    weights = [p for p in joint.nets["big"].parameters() if p.dim() == 2]
    expected = {
        "big labels": 0.5 * cross_entropy(logits["big"], target),
        "wide labels": cross_entropy(logits["wide"], target),
        "small labels": 2 * cross_entropy(logits["small"], target),
        "small from big": 0.15 * distillation(logits["small"], logits["big"], temperature=2.0),
        "small from wide": 0.15 * distillation(logits["small"], logits["wide"], temperature=2.0),
        "tiny labels": cross_entropy(logits["tiny"], target),
        "tiny from wide": 0.1 * distillation(logits["tiny"], logits["wide"]),
        "penalty": 0.05 * sum((w**2).sum() for w in weights),
    }
    parts = joint.parts(outputs, target)
    assert parts.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    torch.testing.assert_close(joint.loss(outputs, target), sum(expected.values()))


def test_the_penalty_has_its_gradient(batch):
    joint = JointTraining(trainers={"big": teacher(l2=0.1)}, students={})
    plain = JointTraining(
        trainers={"big": Teacher(net=joint.nets["big"], divisor=255.0)}, students={}
    )
    gradients = []
    for one in (joint, plain):
        moved(one, batch)
        gradients.append([p.grad.clone() for p in joint.nets["big"].parameters()])
    for parameter, with_it, without in zip(joint.nets["big"].parameters(), *gradients, strict=True):
        decay = 0.1 * parameter if parameter.dim() == 2 else torch.zeros_like(parameter)
        torch.testing.assert_close(with_it - without, decay, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, {"big", "small"}),
        ({"detach_teacher": True}, {"small"}),
        ({"distillation_weight": 0.0}, {"small"}),
        ({"label_weight": 0.0}, {"big", "small"}),
        ({"teachers": ()}, {"small"}),
    ],
)
def test_each_part_can_be_switched_off(batch, changed, expected):
    joint = JointTraining(
        trainers={"big": teacher(weight=0.0)}, students={"small": student(**changed)}
    )
    assert moved(joint, batch) == expected


def test_a_frozen_trainer_teaches_and_stays(batch):
    net = nn.Sequential(nn.Linear(20, 8), nn.Dropout(0.5), nn.Linear(8, 4))
    joint = JointTraining(
        trainers={"big": Teacher(net=net, frozen=True)}, students={"small": student()}
    )
    assert moved(joint, batch) == {"small"}
    assert joint.training
    assert not net.training
    assert "big labels" not in joint.parts(joint(batch[0]), batch[1])


def test_pretraining_moves_the_same_trainers_alone(batch):
    joint = JointTraining(
        trainers={"big": teacher(), "fixed": teacher(frozen=True)}, students={"small": student()}
    )
    first = joint.pretraining()
    assert moved(first, batch) == {"big"}
    assert first.nets["big"] is joint.nets["big"]


def test_students_of_one_run_learn_what_they_learn_alone(batch):
    # multi-resolution: with the distillation detached the trainer hides nothing between students
    sizes = {"tiny": 2, "small": 5}

    def run(names):
        torch.manual_seed(0)
        one = teacher()
        nets = {name: student(bits, detach_teacher=True) for name, bits in sizes.items()}
        joint = JointTraining(trainers={"big": one}, students={n: nets[n] for n in names})
        optimizer = torch.optim.Adam(joint.parameters(), lr=0.01)
        for _ in range(5):
            optimizer.zero_grad()
            joint.loss(joint(batch[0]), batch[1]).backward()
            optimizer.step()
        return joint

    together = run(["tiny", "small"])
    for name in sizes:
        alone = run([name])
        for mine, theirs in ((name, name), ("big", "big")):
            pairs = zip(
                alone.nets[mine].parameters(), together.nets[theirs].parameters(), strict=True
            )
            assert all(torch.equal(a, b) for a, b in pairs)


def test_networks_take_their_own_inputs(batch):
    pixels, target = batch
    tokens = torch.randint(1, 9, (16, 6))
    joint = JointTraining(
        trainers={"text": Teacher(net=trainers.LstmTrainer(9, 4, width=8), input=1)},
        students={"small": student(input=0)},
    )
    outputs = joint(pixels, tokens)
    torch.testing.assert_close(outputs["text"], joint.nets["text"](tokens))
    examples = LabelledExamples(inputs=(pixels, tokens), labels=target)
    found = evaluate_networks(joint, examples, batch_size=5)
    alone = LabelledExamples(inputs=(pixels,), labels=target)
    assert found["small"] == evaluate(joint.nets["small"], alone)
    assert set(found) == {"text", "small"}


@pytest.mark.parametrize(
    ("trainer", "changed"),
    [
        ("small", {}),
        ("penalty", {}),
        ("big", {"teachers": ("other",)}),
        ("big", {"label_weight": -1.0}),
        ("big", {"temperature": 0.0}),
        ("big", {"distillation_weight": float("nan")}),
        ("big", {"label_weight": 0.0, "distillation_weight": 0.0}),
    ],
)
def test_senseless_settings_are_refused(trainer, changed):
    with pytest.raises(UsageError) as caught:
        JointTraining(trainers={trainer: teacher()}, students={"small": student(**changed)})
    assert caught.value.code == "joint_invalid"


def test_nothing_to_train_is_refused():
    with pytest.raises(UsageError):
        JointTraining(trainers={"big": teacher(weight=0.0)}, students={})
