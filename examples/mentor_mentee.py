"""A small network learns under a large one, from labels, soft targets and inner layers; then goes on alone.

    python -m examples.mentor_mentee                                   # bundled digits, eager
    python -m examples.mentor_mentee --data mnist --images 2000 --ram 24MiB
    python -m examples.mentor_mentee --record mentor.rec               # the mentor stays elsewhere

The mentor, like VGG-16, learns from the whole training set. The mentee has only the first --images
of them, and learns twice from the same start: from labels alone, and with the mentor. With --record
it sees the mentor's answers in a file only. --new-steps lets it go on alone with the other images.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from examples.data_sets import IMAGES, data_root
from poet_core.errors import PoetError, UsageError
from projection_nets import JointTraining, Student, Teacher
from projection_nets.adapters import Adapter, LayerMap
from projection_nets.data import ImageSplits, Labelled, LabelledImages
from projection_nets.joint_step import JointStep
from projection_nets.mentoring import MENTEE, MENTOR, Mentoring
from projection_nets.metrics import evaluate_networks
from projection_nets.recorded import RecordedExamples, record
from projection_nets.recording import Recording
from projection_nets.training import Progress, train
from projection_nets.vgg import small_mentee, vgg16_like


def main(arguments: list[str] | None = None) -> int:
    """Train all, report; 0 when all of it worked."""
    options = _options(arguments)
    try:
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        _run(options)
    except PoetError as error:
        print(f"mentor_mentee: {error} [{error.code}]", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    splits = IMAGES[options.data](data_root(options.data))
    few, rest = _divided(splits.train, options.images)
    mentor = Teacher(net=vgg16_like(splits.classes, width=options.width), divisor=255.0)
    pretraining = JointTraining(trainers={MENTOR: mentor}, students={})
    _train(pretraining, pretraining.parameters(), splits.train, options.mentor_steps, options)
    _report("mentor", pretraining, MENTOR, splits)

    alone = Student(net=small_mentee(splits.classes), divisor=255.0, distillation_weight=0.0)
    taught = copy.deepcopy(alone.net)  # the same start
    without = JointTraining(students={MENTEE: alone})
    _train(without, without.parameters(), few, options.steps, options)
    _report("mentee, labels alone", without, MENTEE, splits)

    example = (few.batch(np.arange(1))[0],)
    step = Mentoring(
        mentee=_mentee(taught, options), mentor=mentor, example=example, maps=_maps(options)
    )
    if options.record is None:
        _train(step, step.trained(), few, options.steps, options)
    else:
        step = _train_from_file(step, few, example, options)
    _report("mentee, with its mentor", step, MENTEE, splits)
    if options.new_steps:
        if len(rest) < options.batch:
            raise UsageError(
                f"Expected a batch of images beyond the first {len(few)}, got {len(rest)}.",
                code="examples_missing",
                hint="Pass a smaller --images, or no --new-steps.",
            )
        further = step.without_mentor()
        _train(further, further.parameters(), rest, options.new_steps, options)
        _report("mentee, gone on alone", further, MENTEE, splits)


def _train_from_file(
    step: Mentoring, few: LabelledImages, example: tuple[Tensor, ...], options: argparse.Namespace
) -> Mentoring:
    """The mentor's answers go through a file, and the mentee sees that alone."""
    size = record(step, few, options.record, values=options.values)
    print(f"{options.record}: {size} bytes for {len(few)} images")
    with Recording(options.record) as recording:
        distant = Mentoring(
            mentee=step.mentee, mentor=recording, example=example, maps=_maps(options)
        )
        distant.mentee_sides.load_state_dict(step.mentee_sides.state_dict())
        source = RecordedExamples(few, recording)
        _train(distant, distant.trained(), source, options.steps, options)
    return distant


def _mentee(net: nn.Module, options: argparse.Namespace) -> Student:
    return Student(
        net=net,
        divisor=255.0,
        label_weight=options.label_weight,
        distillation_weight=options.soft_weight,
        temperature=options.temperature,
    )


def _maps(options: argparse.Namespace) -> tuple[LayerMap, ...]:
    if not options.layer_weight:
        return ()
    return (
        LayerMap(
            mentee="block2",
            mentor=options.layer,
            adapter=options.adapter,
            weight=options.layer_weight,
            seed=options.seed,
        ),
    )


def _train(
    step: JointStep,
    parameters: Iterable[nn.Parameter],
    examples: Labelled[tuple[Tensor, ...]],
    steps: int,
    options: argparse.Namespace,
) -> None:
    budget = {} if options.ram is None else {"ram": options.ram, "device": options.device}
    train(
        step,
        torch.optim.Adam(parameters, lr=options.learning_rate),
        examples,
        steps=steps,
        seed=options.seed,
        batch_size=min(options.batch, len(examples)),
        on_progress=None if options.quiet else _show,
        **budget,
    )


def _show(progress: Progress) -> None:
    line = f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}"
    end = "\r" if sys.stderr.isatty() and progress.step != progress.steps else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def _report(what: str, step: JointTraining | Mentoring, name: str, splits: ImageSplits) -> None:
    shares = evaluate_networks(step, splits.test)[name]
    size = sum(parameter.numel() for parameter in step.nets[name].parameters())
    scores = "  ".join(f"P@{k} {100 * share:.2f}%" for k, share in shares.items())
    print(f"{what:24} {size:>9} parameters  {scores}")


def _divided(images: LabelledImages, count: int) -> tuple[LabelledImages, LabelledImages]:
    if not 1 <= count <= len(images):
        raise UsageError(
            f"Expected --images of 1..{len(images)}, got {count}.",
            code="examples_missing",
            hint="The training set has no more.",
        )
    return images.take(np.arange(count)), images.take(np.arange(count, len(images)))


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.mentor_mentee",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", choices=[*IMAGES], default="digits", help="digits needs no download")
    add("--images", type=int, default=400, help="images that the mentee may see")
    add("--mentor-steps", type=int, default=150, help="steps of the mentor's own training")
    add("--steps", type=int, default=300, help="steps of the mentee, with the mentor and without")
    add("--new-steps", type=int, default=0, help="steps alone, on the images it has not seen")
    add("--width", type=int, default=8, help="maps of the mentor's first block")
    add("--label-weight", type=float, default=1.0)
    add("--soft-weight", type=float, default=1.0, help="weight of the mentor's soft targets")
    add("--temperature", type=float, default=4.0, help="of the soft targets")
    add("--layer-weight", type=float, default=1.0, help="weight of the mapped layer; 0 maps none")
    add("--layer", default="block2", help="the mentor's layer that block2 of the mentee follows")
    add(
        "--adapter", choices=[*map(str, Adapter)], default="learned",
        help="what joins the two layers' numbers of filters",
    )  # fmt: skip
    add("--record", metavar="FILE", help="the mentee sees the mentor's answers in this file only")
    add("--values", choices=("float32", "float16"), default="float32", help="of the recording")
    add("--batch", type=int, default=100)
    add("--learning-rate", type=float, default=2e-3)
    add("--seed", type=int, default=0)
    add("--ram", help="a budget with a unit, such as 24MiB; without it, eager")
    add("--device", default="host", help="a name of `poet devices list`")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1))
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
