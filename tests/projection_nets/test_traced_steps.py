"""Every kind of network trains through TrainStep under a RAM budget to eager's own bits."""

import copy
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from poet_core.baseline import judge_keep_everything
from poet_core.devices import load_device
from poet_core.problem import make_problem
from poet_runtime import TrainStep
from poet_runtime.tracing.trace import trace
from projection_nets import JointTraining, NetOnBits, ProjectionNet, Student, Teacher, trainers
from projection_nets.hashed import HashedProjection
from projection_nets.nets import Borrowed
from projection_nets.packing import PackedBits
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec

BATCH, PIXELS, CLASSES, LENGTH = 12, 64, 4, 6
SPEC = ProjectionSpec(in_features=PIXELS, functions=6, bits=4)
HASHED = ProjectionSpec(kind=ProjectionKind.HASHED, functions=6, bits=4)


def pixels():
    return torch.randint(0, 256, (BATCH, PIXELS)).float()


def tokens():
    return torch.randint(0, 9, (BATCH, LENGTH))


def packed():
    return torch.randint(0, 256, (BATCH, 3), dtype=torch.uint8)


def image(net, **options):
    return Teacher(net=net, divisor=255.0, **options)


def net(**options):
    return ProjectionNet(PIXELS, CLASSES, T=6, d=4, **options)


def multi_resolution():
    trainer = image(trainers.feed_forward(PIXELS, CLASSES, hidden=(24, 24)), l2=1e-3)
    other = image(trainers.feed_forward(PIXELS, CLASSES, hidden=(16,)))
    students = {
        "ternary": Student(net=net(kind=ProjectionKind.TERNARY), temperature=2.0),
        "deep": Student(net=net(hidden=(16, 8)), detach_teacher=True),
        "lookup": Student(net=net(lookup=True), teachers=("one",)),
        "packed": Student(net=NetOnBits(PackedBits(SPEC), CLASSES), input=1),
    }
    return JointTraining(trainers={"one": trainer, "two": other}, students=students), (
        pixels(),
        packed(),
    )


def layers_and_signs():
    shared = nn.Sequential(nn.Linear(PIXELS, 16), nn.Tanh())
    small = ProjectionNet(
        16,
        CLASSES,
        T=6,
        d=4,
        encoder=Borrowed(shared),
        gradient_width=1.0,
        values=BitValues.PLUS_MINUS_ONE,
    )
    trainer = nn.Sequential(shared, nn.Linear(16, CLASSES))
    return JointTraining(
        trainers={"one": Teacher(net=trainer)}, students={"two": Student(net=small)}
    ), (pixels() / 255,)


def frozen_convolution():
    trainer = trainers.convolutional(CLASSES, side=8, maps=(4, 6), hidden=12)
    fixed = image(trainers.feed_forward(PIXELS, CLASSES, hidden=(8,)), frozen=True)
    return JointTraining(
        trainers={"one": image(trainer), "fixed": fixed}, students={"two": Student(net=net())}
    ), (pixels(),)


def text(trainer):
    small = NetOnBits(HashedProjection(HASHED), CLASSES)

    class OfOneInput(nn.Module):  # the hashes and weights of features side by side
        def __init__(self):
            super().__init__()
            self.small = small

        def forward(self, features):
            return self.small(features[:, 0], features[:, 1])

    features = torch.stack(
        [torch.randint(-(2**62), 2**62, (BATCH, 5)), torch.ones(BATCH, 5).long()], 1
    )
    return JointTraining(
        trainers={"one": Teacher(net=trainer)}, students={"two": Student(net=OfOneInput(), input=1)}
    ), (tokens(), features)


def recurrent():
    return text(trainers.LstmTrainer(9, CLASSES, width=12))


def attention():
    return text(
        trainers.TransformerTrainer(
            9, CLASSES, length=LENGTH, width=12, heads=2, feed_forward=16, layers=1
        )
    )


@contextmanager
def _fused_lstm_off(off):
    # eager's fused LSTM kernel rounds otherwise; without oneDNN it runs the ops that are traced
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(enabled and not off)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(enabled)


STEPS = [multi_resolution, layers_and_signs, frozen_convolution, recurrent, attention]


@pytest.mark.parametrize("build", STEPS)
def test_a_budget_does_not_change_a_bit(build, tmp_path):
    torch.manual_seed(0)
    joint, inputs = build()
    batch = (*inputs, torch.randint(0, CLASSES, (BATCH,)))
    other = copy.deepcopy(joint)
    optimizer = torch.optim.Adam(joint.parameters(), lr=0.01)
    program = trace(joint, joint.loss, optimizer, batch)
    problem = make_problem(program.graph, load_device("host"), ram_bytes=2**40)
    keep = judge_keep_everything(program.graph, problem.costs)
    with TrainStep(
        joint, joint.loss, optimizer, batch, program=program, device="host",
        ram=keep.peak_bytes * 9 // 10, paging_directory=tmp_path, wall_seconds=2,
    ) as step:  # fmt: skip
        losses = [step(*batch).item() for _ in range(3)]
    assert step.plan.claims.peak_bytes < keep.peak_bytes

    eager_optimizer = torch.optim.Adam(other.parameters(), lr=0.01)
    eager = []
    with _fused_lstm_off(build is recurrent):
        for _ in range(3):
            eager_optimizer.zero_grad()
            loss = other.loss(other(*batch[:-1]), batch[-1])
            loss.backward()
            eager_optimizer.step()
            eager.append(loss.item())
    assert losses == eager
    assert losses[-1] < losses[0]
    joint.to("cpu")
    assert all(map(torch.equal, joint.state_dict().values(), other.state_dict().values()))
