"""The parts of the projection benchmark on images: each (part, data, seed) ends in rows of P@k.

table      trainer and every row of Table 1, the distillation detached; stretch rows; twins that
           learn from labels alone
coupled    [60,12] where the distillation moves the trainer too, as in the paper
search     weight, temperature and soft targets alone, beside a trainer trained before
few        trainers and students that have few labels
layers     bits of the trainer's layers in the place of the pixels'
bits       accuracy against T x d (Figure 2)
baselines  small ordinary networks, a linear model, chance, frequency
"""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import torch
from torch import nn

from benchmarks.projection_data import Splits, image_splits, with_shifted_images
from benchmarks.projection_fit import (
    TRAINER,
    Row,
    fit,
    key,
    rates_of,
    recorded_teacher,
    rows_of,
    students,
)
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import (
    FEW_LABELS,
    FEW_SIZES,
    LOOKUPS,
    NEURAL_BITS,
    PAPER_TABLE,
    SHIFTED,
    SHIFTED_LOOKUPS,
    STRETCH,
    StudentRecipe,
    labels_alone,
    of_size,
    search,
)
from benchmarks.projection_taught import (
    Taught,
    image_teacher,
    image_trainer,
    logits_of,
    taught,
)
from projection_nets import JointTraining, LshProjection, NetOnBits, Student
from projection_nets.baselines import MostFrequent, RandomClasses, linear_model, smaller_net
from projection_nets.data.examples import LabelledExamples
from projection_nets.hashing import permutation
from projection_nets.model_file import model_bytes
from projection_nets.packing import pack
from projection_nets.quantize import quantized
from projection_nets.stored import stored
from projection_nets.training import IMAGE_BATCH

# Few labels need few steps, and a trainer on all of them would learn them by heart.
_FEW_SHARE = 0.3
_EVERY_SHARE = 0.5
# A table learns its rows by heart sooner than layers do, and its steps are the dear ones.
_LOOKUP_SHARE = 0.4
_CHOICE = 2**33  # apart from the streams of epochs and splits


def table_rows(place: Place, data: str, seed: int) -> list[Row]:
    """The joint run."""
    return taught(place, data, seed).rows


def stretch_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Other values, soft targets, lookup tables, more images; with the bytes of the files."""
    known = taught(place, data, seed)
    label = f"stretch {data} seed {seed}"
    shifted = with_shifted_images(place, known.splits)
    shifted = shifted.with_input("soft targets", logits_of(known.trainer, shifted))
    rows: list[Row] = []
    for splits, plain, lookups, name in (
        (known.with_soft_targets(), STRETCH, LOOKUPS, label),
        (shifted, SHIFTED, SHIFTED_LOOKUPS, f"{label}, shifted"),
    ):
        rows += _recorded_on(place, splits, list(plain), seed, name, bytes_too=True)
        rows += _recorded_on(
            place, splits, list(lookups), seed, f"{name}, lookup",
            share=_LOOKUP_SHARE, bytes_too=True,
        )  # fmt: skip
    return rows


def coupled_rows(place: Place, data: str, seed: int) -> list[Row]:
    """[60,12] and its trainer, the distillation's gradient in both."""
    splits = image_splits(place, data, seed)
    recipe = of_size("60,12")
    joint = JointTraining(
        trainers={TRAINER: image_teacher(splits, image_trainer(place, splits, seed))},
        students=students(splits, [recipe], seed, detach=False),
    )
    fit(
        place, joint, splits.train, label=f"coupled {data} seed {seed}", steps=place.steps,
        seed=seed, batch_size=IMAGE_BATCH, rates=rates_of([recipe]),
    )  # fmt: skip
    return rows_of(joint, splits, [TRAINER, recipe.name], with_inputs=True)


def search_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Settings of the joint loss beside a recorded trainer."""
    return _recorded(place, taught(place, data, seed), search(), seed, f"search {data} seed {seed}")


def bits_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Sizes of projections; each row carries its neural bits and its accuracy over the trainer's."""
    known = taught(place, data, seed)
    recipes = [of_size(f"{functions},{bits}") for functions, bits in NEURAL_BITS]
    trainer = next(row for row in known.rows if row["row"] == TRAINER)["test"]["1"]
    rows = _recorded(place, known, recipes, seed, f"bits {data} seed {seed}")
    for row, recipe in zip(rows, recipes, strict=True):
        row["neural_bits"] = recipe.functions * recipe.bits
        row["ratio"] = round(row["test"]["1"] / trainer, 6)
    return rows


def layers_rows(place: Place, data: str, seed: int) -> list[Row]:
    """[60,12] on what the trainer's first and last hidden layer say of an image.

    The layers are needed on the device too, so these rows are about the joint loss, not about size.
    """
    known = taught(place, data, seed)
    recipe = of_size("60,12")
    activations = [n for n, layer in enumerate(known.trainer.children()) if isinstance(layer, nn.ReLU)]  # fmt: skip
    rows: list[Row] = []
    for name, end in (("first", activations[0]), ("last", activations[-1])):
        splits = _over_layers(known, nn.Sequential(*list(known.trainer.children())[: end + 1]))
        pair = [recipe, labels_alone(recipe)]
        found = _recorded_on(place, splits, pair, seed, f"layers {data} seed {seed}, {name}")
        rows += [{**row, "row": f"{row['row']} over the {name} layer"} for row in found]
    return rows


def few_rows(place: Place, data: str, seed: int) -> list[Row]:
    """The same networks when labels are few: each row is (labels, network)."""
    known = taught(place, data, seed)
    rows: list[Row] = []
    images = len(known.splits.train)
    for count in dict.fromkeys(min(count, images) for count in FEW_LABELS):
        label = f"few {data} seed {seed}, {count} labels"
        chosen = torch.from_numpy(permutation(len(known.splits.train), seed, _CHOICE)[:count])
        some = known.splits.some(chosen)
        net = image_trainer(place, some, seed)
        alone = JointTraining(trainers={TRAINER: image_teacher(some, net)}, students={})
        steps = place.share(_FEW_SHARE)
        fit(
            place, alone, some.train, label=f"{label}, trainer", steps=steps, seed=seed,
            batch_size=IMAGE_BATCH,
        )  # fmt: skip
        rows += [
            _of_labels(row, count) for row in rows_of(alone, some, [TRAINER], with_inputs=True)
        ]
        soft = logits_of(net, known.splits)
        pairs = [r for size in FEW_SIZES for r in (of_size(size), labels_alone(of_size(size)))]
        labelled = some.with_input("soft targets", soft[chosen])
        found = _recorded_on(place, labelled, pairs, seed, label, share=_FEW_SHARE)
        unlabelled = [
            of_size(size, name=f"{size} soft targets on all images", label_weight=0.0,
                    distillation_weight=1.0, temperature=2.0)
            for size in FEW_SIZES
        ]  # fmt: skip
        every = known.splits.with_input("soft targets", soft)
        found += _recorded_on(
            place, every, unlabelled, seed, f"{label}, all images", share=_EVERY_SHARE
        )
        rows += [_of_labels(row, count) for row in found]
    return rows


def _of_labels(row: Row, count: int) -> Row:
    return {**row, "labels": count}


def baselines_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Networks of as many parameters without a projection, and answers that look at nothing."""
    splits = image_splits(place, data, seed)
    pixels = splits.input_of("pixels")
    features = splits.test.inputs[pixels].shape[1]
    nets: dict[str, nn.Module] = {}
    for size, row in PAPER_TABLE.items():
        torch.manual_seed(seed)
        nets[f"small net for {size}"] = smaller_net(
            features, splits.classes, parameters=row.parameters
        )
    nets["linear model"] = linear_model(features, splits.classes)
    return fitted_baselines(place, splits, nets, seed, f"baselines {data} seed {seed}", pixels)


def fitted_baselines(
    place: Place, splits: Splits, nets: dict[str, nn.Module], seed: int, label: str, of_input: int,
    *, steps: int | None = None, batch_size: int = IMAGE_BATCH, scaled: bool = True, rate: float = 1e-3,
) -> list[Row]:  # fmt: skip
    """The nets trained on labels, then those that need no training."""
    joint = JointTraining(
        students={
            name: Student(
                net=nn.Sequential(_Scaled(), net) if scaled else net,
                input=of_input,
                distillation_weight=0.0,
            )
            for name, net in nets.items()
        }
    )
    fit(
        place, joint, splits.train, label=label, steps=steps or place.steps, seed=seed,
        batch_size=batch_size, rates=dict.fromkeys(nets, rate),
    )  # fmt: skip
    fixed = JointTraining(
        students={
            "random": Student(net=RandomClasses(splits.classes, seed=seed), input=of_input),
            "most frequent": Student(net=MostFrequent(splits.train.labels, splits.classes), input=of_input),
        }
    )  # fmt: skip
    return rows_of(joint, splits, list(nets)) + rows_of(fixed, splits, list(fixed.students))


class _Scaled(nn.Module):
    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels / 255.0


def _recorded(
    place: Place, known: Taught, recipes: list[StudentRecipe] | tuple[StudentRecipe, ...],
    seed: int, label: str,
) -> list[Row]:  # fmt: skip
    return _recorded_on(place, known.with_soft_targets(), list(recipes), seed, label)


def _recorded_on(
    place: Place, splits: Splits, recipes: list[StudentRecipe], seed: int, label: str,
    *, share: float = 1.0, bytes_too: bool = False,
) -> list[Row]:  # fmt: skip
    """Students beside a trainer that is recorded."""
    joint = JointTraining(
        trainers=recorded_teacher(splits), students=students(splits, recipes, seed)
    )
    fit(
        place, joint, splits.train, label=label, steps=place.share(share), seed=seed,
        batch_size=IMAGE_BATCH, rates=rates_of(recipes),
    )  # fmt: skip
    rows = rows_of(joint, splits, [recipe.name for recipe in recipes])
    for row in rows if bytes_too else ():
        plain = stored(cast(NetOnBits, joint.nets[key(row["row"])]))
        row["bytes"] = len(model_bytes(plain))
        row["int8_bytes"] = len(model_bytes(quantized(plain, 8)))
    return rows


def _over_layers(known: Taught, layers: nn.Module) -> Splits:
    """The splits with the bits of these layers' outputs in the place of the pixels' bits."""
    layers.eval()
    splits = known.with_soft_targets()
    spec = splits.specs["bits"]
    pixels = splits.input_of("pixels")
    with torch.no_grad():
        width = layers(splits.test.inputs[pixels][:1] / 255.0).shape[1]
        projection = LshProjection(width, functions=spec.functions, bits=spec.bits, seed=spec.seed)

    def projected(part: LabelledExamples) -> LabelledExamples:
        with torch.no_grad():
            chunks = [
                pack(projection(layers(chunk / 255.0)).numpy() > 0)
                for chunk in torch.split(part.inputs[pixels], 1000)
            ]
        inputs = list(part.inputs)
        inputs[splits.input_of("bits")] = torch.cat([torch.from_numpy(chunk) for chunk in chunks])
        return LabelledExamples(inputs=tuple(inputs), labels=part.labels)

    return replace(
        splits, specs={"bits": projection.spec}, train=projected(splits.train),
        validation=projected(splits.validation), test=projected(splits.test),
    )  # fmt: skip
