"""Trains a ProjectionNet beside its trainer and exports it: one command, with or without a RAM budget.

    python -m examples.projection_train --data mnist --steps 500 --ram 24MiB --export digits.poet
    python -m examples.projection_train --data clinc150 --steps 500 --c-code intents

Images: the feed-forward trainer and [T, d] over raw pixels. Texts: the LSTM trainer over tokens and
a hash-once projection over features. A progress line has the loss, P@1 and the peak of RAM.
"""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from examples.data_sets import IMAGES, TEXTS, data_root
from poet_core.errors import PoetError
from poet_core.units import format_bytes
from projection_nets import JointTraining, NetOnBits, ProjectionNet, Student, Teacher, trainers
from projection_nets.c_export import export_c
from projection_nets.data import (
    ImageSplits,
    Labelled,
    TextSplits,
    Vocabulary,
    as_examples,
)
from projection_nets.metrics import evaluate_networks
from projection_nets.packing import PackedBits
from projection_nets.quantize import quantized
from projection_nets.spec import ProjectionKind, ProjectionSpec
from projection_nets.stored import stored
from projection_nets.text import TextFeatures
from projection_nets.training import IMAGE_BATCH, TEXT_BATCH, Progress, train

_TOKENS = 24
_HIDDEN = (1000, 1000, 1000)  # Ravi 2017, section 4.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What is trained on what; `small` is the net that leaves."""

    joint: JointTraining
    small: NetOnBits
    train: Labelled[tuple[Tensor, ...]]
    validation: Labelled[tuple[Tensor, ...]]
    test: Labelled[tuple[Tensor, ...]]
    batch_size: int


def main(arguments: list[str] | None = None) -> int:
    """Train, report, export; 0 when all of it worked."""
    options = _options(arguments)
    try:
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        _run(options)
    except PoetError as error:
        print(f"projection_train: {error} [{error.code}]", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    task = _task(options)
    budget = {} if options.ram is None else {"ram": options.ram, "device": options.device}
    train(
        task.joint,
        torch.optim.Adam(task.joint.parameters(), lr=options.learning_rate),
        task.train,
        steps=options.steps,
        seed=options.seed,
        batch_size=task.batch_size,
        validation=task.validation,
        evaluate_every=options.evaluate_every,
        checkpoint=options.checkpoint,
        on_progress=None if options.quiet else _show,
        **budget,
    )
    for name, shares in evaluate_networks(task.joint, task.test).items():
        scores = "  ".join(f"P@{k} {100 * share:.2f}%" for k, share in shares.items())
        print(f"{name:10} {scores}")
    if options.export:
        written = task.small.export(options.export, weight_bits=options.weight_bits)
        print(f"{options.export}: {written} bytes")
    if options.c_code:
        made = export_c(quantized(stored(task.small), _integer_bits(options)), ".", options.c_code)
        print(
            f"{options.c_code}.c: {made.constant_bytes} bytes of constants, "
            f"{made.working_bytes} bytes of RAM"
        )


def _task(options: argparse.Namespace) -> Task:
    root = data_root(options.data)
    if options.data in IMAGES:
        return _image_task(IMAGES[options.data](root), options)
    return _text_task(TEXTS[options.data](root), options)


def _image_task(splits: ImageSplits, options: argparse.Namespace) -> Task:
    features = splits.train.pixels.shape[1]
    net = trainers.feed_forward(features, splits.classes, hidden=_HIDDEN)
    small = ProjectionNet(
        features, splits.classes, T=options.T, d=options.d, hidden=options.hidden,
        lookup=options.lookup, kind=options.kind,
    )  # fmt: skip
    joint = JointTraining(
        trainers={"trainer": Teacher(net=net, divisor=255.0)},
        students={"projection": _student(small, 0, options)},
    )
    return Task(
        joint=joint, small=small, train=splits.train, validation=splits.validation,
        test=splits.test, batch_size=IMAGE_BATCH,
    )  # fmt: skip


def _text_task(splits: TextSplits, options: argparse.Namespace) -> Task:
    spec = ProjectionSpec(
        kind=ProjectionKind.HASHED, functions=options.T, bits=options.d, text=TextFeatures()
    )
    vocabulary = Vocabulary.of(splits.train.texts)
    small = NetOnBits(
        PackedBits(spec), splits.classes, hidden=options.hidden, lookup=options.lookup
    )
    net = trainers.LstmTrainer(len(vocabulary), splits.classes)
    joint = JointTraining(
        trainers={"trainer": Teacher(net=net)}, students={"projection": _student(small, 1, options)}
    )
    parts = [
        as_examples(part, spec, vocabulary=vocabulary, length=_TOKENS)
        for part in (splits.train, splits.validation, splits.test)
    ]
    return Task(
        joint=joint, small=small, train=parts[0], validation=parts[1], test=parts[2],
        batch_size=TEXT_BATCH,
    )  # fmt: skip


def _student(net: NetOnBits, of_input: int, options: argparse.Namespace) -> Student:
    return Student(
        net=net,
        input=of_input,
        distillation_weight=options.distillation,
        temperature=options.temperature,
        detach_teacher=options.detach,
    )


def _show(progress: Progress) -> None:
    scores = "".join(f"  {name} {100 * p[1]:.2f}%" for name, p in progress.precision.items())
    peak = progress.planned_peak_bytes
    planned = "" if peak is None else f"{format_bytes(peak)} planned, "
    line = (
        f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}  "
        f"{1000 * progress.seconds_per_step:.1f} ms  "
        f"{planned}{format_bytes(progress.process_peak_bytes)} process{scores}"
    )
    # one line that is overwritten on a terminal, whole lines in a log
    end = "\n" if progress.precision or not sys.stderr.isatty() else "\r"
    print(line, end=end, file=sys.stderr, flush=True)


def _integer_bits(options: argparse.Namespace) -> int:
    return 8 if options.weight_bits == 32 else int(options.weight_bits)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.projection_train", description=__doc__
    )
    parser.add_argument("--data", choices=(*IMAGES, *TEXTS), default="digits")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--T", type=int, default=60, help="projection functions")
    parser.add_argument("--d", type=int, default=12, help="bits a function")
    parser.add_argument("--hidden", type=int, nargs="+", help="units of hidden layers")
    parser.add_argument("--lookup", action="store_true", help="tables in the place of layers")
    parser.add_argument("--kind", choices=("gaussian", "ternary"), default="gaussian")
    parser.add_argument(
        "--distillation", type=float, default=0.1, help="weight of the soft targets"
    )
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument(
        "--detach", action="store_true", help="distillation leaves the trainer alone"
    )
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ram", help="a budget with a unit, such as 24MiB; without it, eager")
    parser.add_argument("--device", default="host", help="a name of `poet devices list`")
    parser.add_argument("--checkpoint", type=Path, help="written as it trains; resumed if there")
    parser.add_argument("--evaluate-every", type=int)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--export", help="write the small model here")
    parser.add_argument("--weight-bits", type=int, choices=(32, 8, 4), default=32)
    parser.add_argument("--c-code", metavar="NAME", help="write NAME.h and NAME.c here")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
