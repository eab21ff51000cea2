"""Training over a projection graph (Ravi 2017, Figure 3): neighbours are to be answered alike.

    L = the loss of a joint step, its label terms over the labelled rows of the batch
      + sum over the named networks of weight * mean over (i, neighbour j) of w_ij * D(net(i), net(j))

    D   squared   |softmax(i) - softmax(j)|^2, both sides move
        cross     H(i, softmax(j)): j teaches i, and an answer is drawn towards one class

A batch is (inputs of R rows ..., inputs of their neighbours (R, k, ...) ..., w (R, k), labels): the
labels are of the first rows, fewer than R where most examples have none (semi-supervised); the
distillation of the joint step is over all rows. Invariant: shapes and terms never depend on data, so
the step traces to one fixed graph; a batch is a function of (seed, order).
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from functools import reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poet_core.errors import UsageError
from projection_nets.data.examples import Labelled
from projection_nets.hashing import permutation, random_words
from projection_nets.joint_step import JointStep
from projection_nets.joint_training import PENALTY, JointTraining, Student, Teacher
from projection_nets.losses import cross_disagreement, squared_disagreement
from projection_nets.neighbours import Neighbours

_DISTANCES = {"squared": squared_disagreement, "cross": cross_disagreement}
_WEIGHTS = "weights"


class GraphTraining(JointStep):
    """A joint step whose networks `weights` names are also held to their neighbours.

    Raises UsageError (`graph_training_invalid`).
    """

    def __init__(
        self, joint: JointTraining, *, weights: Mapping[str, float], distance: str = "squared"
    ) -> None:
        super().__init__()
        self.joint = joint
        self.weights = dict(weights)
        self.distance = distance
        parts: list[Teacher | Student] = [*joint.teachers.values(), *joint.students.values()]
        self._input_count = 1 + max(part.input for part in parts)
        wrong = None
        if not self.weights or not {*self.weights} <= {*joint.networks}:
            wrong = f"weights of the networks {joint.networks}, got {[*self.weights]}"
        elif not all(math.isfinite(weight) and weight > 0 for weight in self.weights.values()):
            wrong = f"finite weights above 0, got {self.weights}"
        elif distance not in _DISTANCES:
            wrong = f"a distance of {', '.join(_DISTANCES)}, got {distance!r:.40}"
        elif {_WEIGHTS, *map(_of_neighbours, self.weights)} & {*joint.networks}:
            wrong = f"no network named {_WEIGHTS!r} or as another's neighbours"
        if wrong:
            raise UsageError(
                f"Expected {wrong}.",
                code="graph_training_invalid",
                hint="Without a graph term, train the joint step itself.",
            )

    @property
    def networks(self) -> tuple[str, ...]:
        """Those of the joint step."""
        return self.joint.networks

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        count = self._input_count
        if len(inputs) == count:
            outputs: dict[str, Tensor] = self.joint(*inputs)
            return outputs
        if len(inputs) != 2 * count + 1:
            raise UsageError(
                f"Expected {count} inputs alone, or with as many of the neighbours and their "
                f"weights, got {len(inputs)} tensors.",
                code="graph_training_invalid",
                hint="GraphExamples gives the batches.",
            )
        rows, near, weights = inputs[:count], inputs[count:-1], inputs[-1]
        together = [
            torch.cat([own, others.flatten(0, 1)]) for own, others in zip(rows, near, strict=True)
        ]
        outputs = self.joint(*together)
        shape = weights.shape
        found = {_WEIGHTS: weights}
        if PENALTY in outputs:
            found[PENALTY] = outputs[PENALTY]
        for name in self.networks:
            found[name] = outputs[name][: shape[0]]
            if name in self.weights:
                found[_of_neighbours(name)] = outputs[name][shape[0] :].view(*shape, -1)
        return found

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """The sum of the parts, a scalar."""
        return reduce(torch.add, self.parts(outputs, target).values())

    def parts(self, outputs: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, weighted, by name."""
        parts = self.joint.parts(outputs, target)
        for name, weight in self.weights.items():
            apart = _DISTANCES[self.distance](outputs[name][:, None], outputs[_of_neighbours(name)])
            parts[f"{name} and neighbours"] = weight * (outputs[_WEIGHTS] * apart).mean()
        return parts


class GraphExamples:
    """A data set whose batches carry sampled neighbours.

    `labelled`: positions of the examples whose labels may be used, all of them if None. Then a
    batch begins with `labelled_rows` of these, in an order of its own, and goes on with examples of
    any kind, which is what `order` names; their labels are left out. `sampled`: neighbours a row.

    Raises UsageError (`graph_training_invalid`).
    """

    def __init__(
        self,
        examples: Labelled[tuple[Tensor, ...]],
        near: Neighbours,
        *,
        labelled: npt.NDArray[np.int64] | None = None,
        labelled_rows: int = 100,
        sampled: int = 2,
        seed: int = 0,
    ) -> None:
        wrong = None
        if len(examples) != len(near.index):
            wrong = f"the neighbours of {len(examples)} examples, got those of {len(near.index)}"
        elif sampled < 1:
            wrong = f"at least one neighbour a row, got {sampled}"
        elif labelled is not None and not 1 <= labelled_rows <= len(labelled):
            wrong = f"1..{len(labelled)} labelled rows a batch, got {labelled_rows}"
        elif labelled is not None and not 0 <= labelled.min() <= labelled.max() < len(examples):
            wrong = f"labelled positions of 0..{len(examples) - 1}, got {labelled.max()}"
        if wrong:
            raise UsageError(
                f"Expected {wrong}.",
                code="graph_training_invalid",
                hint="Build graph and neighbours from the same examples.",
            )
        self._examples, self._near = examples, near
        self._labelled, self._labelled_rows = labelled, labelled_rows
        self._sampled, self._seed = sampled, seed

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """The examples at these positions, after labelled ones where most have no label."""
        stream = zlib.crc32(order.astype("<i8").tobytes())
        rows, labels_of = order, len(order)
        if self._labelled is not None:
            first = permutation(len(self._labelled), self._seed, stream)[: self._labelled_rows]
            rows, labels_of = np.concatenate([self._labelled[first], order]), len(first)
        draws = random_words(self._seed, stream, np.arange(rows.size * self._sampled))
        columns = (draws % np.uint64(self._near.index.shape[1])).astype(np.int64)
        picked = (rows[:, None], columns.reshape(len(rows), self._sampled))
        *inputs, labels = self._examples.batch(rows)
        *others, _ = self._examples.batch(self._near.index[picked].reshape(-1))
        return (
            *inputs,
            *(values.view(len(rows), self._sampled, *values.shape[1:]) for values in others),
            torch.from_numpy(self._near.weight[picked]),
            labels[:labels_of],
        )

    def chunks(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """All examples in order with their neighbours; the last chunk can be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))


def _of_neighbours(name: str) -> str:
    return f"{name} neighbours"
