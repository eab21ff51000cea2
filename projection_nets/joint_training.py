"""Several trainers and several students in one step (Ravi 2017, Eq. 1-2, and multi-resolution).

    L = sum over trainers i   weight_i * H(trainer_i, y) + l2_i / 2 * |W_i|^2
      + sum over students j   label_weight_j * H(student_j, y)
                            + distillation_weight_j * mean over its trainers of H(student_j, softmax(trainer_i))

A batch is (inputs ..., target): each network names the input that it takes, so a trainer can read
tokens where a student reads packed bits. Invariant: which terms exist is decided at construction,
never by data, so that the step traces to one fixed graph. The penalty on the weights is part of
what `forward` returns: `loss` reads no parameter, which a traced step would hold for a constant.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError
from projection_nets.joint_step import JointStep
from projection_nets.losses import distillation, label_loss

PENALTY = "penalty"


@dataclass(frozen=True, slots=True, kw_only=True)
class Teacher:
    """A trainer in a joint step.

    `input` is the number of the batch's input that it takes, divided by `divisor` (255 for raw
    pixels). `weight` 0 leaves its own labels out; `l2` penalises its weights, biases excepted;
    `frozen`: it stays as it is, in evaluation mode, and only teaches.
    """

    net: nn.Module
    input: int = 0
    divisor: float = 1.0
    weight: float = 1.0
    l2: float = 0.0
    frozen: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Student:
    """A network that learns from labels and from trainers, by default from all of them.

    `input` and `divisor` are a Teacher's; a projection network takes raw inputs, undivided.
    `detach_teacher`: the distillation does not move the trainer; in the paper it does.
    """

    net: nn.Module
    input: int = 0
    divisor: float = 1.0
    teachers: tuple[str, ...] | None = None
    label_weight: float = 1.0
    distillation_weight: float = 0.1
    temperature: float = 1.0
    detach_teacher: bool = False


def input_of(part: Teacher | Student, inputs: Sequence[Tensor]) -> Tensor:
    """What a network takes of a batch."""
    values = inputs[part.input]
    return values if part.divisor == 1.0 else values / part.divisor


class JointTraining(JointStep):
    """All networks as one module: `joint.loss(joint(*inputs), target)`; outputs are logits by name.

    Raises UsageError (`joint_invalid`).
    """

    def __init__(
        self, *, trainers: Mapping[str, Teacher] | None = None, students: Mapping[str, Student]
    ) -> None:
        super().__init__()
        self.teachers = dict(trainers or {})
        self.students = dict(students)
        self._check()
        nets = {name: teacher.net for name, teacher in self.teachers.items()}
        nets |= {name: student.net for name, student in self.students.items()}
        self.nets = nn.ModuleDict(nets)
        self.train()

    @property
    def networks(self) -> tuple[str, ...]:
        """The trainers, then the students."""
        return (*self.teachers, *self.students)

    def forward(self, *inputs: Tensor) -> dict[str, Tensor]:
        outputs = {}
        for name, teacher in self.teachers.items():
            with torch.set_grad_enabled(torch.is_grad_enabled() and not teacher.frozen):
                outputs[name] = self.nets[name](input_of(teacher, inputs))
        for name, student in self.students.items():
            outputs[name] = self.nets[name](input_of(student, inputs))
        penalties = [self._penalty(name) for name in self.teachers if self.teachers[name].l2]
        if penalties:
            outputs[PENALTY] = reduce(torch.add, penalties)
        return outputs

    def loss(self, outputs: Mapping[str, Tensor], target: Tensor) -> Tensor:
        """The joint loss, a scalar."""
        return reduce(torch.add, self.parts(outputs, target).values())

    def parts(self, outputs: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        """The terms of the loss, weighted, by name.

        `target` may be shorter than the batch: its first rows are then the labelled ones.
        """
        parts: dict[str, Tensor] = {}
        for name, teacher in self.teachers.items():
            if teacher.weight and not teacher.frozen:
                parts[f"{name} labels"] = teacher.weight * label_loss(outputs[name], target)
        for name, student in self.students.items():
            if student.label_weight:
                labels = student.label_weight * label_loss(outputs[name], target)
                parts[f"{name} labels"] = labels
            for teacher_name in self._teachers_of(student):
                weight = student.distillation_weight / len(self._teachers_of(student))
                parts[f"{name} from {teacher_name}"] = weight * distillation(
                    outputs[name],
                    outputs[teacher_name],
                    temperature=student.temperature,
                    detach=student.detach_teacher,
                )
        if PENALTY in outputs:
            parts[PENALTY] = outputs[PENALTY]
        return parts

    def pretraining(self) -> JointTraining:
        """The trainers alone, the same modules: train this first, then `self`."""
        free = {name: part for name, part in self.teachers.items() if not part.frozen}
        return JointTraining(trainers=free, students={})

    def train(self, mode: bool = True) -> JointTraining:
        """Training mode, except for frozen trainers."""
        super().train(mode)
        for name, teacher in self.teachers.items():
            if teacher.frozen:
                self.nets[name].eval()
        return self

    def _penalty(self, name: str) -> Tensor:
        weights = [p for p in self.nets[name].parameters() if p.dim() > 1]
        squares = reduce(torch.add, [weight.square().sum() for weight in weights])
        return squares * (self.teachers[name].l2 / 2)

    def _teachers_of(self, student: Student) -> Sequence[str]:
        if not student.distillation_weight:
            return ()
        return tuple(self.teachers) if student.teachers is None else student.teachers

    def _check(self) -> None:
        both = {*self.teachers} & {*self.students}
        named = {name for student in self.students.values() for name in student.teachers or ()}
        numbers = [x for t in self.teachers.values() for x in (t.weight, t.l2)]
        numbers += [
            x for s in self.students.values() for x in (s.label_weight, s.distillation_weight)
        ]
        divisors = [t.divisor for t in self.teachers.values()]
        divisors += [x for s in self.students.values() for x in (s.temperature, s.divisor)]
        wrong = None
        if both or PENALTY in {*self.teachers, *self.students}:
            wrong = f"every network to have a name of its own, and none {PENALTY!r}, got {both}"
        elif named - {*self.teachers}:
            wrong = f"students of the trainers {[*self.teachers]}, got {sorted(named)}"
        elif not all(math.isfinite(x) and x >= 0 for x in numbers):
            wrong = f"finite weights >= 0, got {numbers}"
        elif not all(math.isfinite(x) and x > 0 for x in divisors):
            wrong = f"temperatures and divisors above 0, got {divisors}"
        elif any(not s.label_weight and not self._teachers_of(s) for s in self.students.values()):
            wrong = "every student to learn from labels or from a trainer"
        elif not self.students and not any(t.weight for t in self.teachers.values()):
            wrong = "something to train, got nothing"
        if wrong:
            raise UsageError(
                f"Expected {wrong}.",
                code="joint_invalid",
                hint="See Teacher and Student for what each field means.",
            )
