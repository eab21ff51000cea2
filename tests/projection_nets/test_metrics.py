"""P@k: the tie rule, agreement with a sort, and evaluation in batches."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from poet_core.errors import UsageError
from projection_nets import JointObjective, ProjectionNet, trainers
from projection_nets.data import LabelledImages
from projection_nets.metrics import evaluate, evaluate_joint, precision_at_k, ranks_of_target


@given(
    logits=arrays(np.float32, (6, 5), elements=st.integers(-2, 2).map(float)),
    target=arrays(np.int64, 6, elements=st.integers(0, 4)),
    k=st.integers(1, 6),
)
def test_precision_is_membership_in_the_first_k_of_a_stable_sort(logits, target, k):
    first = np.argsort(-logits, axis=1, kind="stable")[:, :k]
    expected = np.mean([target[row] in first[row] for row in range(6)])
    got = precision_at_k(torch.from_numpy(logits), torch.from_numpy(target), k)
    assert got == pytest.approx(expected)


def test_of_equal_scores_the_lower_class_ranks_first():
    logits = torch.zeros(3, 3)
    assert ranks_of_target(logits, torch.tensor([0, 1, 2])).tolist() == [0, 1, 2]


@pytest.mark.parametrize("k", [1, 3, 5])
def test_a_row_with_a_nan_is_never_right(k):
    logits = torch.tensor([[float("nan"), 0.0, 1.0], [0.0, float("nan"), 1.0]])
    # k above the number of classes would make every other row right
    assert precision_at_k(logits, torch.tensor([0, 2]), min(k, 3)) == 0


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_one_is_refused(k):
    with pytest.raises(UsageError) as caught:
        precision_at_k(torch.zeros(1, 2), torch.tensor([0]), k)
    assert caught.value.code == "k_invalid"


@pytest.fixture
def images():
    torch.manual_seed(0)  # the networks of these tests are made after it
    generator = torch.Generator().manual_seed(0)
    return LabelledImages(
        pixels=torch.randint(0, 256, (53, 20), dtype=torch.uint8, generator=generator),
        labels=torch.randint(0, 6, (53,), generator=generator),
    )


def test_batches_do_not_change_the_result(images):
    net = ProjectionNet(20, 6, T=4, d=4)
    whole = {k: precision_at_k(net(images.pixels.float()), images.labels, k) for k in (1, 3, 5)}
    for batch_size in (1, 10, 53, 1000):
        assert evaluate(net, images, batch_size=batch_size) == whole


def test_joint_evaluation_equals_each_network_alone(images):
    joint = JointObjective(
        trainer=trainers.feed_forward(20, 6, hidden=(8,)), projection=ProjectionNet(20, 6, T=4, d=4)
    )
    result = evaluate_joint(joint, images, ks=(1, 2), batch_size=20)
    scaled = joint.trainer(images.pixels.float() / 255)
    assert result.trainer == {k: precision_at_k(scaled, images.labels, k) for k in (1, 2)}
    assert result.projection == evaluate(joint.projection, images, ks=(1, 2))
    assert result.examples == 53


def test_evaluation_uses_and_restores_modes_and_makes_no_gradients(images):
    dropout = torch.nn.Dropout(1.0)
    frozen = torch.nn.BatchNorm1d(20).eval()
    model = torch.nn.Sequential(frozen, dropout, torch.nn.Linear(20, 6)).train()
    frozen.eval()
    seen = []
    model.register_forward_hook(
        lambda module, _, output: seen.append((module.training, output.requires_grad))
    )
    evaluate(model, images)
    assert seen == [(False, False)]
    assert (model.training, dropout.training, frozen.training) == (True, True, False)
