"""The projection graph against all pairs, and who is whose neighbour."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_core.errors import UsageError
from projection_nets.neighbours import neighbours
from projection_nets.packing import pack, packed_bits
from projection_nets.projection_graph import block_values, close_pairs, projection_graph
from projection_nets.spec import ProjectionSpec

SPEC = ProjectionSpec(in_features=16, functions=5, bits=6)


def clusters(count=60, spec=SPEC, seed=0, spread=40):
    """Inputs around three centres, and which."""
    generator = np.random.default_rng(seed)
    centres = generator.integers(0, 256, (3, spec.in_features))
    labels = generator.integers(0, 3, count)
    inputs = centres[labels] + generator.integers(-spread, spread + 1, (count, spec.in_features))
    return inputs.clip(0, 255), labels


def bits_of(value, count):
    return [(int(value) >> j) & 1 for j in range(count)]


def distance(one, other):
    return bin(int(one) ^ int(other)).count("1")


@pytest.mark.parametrize("radius", [0, 1, 2, 5])
def test_the_graph_is_that_of_all_pairs(radius):
    inputs, _ = clusters()
    packed = packed_bits(SPEC, inputs)
    graph = projection_graph(packed, SPEC, radius=radius, bucket_limit=1000)
    assert graph.cut_buckets == 0
    # nodes: what the blocks read, one by one
    import torch

    from projection_nets.lsh import LshProjection

    lsh = LshProjection(16, functions=5, bits=6, seed=SPEC.seed)
    bits = lsh(torch.tensor(inputs, dtype=torch.float32)).view(len(inputs), 5, 6).numpy()
    for example, function in itertools.product(range(len(inputs)), range(5)):
        node = graph.example_nodes[example, function]
        assert graph.node_function[node] == function
        assert bits_of(graph.node_value[node], 6) == bits[example, function].tolist()
    assert set(graph.example_nodes.reshape(-1).tolist()) == set(range(len(graph.node_value)))
    known = {(f, v) for f, v in zip(graph.node_function, graph.node_value, strict=True)}
    assert len(known) == len(graph.node_value)
    # edges: every pair of nodes, compared
    expected = {
        (i, j): 1 - distance(graph.node_value[i], graph.node_value[j]) / 6
        for i, j in itertools.combinations(range(len(graph.node_value)), 2)
        if graph.node_function[i] == graph.node_function[j]
        and distance(graph.node_value[i], graph.node_value[j]) <= radius
    }
    found = dict(zip(map(tuple, graph.edges.tolist()), graph.edge_weights, strict=True))
    assert found.keys() == expected.keys()
    assert all(found[pair] == pytest.approx(expected[pair]) for pair in found)
    assert bool(expected) == (radius > 0)


@given(
    bits=st.integers(2, 62),
    data=st.data(),
    limit=st.integers(1, 30),
)
def test_pairs_are_exact_and_whole_where_no_bucket_is_cut(bits, data, limit):
    radius = data.draw(st.integers(0, min(bits - 1, 6)))
    near = st.integers(0, 2**bits - 1) | st.integers(0, min(63, 2**bits - 1))
    values = np.array(sorted(data.draw(st.sets(near, min_size=1, max_size=40))), dtype=np.int64)
    pairs, distances, cut = close_pairs(values, bits, radius, limit)
    expected = {
        (i, j): distance(values[i], values[j])
        for i, j in itertools.combinations(range(len(values)), 2)
        if distance(values[i], values[j]) <= radius
    }
    found = dict(zip(map(tuple, pairs.tolist()), distances.tolist(), strict=True))
    assert len(found) == len(pairs)
    assert found.items() <= expected.items()
    if cut == 0:
        assert found == expected


def test_a_bucket_costs_no_more_than_its_limit():
    values = np.arange(4096)
    pairs, _, cut = close_pairs(values, 12, 1, 8)
    assert cut == 2 * 64  # both bands: 64 buckets of 64 values
    # an example is compared with at most 8 others on each side of it, in each band
    assert np.bincount(pairs.reshape(-1)).max() <= 2 * 2 * 8


def test_neighbours_are_near_and_their_weights_exact():
    spec = ProjectionSpec(in_features=16, functions=20, bits=6)
    inputs, labels = clusters(150, spec)
    packed = packed_bits(spec, inputs)
    found = neighbours(projection_graph(packed, spec), packed, count=5, probes=4)
    bits = np.unpackbits(packed, axis=1, bitorder="little")[:, :120].astype(int)
    weights = 1 - (bits[:, None] != bits[None]).mean(axis=2)
    rows = np.arange(len(inputs))[:, None]
    there = found.weight > 0
    assert there.mean() > 0.99
    np.testing.assert_allclose(
        np.where(there, weights[rows, found.index], 0), found.weight, rtol=1e-6
    )
    assert (found.index == rows)[there].sum() == 0
    assert all(
        len(set(row[kept])) == kept.sum() for row, kept in zip(found.index, there, strict=True)
    )
    assert (np.diff(found.weight, axis=1) <= 0).all()
    # nearly as near as the truly nearest, which all pairs give
    np.fill_diagonal(weights, 0)
    truly = np.sort(weights, axis=1)[:, -5:].mean()
    assert found.weight.mean() > 0.97 * truly
    assert found.agreement(labels) > 0.99


def test_the_same_seed_gives_the_same_neighbours():
    inputs, _ = clusters(200)
    packed = packed_bits(SPEC, inputs)
    graph = projection_graph(packed, SPEC)
    one, two, other = (
        neighbours(graph, packed, count=3, probes=2, seed=seed) for seed in (1, 1, 2)
    )
    assert np.array_equal(one.index, two.index)
    assert not np.array_equal(one.index, other.index)


def test_strangers_are_no_neighbours():
    bits = np.array([[0] * 30, [1] * 30, [0] * 30], dtype=np.uint8)
    packed = pack(bits)
    found = neighbours(projection_graph(packed, SPEC), packed, count=2)
    assert found.index.tolist() == [[2, 0], [1, 1], [0, 2]]  # itself fills what is missing
    assert found.weight.tolist() == [[1, 0], [0, 0], [1, 0]]


def test_blocks_read_the_lowest_bit_first():
    bits = np.zeros((1, 30), dtype=np.uint8)
    bits[0, [0, 7]] = 1
    assert block_values(pack(bits), SPEC).tolist() == [[1, 2, 0, 0, 0]]


@pytest.mark.parametrize("wrong", [{"radius": 6}, {"radius": -1}, {"bucket_limit": 0}])
def test_senseless_graphs_are_refused(wrong):
    with pytest.raises(UsageError) as caught:
        projection_graph(np.zeros((3, 4), dtype=np.uint8), SPEC, **wrong)
    assert caught.value.code == "graph_options_invalid"


def test_bits_of_another_spec_are_refused():
    for packed in (np.zeros((3, 5), np.uint8), np.zeros((0, 4), np.uint8)):
        with pytest.raises(UsageError):
            projection_graph(packed, SPEC)
    with pytest.raises(UsageError):
        projection_graph(
            np.zeros((3, 8), np.uint8), ProjectionSpec(in_features=2, functions=1, bits=63)
        )


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 21}, {"probes": 0}, {"least_weight": 2}])
def test_senseless_neighbours_are_refused(wrong):
    packed = np.zeros((3, 4), dtype=np.uint8)
    with pytest.raises(UsageError) as caught:
        neighbours(projection_graph(packed, SPEC), packed, **{"probes": 4, **wrong})
    assert caught.value.code == "graph_options_invalid"
