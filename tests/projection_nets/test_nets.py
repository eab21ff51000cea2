"""Parameter counts of the paper's table, and what the networks compute."""

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import ProjectionNet, trainers

# ../shared/published-results.md: [T, d], hidden units, parameters (Ravi 2017, table of MNIST)
PAPER_ROWS = [
    (8, 10, None, 810),
    (10, 12, None, 1_210),
    (60, 10, None, 6_010),
    (60, 12, None, 7_210),
    (60, 10, 128, 78_218),
    (60, 12, 256, 187_146),
    (70, 12, 256, 217_866),
]


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize(("functions", "bits", "hidden", "expected"), PAPER_ROWS)
def test_projection_nets_have_the_papers_parameters(functions, bits, hidden, expected):
    assert parameters(ProjectionNet(784, 10, T=functions, d=bits, hidden=hidden)) == expected


def test_the_trainer_has_the_papers_parameters():
    assert parameters(trainers.feed_forward(784, 10)) == 2_797_010


def test_trainer_layers_alternate_and_end_without_relu():
    names = [type(layer).__name__ for layer in trainers.feed_forward(4, 2, hidden=(3, 5))]
    assert names == ["Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert parameters(trainers.feed_forward(4, 2, hidden=())) == 10


@pytest.mark.parametrize("hidden", [None, 5])
def test_logits_are_the_heads_of_the_bits(hidden):
    net = ProjectionNet(6, 3, T=4, d=2, hidden=hidden, seed=1)
    inputs = torch.tensor(np.random.default_rng(0).integers(0, 256, (9, 6)), dtype=torch.float32)
    values = net.lsh(inputs).numpy()
    weights = [weight.detach().numpy() for weight in net.parameters()]
    if hidden is not None:
        values = np.maximum(values @ weights[0].T + weights[1], 0)
    expected = values @ weights[-2].T + weights[-1]
    np.testing.assert_allclose(net(inputs).detach().numpy(), expected, rtol=1e-5, atol=1e-6)


def test_images_are_flattened():
    net = ProjectionNet(12, 3, T=2, d=3)
    images = torch.randint(0, 256, (5, 1, 3, 4)).float()
    assert torch.equal(net(images), net(images.reshape(5, 12)))


@pytest.mark.parametrize(("classes", "hidden"), [(0, None), (3, 0)])
def test_empty_layers_are_refused(classes, hidden):
    with pytest.raises(UsageError) as caught:
        ProjectionNet(4, classes, hidden=hidden)
    assert caught.value.code == "projection_invalid"
