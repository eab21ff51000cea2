"""Mentor-mentee and projection graph in the benchmark, where their modules are in the package.

    mentee   the same small network alone and under a mentor, from equal weights on equal batches
    graph    few labels a class: [60,12] alone, and held to its neighbours among unlabelled images

Invariant: "alone" and the rows beside it differ in the term that is studied and in nothing else.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_devices import only_bits
from benchmarks.projection_fit import Row, fit, parameters_of, percents, student_net
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import StudentRecipe, of_size
from benchmarks.projection_taught import taught
from projection_nets import JointTraining, Student, Teacher
from projection_nets.data.examples import LabelledExamples
from projection_nets.hashing import permutation
from projection_nets.metrics import evaluate_networks
from projection_nets.trainers import feed_forward
from projection_nets.training import IMAGE_BATCH

_MENTOR_SHARE, _MENTEE_SHARE, _GRAPH_SHARE = 0.2, 0.1, 0.2
_CHOICE = 2**34  # apart from the other streams of permutations

MENTEE_LABELS = (1000, 0)
"""Labelled images that the mentee has; 0: all. The mentor had all."""

GRAPH_LABELS = (5, 20)  # a class
GRAPH_SIZES = ("60,12", "60,12+FC256")
GRAPH_SETTINGS = {"squared, weight 1": ("squared", 1.0), "squared, weight 10": ("squared", 10.0), "cross, weight 1": ("cross", 1.0)}  # fmt: skip
_GRAPH_IMAGES = 10_000
_GRAPH_ROWS = 100

_NAME = "net"


def have_mentor() -> bool:
    """Whether the package has mentor-mentee training."""
    return importlib.util.find_spec("projection_nets.mentoring") is not None


def have_graph() -> bool:
    """Whether the package has the projection graph."""
    return importlib.util.find_spec("projection_nets.graph_training") is not None


# -- mentor and mentee ------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    """A mentor, how to make its mentee, and which layers are held against each other."""

    name: str
    mentor: nn.Module
    mentee: Callable[[], nn.Module]
    layers: tuple[tuple[str, str], ...]


def mentee_rows(place: Place, data: str, seed: int) -> list[Row]:
    """For each pairing and number of labels: alone, with soft targets, with layers too."""
    from projection_nets.adapters import LayerMap

    splits = image_splits(place, data, seed)
    rows: list[Row] = []
    for pairing in (_perceptrons(place, data, seed), _convolutions(place, splits, seed)):
        maps = [LayerMap(mentee=mentee, mentor=mentor) for mentee, mentor in pairing.layers]
        for labels in MENTEE_LABELS:
            count = min(labels or len(splits.train), len(splits.train))
            order = permutation(len(splits.train), seed, _CHOICE)[:count]
            some = splits.some(torch.from_numpy(order))
            variants = {"alone": None, "soft targets": [], "soft targets and layers": maps}
            for name, chosen in variants.items():
                label = f"mentee {data} seed {seed}, {pairing.name}, {count} labels, {name}"
                row = _mentee_row(place, some, pairing, chosen, seed, label)
                rows.append({"network": pairing.name, "labels": count, "row": name, **row})
    return rows


def _mentee_row(
    place: Place, splits: Splits, pairing: _Pairing, maps: object, seed: int, label: str
) -> Row:
    from projection_nets.mentoring import MENTEE, Mentoring

    torch.manual_seed(seed)
    net = pairing.mentee()
    pixels = splits.input_of("pixels")
    step: nn.Module
    if maps is None:
        alone = Student(net=net, input=pixels, divisor=255.0, distillation_weight=0.0)
        step = JointTraining(students={MENTEE: alone})
    else:
        step = Mentoring(
            mentee=Student(
                net=net, input=pixels, divisor=255.0, distillation_weight=1.0, temperature=2.0
            ),
            mentor=Teacher(net=pairing.mentor, input=pixels, divisor=255.0, frozen=True),
            example=[part[:2] for part in splits.train.inputs],
            maps=maps,  # type: ignore[arg-type]
        )
    fit(
        place, step, splits.train, label=label, steps=place.share(_MENTEE_SHARE), seed=seed,
        batch_size=IMAGE_BATCH,
    )  # fmt: skip
    return _row_of(step, MENTEE, net, splits)


def _perceptrons(place: Place, data: str, seed: int) -> _Pairing:
    """The table's trainer, and one hidden layer of 32 under its last one."""
    known = taught(place, data, seed)
    layers = list(known.trainer.named_children())
    last = [name for name, layer in layers if isinstance(layer, nn.ReLU)][-1]
    features = known.splits.test.inputs[known.splits.input_of("pixels")].shape[1]
    return _Pairing(
        name="784-32-10 under 784-1000-1000-1000-10",
        mentor=known.trainer,
        mentee=lambda: feed_forward(features, known.splits.classes, hidden=(32,)),
        layers=(("1", last),),
    )


def _convolutions(place: Place, splits: Splits, seed: int) -> _Pairing:
    """A VGG-16-like mentor, trained here, and the small mentee."""
    from projection_nets.vgg import small_mentee, vgg16_like

    torch.manual_seed(seed)
    mentor = vgg16_like(splits.classes, width=4 if place.small else 8)
    path = place.folder / f"mentor-{splits.name}-{seed}-{place.steps}-{place.small}.pt"
    pixels = splits.input_of("pixels")
    if not path.exists():
        alone = JointTraining(
            trainers={"mentor": Teacher(net=mentor, input=pixels, divisor=255.0)}, students={}
        )
        fit(
            place, alone, splits.train, label=f"mentor {splits.name} seed {seed}",
            steps=place.share(_MENTOR_SHARE), seed=seed, batch_size=IMAGE_BATCH,
        )  # fmt: skip
        torch.save(mentor.state_dict(), path)
    mentor.load_state_dict(torch.load(path, weights_only=True))
    return _Pairing(
        name="small mentee under a VGG-16-like mentor",
        mentor=mentor,
        mentee=lambda: small_mentee(splits.classes),
        layers=(("block1", "block1"), ("block2", "block2")),
    )


# -- the projection graph ---------------------------------------------------------------------


def graph_rows(place: Place, data: str, seed: int) -> list[Row]:
    """For each size and number of labels: alone on the labelled images, and with neighbours."""
    from projection_nets.graph_training import GraphExamples, GraphTraining
    from projection_nets.neighbours import neighbours
    from projection_nets.projection_graph import projection_graph

    splits = only_bits(image_splits(place, data, seed), "bits")
    order = permutation(len(splits.train), seed, _CHOICE)[:_GRAPH_IMAGES]
    splits = splits.some(torch.from_numpy(order))
    spec = student_net(splits, of_size("60,12"), seed).lsh.spec
    packed = splits.train.inputs[0].numpy()[:, : spec.packed_bytes]
    near = neighbours(projection_graph(packed, spec), packed)
    rows: list[Row] = []
    for each in GRAPH_LABELS:
        labelled = _of_each_class(splits.train.labels, splits.classes, each)
        batch = min(_GRAPH_ROWS, len(labelled))
        examples = GraphExamples(
            splits.train, near, labelled=labelled, labelled_rows=batch, seed=seed
        )
        known: dict[str, object] = {"labels": len(labelled)}
        for size in GRAPH_SIZES:
            label = f"graph {data} seed {seed}, {size}, {len(labelled)} labels"
            recipe = of_size(size)
            some = splits.some(torch.from_numpy(labelled))
            alone = _joint_of(splits, recipe, seed)
            _fit_graph(place, alone, some.train, recipe, seed, label, batch)
            rows.append({**known, "network": size, "row": "alone", **_row_of_joint(alone, splits)})
            for name, (distance, weight) in GRAPH_SETTINGS.items():
                joint = _joint_of(splits, recipe, seed)
                step = GraphTraining(joint, weights={_NAME: weight}, distance=distance)
                _fit_graph(place, step, examples, recipe, seed, f"{label}, {name}", _GRAPH_ROWS)
                rows.append({**known, "network": size, "row": name, **_row_of_joint(joint, splits)})
    return rows


def _fit_graph(
    place: Place, step: nn.Module, examples: object, recipe: StudentRecipe, seed: int, label: str,
    batch_size: int,
) -> None:  # fmt: skip
    fit(
        place, step, examples, label=label, steps=place.share(_GRAPH_SHARE), seed=seed,  # type: ignore[arg-type]
        batch_size=batch_size, rates={_NAME: recipe.rate, "": recipe.rate},
    )  # fmt: skip


def _joint_of(splits: Splits, recipe: StudentRecipe, seed: int) -> JointTraining:
    net = student_net(splits, recipe, seed)
    return JointTraining(students={_NAME: Student(net=net, distillation_weight=0.0)})


def _of_each_class(labels: Tensor, classes: int, each: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:  # fmt: skip
    """The first so many positions of each class; the order is random already."""
    found = [np.flatnonzero(labels.numpy() == number)[:each] for number in range(classes)]
    return np.concatenate(found).astype(np.int64)


def _row_of_joint(joint: JointTraining, splits: Splits) -> Row:
    return _row_of(joint, _NAME, joint.nets[_NAME], splits)


def _row_of(step: nn.Module, name: str, net: nn.Module, splits: Splits) -> Row:
    def shares(part: LabelledExamples) -> dict[str, float]:
        return percents(evaluate_networks(step, part)[name])  # type: ignore[arg-type]

    return {
        "parameters": parameters_of(net),
        "validation": shares(splits.validation),
        "test": shares(splits.test),
    }
