"""Labels that flow along a graph: against matrices on a small one, and to where none comes."""

import numpy as np
import pytest

from poet_core.errors import UsageError
from projection_nets.neighbours import Neighbours, neighbours
from projection_nets.packing import packed_bits
from projection_nets.projection_graph import projection_graph
from projection_nets.propagation import propagated_labels
from projection_nets.spec import ProjectionSpec
from tests.projection_nets.test_projection_graph import clusters


def random_neighbours(count, seed):
    generator = np.random.default_rng(seed)
    index = np.stack(
        [generator.choice(np.delete(np.arange(count), at), 3, replace=False) for at in range(count)]
    )
    return Neighbours(index=index, weight=generator.uniform(0.5, 1, index.shape).astype(np.float32))


@pytest.mark.parametrize("seed", range(3))
def test_it_is_the_iteration_over_the_whole_matrix(seed):
    near = random_neighbours(12, seed)
    labels = np.arange(12) % 2
    labelled = np.array([0, 1, 2])
    matrix = np.zeros((12, 12))
    for row in range(12):
        for other, weight in zip(near.index[row], near.weight[row], strict=True):
            matrix[row, other] += (2 * weight - 1) ** 3
            matrix[other, row] += (2 * weight - 1) ** 3
    known = np.zeros((12, 2))
    known[[0, 1, 2], [0, 1, 0]] = 1
    spread = known
    for _ in range(7):
        spread = 0.8 * matrix @ spread / matrix.sum(axis=1, keepdims=True) + 0.2 * known
    expected = spread / spread.sum(axis=0) * [2 / 3, 1 / 3]
    expected /= expected.sum(axis=1, keepdims=True)
    got = propagated_labels(near, labels, labelled, classes=2, rounds=7, pull=0.8, sharpness=3)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_one_label_a_cluster_is_enough():
    spec = ProjectionSpec(in_features=16, functions=20, bits=6)
    inputs, labels = clusters(150, spec)
    packed = packed_bits(spec, inputs)
    near = neighbours(projection_graph(packed, spec), packed)
    labelled = np.array([np.flatnonzero(labels == label)[0] for label in range(3)])
    hidden = np.where(np.isin(np.arange(150), labelled), labels, -1)  # the others are not read
    got = propagated_labels(near, hidden, labelled, classes=3)
    assert (got.argmax(axis=1) == labels).mean() > 0.97


def test_where_no_label_comes_the_shares_stand():
    near = Neighbours(
        index=np.array([[1], [0], [3], [2]]), weight=np.array([[1], [1], [1], [0]], np.float32)
    )
    got = propagated_labels(near, np.array([1, 0, 0, 0]), np.array([0]), classes=2)
    np.testing.assert_allclose(got.sum(axis=1), 1)
    assert got.argmax(axis=1).tolist() == [1, 1, 1, 1]  # the share of class 1 is whole
    both = propagated_labels(
        Neighbours(index=np.array([[0], [1], [2]]), weight=np.zeros((3, 1), np.float32)),
        np.array([0, 1, 0]),
        np.array([0, 1]),
        classes=2,
    )
    np.testing.assert_allclose(both, [[1, 0], [0, 1], [0.5, 0.5]])


@pytest.mark.parametrize(
    "wrong",
    [
        {"labels": np.zeros(5, int)},
        {"labelled": np.array([], int)},
        {"labelled": np.array([12])},
        {"classes": 1},
        {"rounds": 0},
        {"pull": 1.0},
    ],
)
def test_senseless_options_are_refused(wrong):
    options = {"labels": np.arange(12) % 2, "labelled": np.array([0, 1]), "classes": 2, **wrong}
    with pytest.raises(UsageError) as caught:
        propagated_labels(random_neighbours(12, 0), **options)
    assert caught.value.code == "graph_options_invalid"
