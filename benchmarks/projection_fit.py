"""Training in the projection benchmark: many students beside one trainer, and what they are worth.

The learning rate falls to 0 by a cosine; every network has its own. Batches are a function of (seed,
step), and a run that is killed goes on from its checkpoint.

Invariant: networks of equal shape begin with equal weights for equal seeds, and with the distillation
detached each learns what it would learn alone; so two of them in one run are a pair.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits, narrowed
from benchmarks.projection_place import Pace, Place
from benchmarks.projection_recipes import StudentRecipe, digest
from projection_nets import JointTraining, NetOnBits, Student, Teacher
from projection_nets.data.batches import minibatches
from projection_nets.data.examples import Labelled, LabelledExamples
from projection_nets.eager import EagerStep
from projection_nets.joint_step import JointStep
from projection_nets.metrics import evaluate_networks

Row = dict[str, Any]

TRAINER = "trainer"
_TRAINER_RATE = 1e-3
_CHECKPOINT_EVERY = 500


def fit(
    place: Place,
    joint: nn.Module,
    examples: Labelled[tuple[Tensor, ...]],
    *,
    label: str,
    steps: int,
    seed: int,
    batch_size: int,
    loss: Callable[[Any, Any], Any] | None = None,
    rates: Mapping[str, float] | None = None,
    checkpoint: Path | None = None,
    on_step: Callable[[int], None] | None = None,
) -> None:
    """Trains in place. `rates`: a learning rate by the name of a network in `joint.nets`.

    `loss`: joint.loss where left out; `on_step` is told the number of steps done. Where `checkpoint`
    is left out it is in the part's states, by `label`, which is different for every training there.
    """
    if checkpoint is None and place.states is not None:
        place.states.mkdir(parents=True, exist_ok=True)
        checkpoint = place.states / f"{digest(label, steps)}.pt"
    groups = _groups(joint, rates or {})
    optimizer = torch.optim.Adam(groups)
    first_rates = [float(group["lr"]) for group in groups]
    loss_function = loss if loss is not None else joint.loss
    torch.manual_seed(seed)  # of dropout
    batch_size = min(batch_size, len(examples))
    pace = Pace(place, label, steps)
    with EagerStep(
        joint,
        loss_function,  # type: ignore[arg-type]
        optimizer,
        checkpoint_path=checkpoint,
        checkpoint_every=None if checkpoint is None else _CHECKPOINT_EVERY,
    ) as step:
        first = step.resume().steps if checkpoint is not None else 0
        batches = minibatches(
            examples, seed=seed, steps=max(steps - first, 0), batch_size=batch_size,
            first_step=first,
        )  # fmt: skip
        for number, batch in enumerate(batches, start=first + 1):
            falling = (1 + math.cos(math.pi * (number - 1) / steps)) / 2
            for group, rate in zip(optimizer.param_groups, first_rates, strict=True):
                group["lr"] = rate * falling
            value = step(*batch)
            pace.step(number, value.item() if pace.due() else None)
            if on_step is not None:
                on_step(number)
        if checkpoint is not None and step.steps > first:
            step.checkpoint()


def _groups(joint: nn.Module, rates: Mapping[str, float]) -> list[dict[str, Any]]:
    """Parameters by their learning rate; `rates[""]` is that of a module of one network."""
    if isinstance(joint, JointTraining):
        nets = joint.nets.items()
        groups = [(net.parameters(), rates.get(name, _TRAINER_RATE)) for name, net in nets]
    else:
        groups = [(joint.parameters(), rates.get("", _TRAINER_RATE))]
    made = [
        {"params": [part for part in learned if part.requires_grad], "lr": rate}
        for learned, rate in groups
    ]
    return [group for group in made if group["params"]]


def student_net(splits: Splits, recipe: StudentRecipe, seed: int) -> NetOnBits:
    """The network of a recipe on the splits' bits, with the weights that its shape begins with."""
    torch.manual_seed(zlib.crc32(f"{seed} {recipe.shape}".encode()))
    features = recipe.features or next(iter(splits.specs))
    projection = narrowed(
        splits.specs[features], recipe.functions, recipe.bits, recipe.values, recipe.dropout
    )
    return NetOnBits(projection, splits.classes, hidden=recipe.hidden or None, lookup=recipe.lookup)


def students(
    splits: Splits,
    recipes: Iterable[StudentRecipe],
    seed: int,
    *,
    teacher: bool = True,
    detach: bool = True,
) -> dict[str, Student]:
    """Students by name; without a `teacher` only those that learn from labels are of use."""
    return {
        key(recipe.name): Student(
            net=student_net(splits, recipe, seed),
            input=splits.input_of(recipe.features or next(iter(splits.specs))),
            label_weight=recipe.label_weight,
            distillation_weight=recipe.distillation_weight if teacher else 0.0,
            temperature=recipe.temperature,
            detach_teacher=detach,
        )
        for recipe in recipes
    }


def rates_of(recipes: Iterable[StudentRecipe]) -> dict[str, float]:
    """Learning rates by the name of a network."""
    return {key(recipe.name): recipe.rate for recipe in recipes}


def recorded_teacher(splits: Splits) -> dict[str, Teacher]:
    """A trainer that is present as its logits alone, the input "soft targets" of a batch."""
    net = nn.Identity()
    return {TRAINER: Teacher(net=net, input=splits.input_of("soft targets"), frozen=True)}


def key(name: str) -> str:
    """A name as PyTorch allows it for a part of a module."""
    return name.replace(".", "_")


def parameters_of(net: nn.Module) -> int:
    """Numbers that it learns."""
    return sum(parameter.numel() for parameter in net.parameters())


def rows_of(
    joint: JointTraining, splits: Splits, names: Sequence[str], *, with_inputs: bool = False
) -> list[Row]:
    """P@k of the named networks on validation and test.

    `with_inputs`: the trainer is evaluated too; a recorded one has no logits for these parts.
    """
    measured = joint if with_inputs else _without_trainers(joint)
    validation = evaluate_networks(measured, splits.validation)
    test = evaluate_networks(measured, splits.test)
    return [
        {
            "row": name,
            "parameters": parameters_of(joint.nets[key(name)]),
            "validation": percents(validation[key(name)]),
            "test": percents(test[key(name)]),
        }
        for name in names
    ]


def percents(shares: Mapping[int, float]) -> dict[str, float]:
    """P@k in percent, as JSON has it."""
    return {str(k): round(100 * share, 4) for k, share in shares.items()}


def _without_trainers(joint: JointTraining) -> JointTraining:
    alone = {
        name: Student(net=student.net, input=student.input, distillation_weight=0.0)
        for name, student in joint.students.items()
    }
    return JointTraining(students=alone)


def row_of(step: JointStep, name: str, splits: Splits) -> Row:
    """P@k of one network of any joint step."""

    def shares(part: LabelledExamples) -> dict[str, float]:
        return percents(evaluate_networks(step, part)[name])

    return {"validation": shares(splits.validation), "test": shares(splits.test)}
