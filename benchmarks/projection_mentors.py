"""Mentor-mentee in the projection benchmark: a small network alone and under a mentor.

    784-32-10 under the trainer of the table, a small convolutional mentee under a VGG-16-like mentor;
    with 1,000 labelled images and with all; by soft targets, and by soft targets and layers

Invariant: "alone" and the rows beside it begin with equal weights, see equal batches, and differ in
the mentor's terms alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_fit import Row, fit, parameters_of, row_of
from benchmarks.projection_place import Place
from benchmarks.projection_taught import taught
from projection_nets import JointTraining, Student, Teacher
from projection_nets.adapters import LayerMap
from projection_nets.hashing import permutation
from projection_nets.joint_step import JointStep
from projection_nets.mentoring import MENTEE, Mentoring
from projection_nets.trainers import feed_forward
from projection_nets.training import IMAGE_BATCH
from projection_nets.vgg import small_mentee, vgg16_like

MENTEE_LABELS = (1000, 0)
"""Labelled images that the mentee has; 0: all. The mentor had all."""

_MENTOR_SHARE, _MENTEE_SHARE = 0.2, 0.1
_CHOICE = 2**34  # apart from the other streams of permutations


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pairing:
    """A mentor, how to make its mentee, and which layers are held against each other."""

    name: str
    mentor: nn.Module
    mentee: Callable[[], nn.Module]
    layers: tuple[tuple[str, str], ...]


def mentee_rows(place: Place, data: str, seed: int) -> list[Row]:
    """For each pairing and number of labels: alone, with soft targets, with layers too."""
    splits = image_splits(place, data, seed)
    rows: list[Row] = []
    for pairing in (_perceptrons(place, data, seed), _convolutions(place, splits, seed)):
        maps = [LayerMap(mentee=mentee, mentor=mentor) for mentee, mentor in pairing.layers]
        images = len(splits.train)
        for count in dict.fromkeys(min(labels or images, images) for labels in MENTEE_LABELS):
            order = permutation(len(splits.train), seed, _CHOICE)[:count]
            some = splits.some(torch.from_numpy(order))
            variants: dict[str, list[LayerMap] | None] = {
                "alone": None,
                "soft targets": [],
                "soft targets and layers": maps,
            }
            for name, chosen in variants.items():
                label = f"mentee {data} seed {seed}, {pairing.name}, {count} labels, {name}"
                row = _mentee_row(place, some, pairing, chosen, seed, label)
                rows.append({"network": pairing.name, "labels": count, "row": name, **row})
    return rows


def _mentee_row(
    place: Place,
    splits: Splits,
    pairing: _Pairing,
    maps: Sequence[LayerMap] | None,
    seed: int,
    label: str,
) -> Row:
    torch.manual_seed(seed)
    net = pairing.mentee()
    pixels = splits.input_of("pixels")
    step: JointStep
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
            maps=maps,
        )
    fit(
        place, step, splits.train, label=label, steps=place.share(_MENTEE_SHARE), seed=seed,
        batch_size=IMAGE_BATCH,
    )  # fmt: skip
    return {"parameters": parameters_of(net), **row_of(step, MENTEE, splits)}


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
