"""Training with neighbours: the loss, its gradients, batches, and that a budget changes no bit."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from poet_core.errors import UsageError
from projection_nets import JointTraining, NetOnBits, ProjectionNet, Student, Teacher
from projection_nets.data import digits
from projection_nets.data.examples import LabelledExamples
from projection_nets.graph_training import GraphExamples, GraphTraining
from projection_nets.metrics import evaluate_networks
from projection_nets.neighbours import Neighbours, neighbours
from projection_nets.packing import PackedBits, packed_bits
from projection_nets.projection_graph import projection_graph
from projection_nets.spec import ProjectionSpec
from projection_nets.training import train

PIXELS, CLASSES = 16, 3
SPEC = ProjectionSpec(in_features=PIXELS, functions=12, bits=6)


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


def clustered(count, seed=0):
    generator = np.random.default_rng(7)
    centres = generator.integers(60, 196, (CLASSES, PIXELS))
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    inputs = centres[labels] + generator.integers(-60, 61, (count, PIXELS))
    return LabelledExamples(
        inputs=(torch.tensor(inputs, dtype=torch.float32),), labels=torch.tensor(labels)
    )


def near_of(data, count=4):
    packed = packed_bits(SPEC, data.inputs[0].numpy().astype(np.int64))
    return neighbours(projection_graph(packed, SPEC), packed, count=count)


def joint(**options):
    small = ProjectionNet(PIXELS, CLASSES, T=12, d=6)
    big = nn.Sequential(nn.Linear(PIXELS, 12), nn.ReLU(), nn.Linear(12, CLASSES))
    return JointTraining(
        trainers={"big": Teacher(net=big, divisor=255.0, l2=1e-3)},
        students={"small": Student(net=small, **options)},
    )


def semi_supervised(data, **options):
    return GraphExamples(data, near_of(data), labelled=np.arange(9), labelled_rows=6, **options)


@pytest.mark.parametrize("distance", ["squared", "cross"])
def test_the_loss_is_what_the_docstring_says(distance):
    step = GraphTraining(joint(), weights={"small": 0.7}, distance=distance)
    data = clustered(60)
    inputs, others, weights, labels = semi_supervised(data).batch(np.arange(20, 30))
    parts = step.parts(step(inputs, others, weights), labels)
    assert (inputs.shape, others.shape, weights.shape) == ((16, 16), (16, 2, 16), (16, 2))
    small = step.joint.nets["small"]
    expected = 0.0
    for i in range(16):
        for j in range(2):
            ours, theirs = small(inputs[i : i + 1])[0], small(others[i, j : j + 1])[0].detach()
            apart = (
                (ours.softmax(0) - theirs.softmax(0)).square().sum()
                if distance == "squared"
                else -(theirs.softmax(0) * ours.log_softmax(0)).sum()
            )
            expected += weights[i, j] * apart / 32
    torch.testing.assert_close(parts["small and neighbours"], 0.7 * expected)
    rest = step.joint.parts(step.joint(inputs), labels)
    assert labels.tolist() == data.labels[:9][labels_of(data, inputs[:6])].tolist()
    for name, value in rest.items():
        torch.testing.assert_close(parts[name], value)
    torch.testing.assert_close(
        rest["small labels"], nn.functional.cross_entropy(small(inputs[:6]), labels)
    )


def labels_of(data, rows):
    """Positions of these rows."""
    return [(data.inputs[0] == row).all(dim=1).nonzero()[0].item() for row in rows]


def test_unlabelled_rows_move_the_network_that_has_a_graph_term_only():
    step = GraphTraining(joint(distillation_weight=0.0), weights={"small": 1.0})
    batch = list(semi_supervised(clustered(60)).batch(np.arange(20, 30)))
    outputs = step(*batch[:-1])
    parts = step.parts(outputs, batch[-1])
    parts["small and neighbours"].backward()
    assert step.joint.nets["small"].head.weight.grad.abs().sum() > 0
    assert all(p.grad is None for p in step.joint.nets["big"].parameters())


def test_weight_nought_pulls_nothing():
    step = GraphTraining(joint(), weights={"small": 1.0})
    data = clustered(60)
    inputs, others, weights, labels = semi_supervised(data).batch(np.arange(10))
    parts = step.parts(step(inputs, others, torch.zeros_like(weights)), labels)
    assert parts["small and neighbours"] == 0


def test_batches_are_a_function_of_seed_and_order():
    data = clustered(60)
    order = np.arange(30, 40)
    one, two = (semi_supervised(data, seed=3).batch(order) for _ in range(2))
    assert all(map(torch.equal, one, two))
    other = semi_supervised(data, seed=4).batch(order)
    assert not torch.equal(one[1], other[1])
    assert torch.equal(one[0][6:], data.inputs[0][30:40])
    positions = labels_of(data, one[0][:6])
    assert len(set(positions)) == 6
    assert max(positions) < 9
    near = near_of(data)
    for row, (others, weights) in enumerate(zip(one[1], one[2], strict=True)):
        example = labels_of(data, one[0][row : row + 1])[0]
        for found, weight in zip(labels_of(data, others), weights, strict=True):
            column = near.index[example].tolist().index(found)
            assert weight == near.weight[example, column]


def test_with_all_labels_a_batch_is_the_order_itself():
    data = clustered(40)
    source = GraphExamples(data, near_of(data), sampled=3)
    inputs, others, _, labels = source.batch(np.arange(5, 15))
    assert torch.equal(inputs, data.inputs[0][5:15])
    assert torch.equal(labels, data.labels[5:15])
    assert others.shape == (10, 3, PIXELS)
    assert [len(batch[-1]) for batch in source.chunks(15)] == [15, 15, 10]


@pytest.mark.parametrize("distance", ["squared", "cross"])
def test_a_budget_changes_no_bit(distance, tmp_path):
    data = clustered(80)
    step = GraphTraining(joint(), weights={"small": 1.0, "big": 0.5}, distance=distance)
    twin = copy.deepcopy(step)
    options = {"steps": 5, "batch_size": 20, "report_every": 1, "validation": data}
    source = semi_supervised(data)
    eager = train(step, torch.optim.Adam(step.parameters(), lr=0.01), source, **options)
    planned = train(
        twin, torch.optim.Adam(twin.parameters(), lr=0.01), source, **options,
        ram="44KiB", device="host", wall_seconds=0.5, paging_directory=tmp_path,
    )  # fmt: skip
    assert planned[-1].planned_peak_bytes <= 44 * 1024  # keep-everything takes 47 KiB
    assert [r.loss for r in planned] == [r.loss for r in eager]
    assert all(map(torch.equal, step.state_dict().values(), twin.state_dict().values()))
    assert eager[-1].loss < eager[0].loss


def test_neighbours_teach_where_labels_are_few():
    splits, spec = digits(), ProjectionSpec(in_features=784)
    data, test = (
        LabelledExamples(
            inputs=(torch.from_numpy(packed_bits(spec, images.pixels.numpy())),),
            labels=images.labels,
        )
        for images in (splits.train, splits.test)
    )
    packed = data.inputs[0].numpy()
    near = neighbours(projection_graph(packed, spec), packed)
    assert near.agreement(data.labels.numpy()) > 0.9
    labelled = np.concatenate([(data.labels == label).nonzero()[:5, 0] for label in range(10)])
    right = {}
    for weight in (1e-9, 1.0):
        torch.manual_seed(0)
        joint = JointTraining(students={"small": Student(net=NetOnBits(PackedBits(spec), 10))})
        step = GraphTraining(joint, weights={"small": weight})
        source = GraphExamples(data, near, labelled=labelled, labelled_rows=50)
        optimizer = torch.optim.Adam(step.parameters(), lr=0.005)
        train(step, optimizer, source, steps=150, batch_size=100)
        right[weight] = evaluate_networks(step, test, ks=(1,))["small"][1]
    assert right[1.0] > right[1e-9] + 0.02


def test_packed_bits_are_inputs_too():
    data = clustered(40)
    packed = torch.from_numpy(packed_bits(SPEC, data.inputs[0].numpy().astype(np.int64)))
    bits = LabelledExamples(inputs=(packed,), labels=data.labels)
    step = GraphTraining(
        JointTraining(students={"small": Student(net=NetOnBits(PackedBits(SPEC), CLASSES))}),
        weights={"small": 1.0},
    )
    source = GraphExamples(bits, near_of(data))
    losses = train(
        step, torch.optim.Adam(step.parameters(), lr=0.05), source, steps=20, batch_size=20,
        report_every=1,
    )  # fmt: skip
    assert losses[-1].loss < losses[0].loss


@pytest.mark.parametrize(
    "wrong", [{"weights": {}}, {"weights": {"none": 1.0}}, {"weights": {"small": 0.0}}, {"distance": "x"}]
)  # fmt: skip
def test_senseless_graph_terms_are_refused(wrong):
    with pytest.raises(UsageError) as caught:
        GraphTraining(joint(), **{"weights": {"small": 1.0}, **wrong})
    assert caught.value.code == "graph_training_invalid"


@pytest.mark.parametrize(
    "wrong",
    [{"sampled": 0}, {"labelled_rows": 10}, {"labelled": np.array([40])}, {"count": 30}],
)
def test_senseless_batches_are_refused(wrong):
    data = clustered(40)
    wrong = dict(wrong)
    near = near_of(clustered(wrong.pop("count", 40)))
    with pytest.raises(UsageError) as caught:
        GraphExamples(data, near, **{"labelled": np.arange(9), "labelled_rows": 1, **wrong})
    assert caught.value.code == "graph_training_invalid"


def test_a_batch_of_another_form_is_refused():
    step = GraphTraining(joint(), weights={"small": 1.0})
    with pytest.raises(UsageError):
        step(torch.zeros(2, PIXELS), torch.zeros(2, 1, PIXELS))


def test_neighbours_say_how_well_they_agree():
    near = Neighbours(
        index=np.array([[1, 2], [0, 2], [2, 2]]),
        weight=np.array([[1, 0.5], [0.5, 0], [0, 0]], np.float32),
    )
    assert near.agreement(np.array([0, 0, 1])) == pytest.approx(0.75)
