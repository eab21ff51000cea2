"""Everything together, eagerly: digits, joint training, evaluation, export, and the small model alone."""

import pytest
import torch

from projection_nets import JointObjective, ProjectionNet, trainers
from projection_nets.data import digits, minibatches
from projection_nets.metrics import evaluate, evaluate_joint


@pytest.fixture(scope="module")
def splits():
    return digits()


def trained(splits, steps):
    torch.manual_seed(0)
    joint = JointObjective(
        trainer=trainers.feed_forward(784, 10, hidden=(64,)),
        projection=ProjectionNet(784, 10, T=60, d=12),
    )
    optimizer = torch.optim.Adam(joint.parameters(), lr=1e-3)
    losses = []
    for pixels, labels in minibatches(splits.train, seed=0, steps=steps):
        optimizer.zero_grad()
        loss = joint.loss(joint(pixels), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return joint, losses


def test_both_networks_learn_and_the_small_one_leaves_alone(splits, tmp_path):
    joint, losses = trained(splits, 60)
    result = evaluate_joint(joint, splits.test)
    # far above the 0.1 of guessing; what 60 steps reach is not a claim
    assert result.trainer[1] > 0.8
    assert result.projection[1] > 0.8
    assert result.projection[1] <= result.projection[3] <= result.projection[5]
    assert losses[-1] < losses[0] / 2

    joint.projection.export(tmp_path / "digits.poet")
    alone = ProjectionNet.load(tmp_path / "digits.poet")
    assert evaluate(alone, splits.test) == result.projection
    assert (tmp_path / "digits.poet").stat().st_size < 30_000


def test_training_twice_gives_the_same_bits(splits):
    first, second = (trained(splits, 5) for _ in range(2))
    assert first[1] == second[1]
    assert all(map(torch.equal, first[0].parameters(), second[0].parameters()))


def test_a_checkpoint_brings_both_networks_back(splits, tmp_path):
    joint, _ = trained(splits, 3)
    torch.save(joint.state_dict(), tmp_path / "joint.pt")
    other, _ = trained(splits, 0)
    other.load_state_dict(torch.load(tmp_path / "joint.pt", weights_only=True))
    pixels, _ = next(iter(splits.test.chunks(50)))
    assert all(map(torch.equal, joint(pixels), other(pixels)))
