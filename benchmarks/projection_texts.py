"""Intents of the projection benchmark: an LSTM trainer, projection networks on hashed features.

Every variant (dropout of the trainer; features, values of bits, size and soft targets of the
network) is trained for every seed. Which one counts is chosen by P@1 on the validation part, in the
report; its test figures are then the result.
"""

from __future__ import annotations

import torch
from torch import nn

from benchmarks.projection_data import FEATURES, Splits, text_splits
from benchmarks.projection_fit import TRAINER, Row, fit, rates_of, rows_of, students
from benchmarks.projection_images import fitted_baselines
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import StudentRecipe, digest, labels_alone, of_size
from projection_nets import JointTraining, Teacher
from projection_nets.baselines import BagOfWords
from projection_nets.text_trainers import LstmTrainer
from projection_nets.training import TEXT_BATCH

TRAINER_DROPOUTS = (0.3, 0.5)
TRAINER_RATE = 2e-3

PAPER_SIZE, LARGER_SIZE = "60,12", "120,12"
"""[60,12] is the paper's; the larger one has twice the parameters, reported beside it."""


def text_recipes() -> list[StudentRecipe]:
    """The variants of the projection network; their twins of labels alone have the paper's size."""
    made: list[StudentRecipe] = []
    for features in FEATURES:
        for size in (PAPER_SIZE, LARGER_SIZE):
            for values in ("zero_one", "plus_minus_one"):
                told = f"{size} {values}, {features}"
                plain = of_size(size, name=told, features=features, values=values)
                soft = of_size(
                    size, name=f"{told}, weight 1, T=2", features=features, values=values,
                    distillation_weight=1.0, temperature=2.0,
                )  # fmt: skip
                made += [plain, soft]
                if size == PAPER_SIZE:
                    made.append(labels_alone(plain))
    return made


def text_digest() -> str:
    """Of everything that decides these rows but data, seed and steps."""
    return digest(*text_recipes(), TRAINER_DROPOUTS, TRAINER_RATE)


def intents_rows(place: Place, data: str, seed: int) -> list[Row]:
    """One joint run for each dropout of the trainer; a row says which."""
    splits = text_splits(place, data, seed)
    batch = min(TEXT_BATCH, len(splits.train))
    steps = place.text_epochs * (len(splits.train) // batch)
    rows: list[Row] = []
    for dropout in TRAINER_DROPOUTS:
        label = f"intents {data} seed {seed}, dropout {dropout}"
        found = _joint_rows(place, splits, seed, dropout, steps, label)
        rows += [{**row, "dropout": dropout} for row in found]
    tokens = splits.input_of("tokens")
    torch.manual_seed(seed)
    words: dict[str, nn.Module] = {"bag of words": BagOfWords(splits.vocabulary, splits.classes)}
    return rows + fitted_baselines(
        place, splits, words, seed, f"intents {data} seed {seed}, baselines", tokens, steps=steps,
        batch_size=TEXT_BATCH, scaled=False, rate=1e-2,
    )  # fmt: skip


def _joint_rows(
    place: Place, splits: Splits, seed: int, dropout: float, steps: int, label: str
) -> list[Row]:
    torch.manual_seed(seed)
    width = 8 if place.small else 100
    net = LstmTrainer(splits.vocabulary, splits.classes, width=width, dropout=dropout)
    recipes = text_recipes()
    joint = JointTraining(
        trainers={TRAINER: Teacher(net=net, input=splits.input_of("tokens"))},
        students=students(splits, recipes, seed),
    )
    fit(
        place, joint, splits.train, label=label, steps=steps, seed=seed, batch_size=TEXT_BATCH,
        rates={TRAINER: TRAINER_RATE, **rates_of(recipes)},
    )  # fmt: skip
    return rows_of(joint, splits, [TRAINER, *(r.name for r in recipes)], with_inputs=True)
