"""A mentee learns from labels, from its mentor's soft targets, and from the mentor's inner layers.

    L = label_weight * H(mentee, y) + distillation_weight * H(mentee, softmax(mentor)), at a temperature
      + sum over the mapped layers of weight * RMSE(mentee's layer, mentor's layer)

The mentor is frozen. It is here, as a Teacher, or elsewhere: then a Recording has what it would say
of each example (`recording`), and batches carry that: (inputs ..., mentor's logits, targets ...,
labels), as `recorded.RecordedExamples` gives them.

Invariant: which terms exist is decided at construction, never by data, so that the step traces to
one fixed graph; no gradient reaches the mentor. Adapters learn with the mentee and stay behind: the
mentee is a plain network before, during and after.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import reduce

import torch
from torch import Tensor, nn

from poet_core.errors import DataError, UsageError
from projection_nets.adapters import LayerMap, MenteeSide, TargetSide
from projection_nets.joint_step import JointStep
from projection_nets.joint_training import JointTraining, Student, Teacher, input_of
from projection_nets.losses import distillation, label_loss, rmse
from projection_nets.recording import LOGITS, Recording
from projection_nets.representations import run_observed, shapes_observed

MENTOR, MENTEE = "mentor", "mentee"


class Mentoring(JointStep):
    """A mentee under a mentor: `step.loss(step(*inputs), target)`.

    `example`: the inputs of a batch, of any number of rows, for the shapes of the layers. Of the
    Student `teachers` and `detach_teacher` mean nothing here, of the Teacher `weight` and `l2`.
    Train what `trained()` gives: the mentor's parameters get no gradient.

    Raises UsageError (`mentoring_invalid`, `map_invalid`, `layer_unknown`, `layer_unusable`) and
    DataError (`recording_differs`) for a recording of other layers.
    """

    def __init__(
        self,
        *,
        mentee: Student,
        mentor: Teacher | Recording,
        example: Sequence[Tensor],
        maps: Sequence[LayerMap] = (),
    ) -> None:
        super().__init__()
        self.mentee = mentee
        self.mentor = mentor if isinstance(mentor, Teacher) else None
        self.maps = tuple(maps)
        self._input_count = len(example)
        _check_weights(mentee, self.maps)
        nets = {MENTEE: mentee.net}
        if self.mentor is not None:
            nets[MENTOR] = self.mentor.net
        self.nets = nn.ModuleDict(nets)
        mentee_shapes = self._shapes(mentee, example, [one.mentee for one in self.maps])
        self.target_sides = nn.ModuleList()
        if isinstance(mentor, Recording):
            target_shapes = _recorded_shapes(mentor, self.maps)
        else:
            mentor_shapes = self._shapes(mentor, example, [one.mentor for one in self.maps])
            sides = [
                TargetSide(one, mentor_shapes[one.mentor], mentee_shapes[one.mentee])
                for one in self.maps
            ]
            self.target_sides.extend(sides)
            target_shapes = [side.shape for side in sides]
        self.mentee_sides = nn.ModuleList(
            MenteeSide(one, mentee_shapes[one.mentee], shape)
            for one, shape in zip(self.maps, target_shapes, strict=True)
        )
        self.target_shapes = tuple(target_shapes)
        self.train()

    @property
    def networks(self) -> tuple[str, ...]:
        """The mentor where it is here, and the mentee."""
        return (MENTEE,) if self.mentor is None else (MENTOR, MENTEE)

    def trained(self) -> list[nn.Parameter]:
        """What an optimizer is to have: the mentee's parameters and the adapters'."""
        return [*self.nets[MENTEE].parameters(), *self.mentee_sides.parameters()]

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        own, recorded = inputs[: self._input_count], inputs[self._input_count :]
        if not self.training and not recorded:
            return self._answers(own)
        targets = recorded if self.mentor is None else self.targets(own)
        if len(targets) != 1 + len(self.maps) or (recorded and self.mentor is not None):
            raise UsageError(
                f"Expected a batch of {self._input_count} inputs"
                + ("" if self.mentor is not None else f" and {1 + len(self.maps)} recorded tensors")
                + f", got {len(inputs)} tensors.",
                code="mentoring_invalid",
                hint="RecordedExamples gives the batches of a recorded mentor.",
            )
        logits, layers = run_observed(
            self.nets[MENTEE], input_of(self.mentee, own), [one.mentee for one in self.maps]
        )
        outputs = {MENTEE: logits, MENTOR: targets[0]}
        for at, one in enumerate(self.maps):
            outputs[_of_mentee(at)] = self.mentee_sides[at](layers[one.mentee])
            outputs[_of_mentor(at)] = targets[1 + at]
        return outputs

    @torch.no_grad()
    def targets(self, inputs: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """What the mentor says of a batch: its logits, then the target of each mapped layer."""
        if self.mentor is None:
            raise UsageError(
                "Expected a mentor that is here, got a recorded one.",
                code="mentoring_invalid",
                hint="Its targets are in the recording.",
            )
        logits, layers = run_observed(
            self.nets[MENTOR], input_of(self.mentor, inputs), [one.mentor for one in self.maps]
        )
        sides = zip(self.maps, self.target_sides, strict=True)
        return (logits, *(side(layers[one.mentor]) for one, side in sides))

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """The sum of the parts, a scalar."""
        return reduce(torch.add, self.parts(outputs, target).values())

    def parts(self, outputs: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, weighted, by name."""
        mentee = self.mentee
        parts: dict[str, Tensor] = {}
        if mentee.label_weight:
            parts["labels"] = mentee.label_weight * label_loss(outputs[MENTEE], target)
        if mentee.distillation_weight:
            parts["soft targets"] = mentee.distillation_weight * distillation(
                outputs[MENTEE], outputs[MENTOR], temperature=mentee.temperature, detach=True
            )
        for at, one in enumerate(self.maps):
            parts[one.name] = one.weight * rmse(outputs[_of_mentee(at)], outputs[_of_mentor(at)])
        return parts

    def without_mentor(self) -> JointTraining:
        """The same mentee on labels alone, to go on with new data where no mentor is."""
        alone = Student(
            net=self.nets[MENTEE], input=self.mentee.input, divisor=self.mentee.divisor,
            label_weight=self.mentee.label_weight or 1.0, distillation_weight=0.0,
        )  # fmt: skip
        return JointTraining(students={MENTEE: alone})

    def train(self, mode: bool = True) -> Mentoring:
        """Training mode, except for the mentor."""
        super().train(mode)
        if self.mentor is not None:
            self.nets[MENTOR].eval()
        return self

    def _answers(self, inputs: Sequence[Tensor]) -> dict[str, Tensor]:
        outputs = {MENTEE: self.nets[MENTEE](input_of(self.mentee, inputs))}
        if self.mentor is not None:
            outputs[MENTOR] = self.nets[MENTOR](input_of(self.mentor, inputs))
        return outputs

    @staticmethod
    def _shapes(
        part: Teacher | Student, example: Sequence[Tensor], paths: list[str]
    ) -> dict[str, tuple[int, ...]]:
        first = [values[:1] for values in example]
        return shapes_observed(part.net, input_of(part, first), paths)


def _of_mentee(at: int) -> str:
    return f"{MENTEE} layer {at}"


def _of_mentor(at: int) -> str:
    return f"{MENTOR} layer {at}"


def _recorded_shapes(recording: Recording, maps: Sequence[LayerMap]) -> list[tuple[int, ...]]:
    expected, got = [LOGITS, *(one.name for one in maps)], [*recording.shapes]
    if expected != got:
        raise DataError(
            f"Expected a recording of {expected}, got one of {got}."[:600],
            code="recording_differs",
            hint="Record with the same maps, in the same order.",
        )
    return list(recording.shapes.values())[1:]


def _check_weights(mentee: Student, maps: Sequence[LayerMap]) -> None:
    weights = (mentee.label_weight, mentee.distillation_weight)
    scales = (mentee.temperature, mentee.divisor)
    wrong = None
    if not all(math.isfinite(weight) and weight >= 0 for weight in weights):
        wrong = f"finite weights >= 0, got {weights}"
    elif not all(math.isfinite(scale) and scale > 0 for scale in scales):
        wrong = f"a temperature and a divisor above 0, got {scales}"
    elif not any(weights) and not maps:
        wrong = "a mentee that learns from labels or from its mentor"
    elif len({one.name for one in maps}) != len(maps):
        wrong = "every pair of layers once"
    if wrong:
        raise UsageError(
            f"Expected {wrong}.", code="mentoring_invalid", hint="See Student and LayerMap."
        )
