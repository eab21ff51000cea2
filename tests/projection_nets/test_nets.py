"""Parameter counts of the paper's table, and what the networks compute."""

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import NetOnBits, ProjectionNet, trainers
from projection_nets.packing import PackedBits, packed_bits

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


@pytest.mark.parametrize("values", ["zero_one", "plus_minus_one"])
def test_a_lookup_adds_up_the_rows_that_the_blocks_name(values):
    net = ProjectionNet(6, 3, T=4, d=3, lookup=True, seed=1, values=values)
    assert parameters(net) == 4 * 8 * 3 + 3
    assert torch.equal(net(torch.zeros(1, 6)), torch.zeros(1, 3))
    with torch.no_grad():
        net.head.table.normal_(generator=torch.Generator().manual_seed(0))
        net.head.bias.normal_(generator=torch.Generator().manual_seed(1))
    inputs = torch.randint(0, 256, (9, 6)).float()
    for row, logits in zip(net.lsh(inputs) > 0, net(inputs), strict=True):
        expected = net.head.bias.clone()
        for function in range(4):
            index = sum(int(row[3 * function + bit]) << bit for bit in range(3))
            expected += net.head.table[8 * function + index]
        torch.testing.assert_close(logits, expected)


def test_training_a_lookup_moves_the_touched_rows_only():
    net = ProjectionNet(6, 3, T=4, d=6, lookup=True)
    inputs = torch.randint(0, 256, (5, 6), generator=torch.Generator().manual_seed(0)).float()
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    for _ in range(4):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), torch.tensor([0, 1, 2, 0, 1])).backward()
        optimizer.step()
    named = set(net.head.rows(net.lsh(inputs)).flatten().tolist())
    assert set(net.head.touched().nonzero().flatten().tolist()) == named


def test_a_lookup_too_large_to_hold_is_refused():
    with pytest.raises(UsageError) as caught:
        ProjectionNet(4, 3, T=2, d=40, lookup=True)
    assert caught.value.code == "projection_invalid"


def test_an_encoder_learns_through_the_bits_with_a_gradient_width_only():
    for width in (None, 1.0):
        encoder = torch.nn.Linear(6, 5)
        net = ProjectionNet(5, 3, T=4, d=3, encoder=encoder, gradient_width=width)
        net(torch.randn(20, 6)).sum().backward()
        assert (encoder.weight.grad is not None) == (width is not None)


def test_nets_learn_from_packed_bits_what_they_learn_from_pixels():
    pixels = np.random.default_rng(0).integers(0, 256, (9, 6), dtype=np.uint8)
    net = ProjectionNet(6, 3, T=4, d=3, hidden=(5, 4))
    on_bits = NetOnBits(PackedBits(net.lsh.spec), 3, hidden=(5, 4))
    on_bits.head.load_state_dict(net.head.state_dict())
    packed = torch.from_numpy(packed_bits(net.lsh.spec, pixels))
    assert torch.equal(on_bits(packed), net(torch.from_numpy(pixels).float()))
