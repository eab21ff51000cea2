"""Mentor-mentee in the projection benchmark: a small network alone and under a mentor.

    784-32-10 under the trainer of the table     MNIST, Fashion-MNIST
    a small convolutional mentee under a VGG-16-like mentor     MNIST

with 1,000 labelled images, the perceptrons with all too: alone, by soft targets, by soft targets and
layers, and, where labels are few, by soft targets on all images, whose labels only the mentor had.

Invariant: "alone" and the rows beside it begin with equal weights, see equal batches of labelled
images at equal rates, and differ in the mentor's terms alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_fit import Row, fit, parameters_of, row_of
from benchmarks.projection_place import Place
from benchmarks.projection_taught import logits_of, taught
from projection_nets import JointTraining, Student, Teacher
from projection_nets.adapters import LayerMap
from projection_nets.data.examples import LabelledExamples
from projection_nets.hashing import permutation, random_words
from projection_nets.joint_step import JointStep
from projection_nets.mentoring import MENTEE, Mentoring
from projection_nets.trainers import feed_forward
from projection_nets.training import IMAGE_BATCH
from projection_nets.vgg import small_mentee, vgg16_like

MENTEE_LABELS = (1000, 0)
"""Labelled images that the mentee has; 0: all. The mentor had all."""
CONVOLUTION_LABELS = (1000,)
"""The same for the small convolutional mentee, whose rows take much longer."""

_MENTOR_SHARE = 0.2  # of the joint training's steps
_CHOICE = 2**34  # apart from the other streams of permutations

ALONE = "alone"
_SOFT, _LAYERS = "soft targets", "soft targets and layers"
_EVERY = "soft targets on all images"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Recipe:
    """How a mentee learns. `share`: of the joint training's steps; `rate`: alone and taught;
    `weight` and `temperature` of the soft targets. Chosen on the validation part of one seed."""

    share: float
    rate: float
    weight: float
    temperature: float


_OF_PERCEPTRONS = _Recipe(share=0.3, rate=1e-2, weight=1.0, temperature=2.0)
_OF_CONVOLUTIONS = _Recipe(share=0.15, rate=3e-3, weight=4.0, temperature=4.0)

RECIPE = (
    _MENTOR_SHARE, asdict(_OF_PERCEPTRONS), asdict(_OF_CONVOLUTIONS), ALONE, _SOFT, _LAYERS, _EVERY,
)  # fmt: skip
"""What decides the rows, beside the labels: for the job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    """A mentor, how to make its mentee, which layers are held against each other, and what the
    mentor says of the training images."""

    name: str
    recipe: _Recipe
    labels: tuple[int, ...]
    mentor: nn.Module
    mentee: Callable[[], nn.Module]
    layers: tuple[LayerMap, ...]
    soft_targets: Tensor


def mentee_rows(place: Place, data: str, seed: int) -> list[Row]:
    """For each pairing and number of labels: alone, and in every way that a mentor may teach."""
    splits = image_splits(place, data, seed)
    pairings = [_perceptrons(place, data, seed)]
    if data == "mnist":
        pairings.append(_convolutions(place, splits, seed))
    images = len(splits.train)
    rows: list[Row] = []
    for pairing in pairings:
        with_soft = splits.with_input(_SOFT, pairing.soft_targets)
        for count in dict.fromkeys(min(labels or images, images) for labels in pairing.labels):
            chosen = torch.from_numpy(permutation(images, seed, _CHOICE)[:count])
            some = with_soft.some(chosen)
            for name in (ALONE, _SOFT, _LAYERS, *([_EVERY] if count < images else [])):
                label = f"mentee {data} seed {seed}, {pairing.name}, {count} labels, {name}"
                found = _mentee_row(place, some, pairing, name, with_soft.train, seed, label)
                rows.append({"network": pairing.name, "labels": count, "row": name, **found})
    return rows


def _mentee_row(
    place: Place,
    some: Splits,
    pairing: _Pairing,
    name: str,
    every: LabelledExamples,
    seed: int,
    label: str,
) -> Row:
    torch.manual_seed(seed)
    recipe, net = pairing.recipe, pairing.mentee()
    step = _step(some, pairing, net, name)
    examples = AndOthers(some.train, every, seed) if name == _EVERY else some.train
    fit(
        place, step, examples, label=label, steps=place.share(recipe.share), seed=seed,
        batch_size=IMAGE_BATCH, rates={MENTEE: recipe.rate, "": recipe.rate},
    )  # fmt: skip
    # the parts that are measured have no soft targets
    measured = step.without_mentor() if isinstance(step, Mentoring) else step
    return {"parameters": parameters_of(net), **row_of(measured, MENTEE, some)}


def _step(some: Splits, pairing: _Pairing, net: nn.Module, name: str) -> JointStep:
    """Labels alone, or a mentor beside them: its recorded answers, or itself where its layers teach."""
    pixels = some.input_of("pixels")
    if name == ALONE:
        alone = Student(net=net, input=pixels, divisor=255.0, distillation_weight=0.0)
        return JointTraining(students={MENTEE: alone})
    recorded = Teacher(net=nn.Identity(), input=some.input_of(_SOFT), frozen=True)
    here = Teacher(net=pairing.mentor, input=pixels, divisor=255.0, frozen=True)
    return Mentoring(
        mentee=Student(
            net=net, input=pixels, divisor=255.0, distillation_weight=pairing.recipe.weight,
            temperature=pairing.recipe.temperature,
        ),
        mentor=here if name == _LAYERS else recorded,
        example=[part[:2] for part in some.train.inputs],
        maps=pairing.layers if name == _LAYERS else (),
    )  # fmt: skip


class AndOthers:
    """Labelled examples, and behind those of a batch as many of `others`, without their labels."""

    def __init__(self, labelled: LabelledExamples, others: LabelledExamples, seed: int) -> None:
        self._labelled, self._others, self._seed = labelled, others, seed

    def __len__(self) -> int:
        return len(self._labelled)

    def batch(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """The labelled examples at these positions, and others that follow from the order."""
        stream = zlib.crc32(order.astype("<i8").tobytes())
        draws = random_words(self._seed, stream, np.arange(order.size))
        *inputs, labels = self._labelled.batch(order)
        *more, _ = self._others.batch((draws % np.uint64(len(self._others))).astype(np.int64))
        return (*(torch.cat(both) for both in zip(inputs, more, strict=True)), labels)

    def chunks(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """The labelled examples alone."""
        return self._labelled.chunks(batch_size)


def _perceptrons(place: Place, data: str, seed: int) -> _Pairing:
    """The table's trainer, and one hidden layer of 32 under its last one."""
    known = taught(place, data, seed)
    layers = list(known.trainer.named_children())
    last = [name for name, layer in layers if isinstance(layer, nn.ReLU)][-1]
    features = known.splits.test.inputs[known.splits.input_of("pixels")].shape[1]
    return _Pairing(
        name="784-32-10 under 784-1000-1000-1000-10",
        recipe=_OF_PERCEPTRONS,
        labels=MENTEE_LABELS,
        mentor=known.trainer,
        mentee=lambda: feed_forward(features, known.splits.classes, hidden=(32,)),
        layers=(LayerMap(mentee="1", mentor=last),),
        soft_targets=known.soft_targets,
    )


def _convolutions(place: Place, splits: Splits, seed: int) -> _Pairing:
    """A VGG-16-like mentor, trained here, and the small mentee."""
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
        recipe=_OF_CONVOLUTIONS,
        labels=CONVOLUTION_LABELS,
        mentor=mentor,
        mentee=lambda: small_mentee(splits.classes),
        layers=tuple(LayerMap(mentee=name, mentor=name) for name in ("block1", "block2")),
        soft_targets=logits_of(mentor, splits),
    )
