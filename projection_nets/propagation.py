"""Labels flow along the graph from the few examples that have one to all others.

    F <- pull * (mean of F over the neighbours, both ways, by weight) + (1 - pull) * labels

repeated `rounds` times (Zhou et al. 2004, with weights that sum to 1 an example); then each class is
scaled to its share among the labelled (class mass normalisation, Zhu et al. 2003), and each example's
row to 1. The result is a teacher that needs no network: give its logarithm to a student as soft
targets, `Teacher(net=nn.Identity(), input=1, frozen=True)`.

A neighbour counts by (2 w - 1)^sharpness, so a stranger (w = 1/2, a right angle) counts for nothing.
Invariant: rows sum to 1; one that no label reaches has the classes' shares.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.neighbours import Neighbours
from projection_nets.projection_graph import Numbers, Weights

_LEAST = 1e-12  # below it no label has come


def propagated_labels(
    near: Neighbours,
    labels: Numbers,
    labelled: Numbers,
    *,
    classes: int,
    rounds: int = 30,
    pull: float = 0.95,
    sharpness: float = 8.0,
) -> Weights:
    """(examples, classes) probabilities from the labels at the positions `labelled` alone.

    Raises UsageError (`graph_options_invalid`).
    """
    _check(near, labels, labelled, classes, rounds, pull)
    count = len(near.index)
    known = np.zeros((count, classes))
    known[labelled, labels[labelled]] = 1
    strength = np.clip(2 * near.weight.astype(np.float64) - 1, 0, 1) ** sharpness
    strength[near.weight == 0] = 0
    targets = near.index.reshape(-1)
    degree = strength.sum(axis=1) + np.bincount(targets, strength.reshape(-1), minlength=count)
    spread = known
    for _ in range(rounds):
        pulled = np.empty_like(spread)
        for of_class in range(classes):
            column = spread[:, of_class]
            outward = (strength * column[near.index]).sum(axis=1)
            # who has i for a neighbour pulls i too: the graph has no direction
            inward = np.bincount(targets, (strength * column[:, None]).reshape(-1), minlength=count)
            pulled[:, of_class] = outward + inward
        spread = pull * pulled / np.maximum(degree, _LEAST)[:, None] + (1 - pull) * known
    shares = known.sum(axis=0) / len(labelled)
    masses = spread * (shares / np.maximum(spread.sum(axis=0), _LEAST))
    sums = masses.sum(axis=1, keepdims=True)
    reached = sums > _LEAST / count
    rows: Weights = np.where(reached, masses / np.where(reached, sums, 1), shares).astype(
        np.float32
    )
    return rows


def _check(
    near: Neighbours, labels: npt.NDArray[np.integer], labelled: Numbers, classes: int,
    rounds: int, pull: float,
) -> None:  # fmt: skip
    wrong = None
    if len(labels) != len(near.index):
        wrong = f"a label place for each of {len(near.index)} examples, got {len(labels)}"
    elif not len(labelled) or not 0 <= labelled.min() <= labelled.max() < len(labels):
        wrong = f"labelled positions of 0..{len(labels) - 1}"
    elif not 0 <= labels[labelled].min() <= labels[labelled].max() < classes:
        wrong = f"labels of 0..{classes - 1}"
    elif rounds < 1 or not 0 < pull < 1:
        wrong = f"at least one round and a pull between 0 and 1, got {rounds} and {pull}"
    if wrong:
        raise UsageError(
            f"Expected {wrong}.",
            code="graph_options_invalid",
            hint="Build the neighbours from the same examples.",
        )
