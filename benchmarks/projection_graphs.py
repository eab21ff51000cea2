"""The projection graph in the projection benchmark: few labels a class, many images without one.

    alone                   the labelled images alone
    squared, weight w       and every image is held to its neighbours in the graph
    labels that flow        and what flows along the graph to the others teaches too

Invariant: all rows of one size and number of labels begin with equal weights and train for as many
steps; only the terms of the graph differ.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_devices import only_bits
from benchmarks.projection_fit import Row, fit, parameters_of, row_of, student_net
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import of_size
from projection_nets import JointTraining, Student, Teacher
from projection_nets.data.examples import Labelled
from projection_nets.graph_training import GraphExamples, GraphTraining
from projection_nets.hashing import permutation
from projection_nets.joint_step import JointStep
from projection_nets.neighbours import Neighbours, neighbours
from projection_nets.projection_graph import projection_graph
from projection_nets.propagation import propagated_labels

GRAPH_LABELS = (5, 20)
"""Labels a class."""

GRAPH_SIZES = ("60,12", "60,12+FC256")
GRAPH_WEIGHTS = (1.0, 10.0)
GRAPH_IMAGES = 10_000

_ROWS = 100
_SHARE = 0.2
_CHOICE = 2**34  # apart from the other streams of permutations
_PROBES = 8
_LEAST_PROBABILITY = 1e-6  # its logarithm is finite
_NET, _GRAPH = "net", "graph"

Positions = npt.NDArray[np.int64]


def graph_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Each size with each number of labels, alone and with the graph."""
    splits = only_bits(image_splits(place, data, seed), "bits")
    order = permutation(len(splits.train), seed, _CHOICE)[:GRAPH_IMAGES]
    splits = splits.some(torch.from_numpy(order))
    spec = student_net(splits, of_size("60,12"), seed).lsh.spec
    packed = splits.train.inputs[0].numpy()[:, : spec.packed_bytes]
    near = neighbours(projection_graph(packed, spec), packed, probes=_PROBES, seed=seed)
    rows: list[Row] = []
    for each in GRAPH_LABELS:
        labelled = _of_each_class(splits.train.labels, splits.classes, each)
        for size in GRAPH_SIZES:
            label = f"graph {data} seed {seed}, {size}, {len(labelled)} labels"
            found = _rows(place, splits, near, labelled, size, seed, label)
            rows += [{"network": size, "labels": len(labelled), **row} for row in found]
    return rows


def _rows(
    place: Place, splits: Splits, near: Neighbours, labelled: Positions, size: str, seed: int,
    label: str,
) -> list[Row]:  # fmt: skip
    batch = min(_ROWS, len(labelled))

    def trained(name: str, joint: JointTraining, step: JointStep, examples: Labelled[tuple[Tensor, ...]]) -> Row:  # fmt: skip
        rate = of_size(size).rate
        fit(
            place, step, examples, label=f"{label}, {name}", steps=place.share(_SHARE), seed=seed,
            batch_size=batch if name == "alone" else _ROWS, rates={_NET: rate, "": rate},
        )  # fmt: skip
        net = joint.nets[_NET]
        alone = JointTraining(students={_NET: Student(net=net, distillation_weight=0.0)})
        return {"row": name, "parameters": parameters_of(net), **row_of(alone, _NET, splits)}

    def on_graph(inputs: tuple[Tensor, ...]) -> GraphExamples:
        examples = replace(splits.train, inputs=inputs)
        return GraphExamples(examples, near, labelled=labelled, labelled_rows=batch, seed=seed)

    joint = _joint(splits, size, seed)
    rows = [trained("alone", joint, joint, splits.some(torch.from_numpy(labelled)).train)]
    for weight in GRAPH_WEIGHTS:
        joint = _joint(splits, size, seed)
        step = GraphTraining(joint, weights={_NET: weight})
        name = f"squared, weight {weight:g}"
        rows.append(trained(name, joint, step, on_graph(splits.train.inputs)))
    flowed = propagated_labels(near, splits.train.labels.numpy(), labelled, classes=splits.classes)
    soft = torch.from_numpy(flowed).clamp_min(_LEAST_PROBABILITY).log()
    joint = _joint(splits, size, seed, taught=True)
    step = GraphTraining(joint, weights={_NET: GRAPH_WEIGHTS[0]})
    rows.append(trained("labels that flow", joint, step, on_graph((*splits.train.inputs, soft))))
    return rows


def _joint(splits: Splits, size: str, seed: int, *, taught: bool = False) -> JointTraining:
    """The network, beside the labels that flow where they teach it."""
    teachers = {_GRAPH: Teacher(net=nn.Identity(), input=1, frozen=True)} if taught else {}
    net = student_net(splits, of_size(size), seed)
    weight = 1.0 if taught else 0.0
    return JointTraining(
        trainers=teachers, students={_NET: Student(net=net, distillation_weight=weight)}
    )


def _of_each_class(labels: Tensor, classes: int, each: int) -> Positions:
    """The first so many positions of each class; the order is random already."""
    found = [np.flatnonzero(labels.numpy() == number)[:each] for number in range(classes)]
    return np.concatenate(found).astype(np.int64)
