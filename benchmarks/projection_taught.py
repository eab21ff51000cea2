"""The joint training that everything on images begins with: one trainer, every network beside it.

The trainer's logits on the training images are recorded, so that what studies the joint loss further
(weights, temperatures, neural bits) trains small networks only.

Invariant: what is stored under a name was trained by exactly these recipes, steps and seed.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits, image_splits
from benchmarks.projection_fit import (
    TRAINER,
    Row,
    fit,
    key,
    rates_of,
    rows_of,
    student_net,
    students,
)
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import StudentRecipe, digest, table_of
from projection_nets import JointTraining, NetOnBits, Teacher, trainers
from projection_nets.replacing import replace_file
from projection_nets.training import IMAGE_BATCH

# Of the trainer's hidden layers: the paper says nothing of its regularisation; without any, 98.6 is
# out of reach at this number of steps.
DROPOUT = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Taught:
    """What the joint training left: rows, the trainer, its soft targets, the students' weights."""

    splits: Splits
    rows: list[Row]
    trainer: nn.Module
    soft_targets: Tensor
    student_states: dict[str, Any]

    def with_soft_targets(self) -> Splits:
        """The splits with the trainer's logits as an input of the training examples."""
        return self.splits.with_input("soft targets", self.soft_targets)

    def student(self, recipe: StudentRecipe, seed: int) -> NetOnBits:
        """A trained student."""
        net = student_net(self.splits, recipe, seed)
        net.load_state_dict(self.student_states[recipe.name])
        return net


def taught(place: Place, data: str, seed: int) -> Taught:
    """The networks of the table, from disk where they have been trained before."""
    splits = image_splits(place, data, seed)
    net = image_trainer(place, splits, seed)
    name = f"{data}-{seed}-{recipe_digest(place, data)}"
    path = place.folder / f"taught-{name}.pt"
    if not path.exists():
        _train(place, splits, net, seed, path, place.folder / f"state-{name}.pt")
    found = torch.load(path, weights_only=True)
    net.load_state_dict(found["trainer"])
    return Taught(
        splits=splits, rows=found["rows"], trainer=net, soft_targets=found["soft targets"],
        student_states=found["students"],
    )  # fmt: skip


def recipe_digest(place: Place, data: str) -> str:
    """Of everything that decides the joint training but data and seed."""
    recipes = table_of(data)
    return digest(*recipes, place.steps, place.small, place.trainer_hidden, DROPOUT)


def image_trainer(place: Place, splits: Splits, seed: int) -> nn.Sequential:
    """784-1000-1000-1000-10, with dropout in training."""
    torch.manual_seed(seed)
    pixels = splits.test.inputs[splits.input_of("pixels")].shape[1]
    return trainers.feed_forward(
        pixels, splits.classes, hidden=place.trainer_hidden, dropout=DROPOUT
    )


def image_teacher(splits: Splits, net: nn.Module) -> Teacher:
    """A trainer on pixels."""
    return Teacher(net=net, input=splits.input_of("pixels"), divisor=255.0)


def logits_of(net: nn.Module, splits: Splits) -> Tensor:
    """Of a trainer on pixels, for the training images, float32."""
    net.eval()
    pixels = splits.train.inputs[splits.input_of("pixels")]
    with torch.no_grad():
        return torch.cat([net(part / 255.0) for part in torch.split(pixels, 1000)])


def _train(
    place: Place, splits: Splits, net: nn.Module, seed: int, path: Path, checkpoint: Path
) -> None:
    recipes = table_of(splits.name)
    joint = JointTraining(
        trainers={TRAINER: image_teacher(splits, net)}, students=students(splits, recipes, seed)
    )
    fit(
        place, joint, splits.train, label=f"table {splits.name} seed {seed}", steps=place.steps,
        seed=seed, batch_size=IMAGE_BATCH, rates=rates_of(recipes), checkpoint=checkpoint,
    )  # fmt: skip
    names = [TRAINER, *(recipe.name for recipe in recipes)]
    content = BytesIO()
    torch.save(
        {
            "rows": rows_of(joint, splits, names, with_inputs=True),
            "trainer": net.state_dict(),
            "soft targets": logits_of(net, splits),
            "students": {r.name: joint.nets[key(r.name)].state_dict() for r in recipes},
        },
        content,
    )
    replace_file(path, content.getvalue(), what="trained networks")
    checkpoint.unlink(missing_ok=True)
