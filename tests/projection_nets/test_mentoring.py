"""A mentee under a mentor: what is compared, where gradients go, and that a budget changes no bit."""

import copy
import math

import pytest
import torch
from torch import nn

from poet_core.errors import UsageError
from projection_nets import JointTraining, ProjectionNet, Student, Teacher
from projection_nets.adapters import Adapter, LayerMap
from projection_nets.mentoring import MENTEE, MENTOR, Mentoring
from projection_nets.metrics import evaluate_networks
from projection_nets.training import train
from projection_nets.vgg import small_mentee, vgg16_like
from tests.projection_nets.mentor_parts import CLASSES, PIXELS, examples, mentor, student, teacher

MAPS = (
    LayerMap(mentee="one", mentor="two", weight=0.5),
    LayerMap(mentee="hidden", mentor="hidden", adapter="fixed", weight=2.0),
)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def mentoring(*maps, **options):
    part = teacher()
    part.net.eval()
    return Mentoring(
        mentee=student(**options), mentor=part, example=examples(1).inputs, maps=maps or MAPS
    )


def batch(count=10):
    return (*examples(count).inputs, examples(count).labels)


def test_the_parts_are_what_the_docstring_says():
    step = mentoring()
    inputs, labels = batch()
    outputs = step(inputs)
    parts = step.parts(outputs, labels)
    images = (inputs / 255).view(-1, 1, 8, 8)
    small, big = step.nets[MENTEE], step.nets[MENTOR]
    logits, soft = small(inputs / 255), big(inputs / 255)
    expected = {
        "labels": nn.functional.cross_entropy(logits, labels),
        "soft targets": 0.5 * 9 * nn.functional.cross_entropy(logits / 3, (soft / 3).softmax(1)),
    }
    learned = step.mentee_sides[0].layer
    ours = learned(nn.functional.avg_pool2d(small.one(images), 2))
    expected[MAPS[0].name] = 0.5 * (ours - big.two(big.one(images))).square().mean().sqrt()
    features, matrix = big.hidden(big.two(big.one(images))), step.target_sides[1].matrix
    difference = small.hidden(small.one(images)) - features @ matrix.T
    expected[MAPS[1].name] = 2 * difference.square().mean().sqrt()
    assert list(parts) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(parts[name], value)
    torch.testing.assert_close(step.loss(outputs, labels), sum(expected.values()))


def test_gradients_reach_the_mentee_and_the_adapters_and_never_the_mentor():
    step = mentoring()
    step.loss(step(batch()[0]), batch()[1]).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in step.trained())
    assert all(p.grad is None for p in step.nets[MENTOR].parameters())
    assert {id(p) for p in step.trained()} | {id(p) for p in step.nets[MENTOR].parameters()} == {
        id(p) for p in step.parameters()
    }


def test_representations_alone_teach_the_layers_up_to_the_mapped_one():
    step = mentoring(MAPS[0], label_weight=0.0, distillation_weight=0.0)
    step.loss(step(batch()[0]), batch()[1]).backward()
    reached = {n for n, p in step.nets[MENTEE].named_parameters() if p.grad is not None}
    assert reached == {"one.0.weight", "one.0.bias"}


def test_the_mentor_stays_as_it_is_statistics_and_dropout_included():
    step = mentoring()
    before = copy.deepcopy(step.nets[MENTOR].state_dict())
    optimizer = torch.optim.Adam(step.trained(), lr=0.01)
    train(step, optimizer, examples(), steps=4, batch_size=20)
    after = step.nets[MENTOR].state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    inputs, _ = batch()
    assert torch.equal(step(inputs)[MENTOR], step(inputs)[MENTOR])  # no dropout


def test_equal_representations_have_a_finite_gradient():
    twin = mentor().eval()
    step = Mentoring(
        mentee=Student(net=copy.deepcopy(twin), divisor=255.0),
        mentor=Teacher(net=twin, divisor=255.0),
        example=examples(1).inputs,
        maps=[LayerMap(mentee="two", mentor="two", adapter="none")],
    )
    step.nets[MENTEE].eval()
    loss = step.loss(step(batch()[0]), batch()[1])
    loss.backward()
    assert all(p.grad.isfinite().all() for p in step.nets[MENTEE].parameters())


@pytest.mark.parametrize(
    ("adapter", "shape"),
    [("learned", (12, 2, 2)), ("fixed", (4, 2, 2)), ("select", (4, 2, 2))],
)
def test_both_sides_get_one_shape(adapter, shape):
    step = mentoring(LayerMap(mentee="one", mentor="two", adapter=adapter))
    outputs = step(batch()[0])
    assert outputs["mentee layer 0"].shape == outputs["mentor layer 0"].shape == (10, *shape)


def test_filters_are_compared_with_the_filters_that_are_named():
    one = LayerMap(
        mentee="one", mentor="one", adapter="none", mentee_filters=(3, 0), mentor_filters=(1, 5)
    )
    step = mentoring(one)
    images = (batch()[0] / 255).view(-1, 1, 8, 8)
    outputs = step(batch()[0])
    ours, theirs = step.nets[MENTEE].one(images), step.nets[MENTOR].one(images)
    assert torch.equal(outputs["mentee layer 0"], ours[:, [3, 0]])
    assert torch.equal(outputs["mentor layer 0"], theirs[:, [1, 5]])


def test_a_fixed_matrix_keeps_the_mean_square():
    side = mentoring(LayerMap(mentee="one", mentor="two", adapter="fixed", seed=5)).target_sides[0]
    values = torch.randn(400, 12, 2, 2)
    assert side(values).square().mean().item() == pytest.approx(1, abs=0.35)  # 12 -> 4 channels
    other = mentoring(LayerMap(mentee="one", mentor="two", adapter="fixed", seed=5))
    assert torch.equal(side.matrix, other.target_sides[0].matrix)


class Sequences(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.embedding = nn.Embedding(9, width)
        self.out = nn.Linear(width, CLASSES)

    def forward(self, tokens):
        return self.out(self.embedding(tokens).mean(dim=1))


def test_sequences_are_joined_by_their_width():
    tokens = torch.randint(0, 9, (5, 6))
    step = Mentoring(
        mentee=Student(net=Sequences(3)), mentor=Teacher(net=Sequences(7)), example=(tokens,),
        maps=[LayerMap(mentee="embedding", mentor="embedding")],
    )  # fmt: skip
    assert step(tokens)["mentee layer 0"].shape == (5, 6, 7)


def test_a_projection_network_can_be_the_mentee():
    small = ProjectionNet(PIXELS, CLASSES, T=6, d=4, hidden=5)
    step = Mentoring(
        mentee=Student(net=small), mentor=teacher(), example=examples(1).inputs,
        maps=[LayerMap(mentee="head.0", mentor="hidden")],
    )  # fmt: skip
    losses = [
        r.loss
        for r in train(
            step, torch.optim.Adam(step.trained(), lr=0.02), examples(), steps=30, batch_size=20,
            report_every=1,
        )
    ]  # fmt: skip
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("adapter", [Adapter.LEARNED, Adapter.FIXED, Adapter.SELECT])
def test_a_budget_changes_no_bit(adapter, tmp_path):
    step = mentoring(LayerMap(mentee="one", mentor="two", adapter=adapter))
    twin = copy.deepcopy(step)
    options = {"steps": 4, "batch_size": 20, "report_every": 1}
    eager = train(step, torch.optim.Adam(step.trained(), lr=0.01), examples(), **options)
    planned = train(
        twin, torch.optim.Adam(twin.trained(), lr=0.01), examples(), **options,
        ram="130KiB", device="host", wall_seconds=0.5, paging_directory=tmp_path,
    )  # fmt: skip
    assert planned[-1].planned_peak_bytes <= 130 * 1024  # keep-everything takes 143 KiB
    assert [r.loss for r in planned] == [r.loss for r in eager]
    assert all(map(torch.equal, step.state_dict().values(), twin.state_dict().values()))
    assert eager[-1].loss < eager[0].loss


def test_evaluation_needs_the_inputs_alone():
    step = mentoring()
    shares = evaluate_networks(step, examples())
    assert set(shares) == {MENTOR, MENTEE}
    assert step.training
    assert not step.nets[MENTOR].training


def test_without_its_mentor_the_same_mentee_goes_on():
    step = mentoring()
    alone = step.without_mentor()
    assert isinstance(alone, JointTraining)
    before = copy.deepcopy(step.nets[MENTEE].state_dict())
    train(alone, torch.optim.SGD(alone.parameters(), lr=0.1), examples(), steps=2, batch_size=20)
    after = step.nets[MENTEE].state_dict()
    assert any(not torch.equal(before[name], after[name]) for name in before)


def overwritten():
    net = mentor()
    net.one = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
    return net


def repeated():
    layer = nn.Linear(CLASSES, CLASSES)
    return nn.Sequential(nn.Flatten(), nn.Linear(PIXELS, CLASSES), layer, layer)


@pytest.mark.parametrize(
    ("net", "path", "code"),
    [
        (mentor, "nowhere", "layer_unknown"),
        (mentor, "", "layer_unknown"),
        (overwritten, "one.0", "layer_unusable"),
        (repeated, "2", "layer_unusable"),
        (mentor, "hidden", "map_invalid"),  # a vector beside an image
        (mentor, "one", "map_invalid"),  # 8 filters beside 4
    ],
)
def test_a_layer_that_cannot_be_compared_is_refused(net, path, code):
    with pytest.raises(UsageError) as caught:
        Mentoring(
            mentee=student(), mentor=teacher(net()), example=examples(1).inputs,
            maps=[LayerMap(mentee="one", mentor=path, adapter="none")],
        )  # fmt: skip
    assert caught.value.code == code


@pytest.mark.parametrize(
    "wrong",
    [
        {"adapter": "other"},
        {"weight": 0.0},
        {"weight": math.nan},
        {"mentor_filters": (8,)},
        {"mentee_filters": (-1,)},
        {"adapter": "select", "mentor_filters": (0, 1)},
    ],
)
def test_a_senseless_map_is_refused(wrong):
    with pytest.raises(UsageError) as caught:
        mentoring(LayerMap(**{"mentee": "one", "mentor": "one", **wrong}))
    assert caught.value.code == "map_invalid"


@pytest.mark.parametrize(
    "wrong", [{"label_weight": -1.0}, {"temperature": 0.0}, {"distillation_weight": math.inf}]
)
def test_senseless_weights_are_refused(wrong):
    with pytest.raises(UsageError) as caught:
        mentoring(**wrong)
    assert caught.value.code == "mentoring_invalid"


def test_the_small_vgg_has_thirteen_convolutions_and_named_blocks():
    net = vgg16_like(10, width=2, hidden=8)
    assert sum(isinstance(layer, nn.Conv2d) for layer in net.modules()) == 13
    sides = []
    values = torch.rand(2, 784)
    for name, layer in net.named_children():
        values = layer(values)
        if name.startswith("block"):
            sides.append(tuple(values.shape[1:]))
    assert sides == [(2, 16, 16), (4, 8, 8), (8, 4, 4), (16, 2, 2), (16, 1, 1)]
    assert values.shape == (2, 10)
    assert sum(p.numel() for p in small_mentee(10).parameters()) == 6794
    with pytest.raises(UsageError):
        vgg16_like(10, side=33)
