"""A tiny network learns from few labels and many neighbours in the projection graph (Ravi 2017, Figure 3).

    python -m examples.projection_graph                                 # bundled digits, eager
    python -m examples.projection_graph --data mnist --images 5000 --labels-per-class 10 --ram 8MiB
    python -m examples.projection_graph --data clinc150 --labels-per-class 10

Of the first --images examples --labels-per-class of each class keep their labels. A projection
network learns three times from the same start: from these labels alone; from these and its
neighbours, which it is to answer alike; and from these and the labels that flow along the graph to
all the others. With --trainer a large network learns beside it and is held to the same graph.
"""

from __future__ import annotations

import argparse
import copy
import os
import sys
import time
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from examples.data_sets import IMAGES, TEXTS, data_root
from poet_core.errors import PoetError, UsageError
from projection_nets import JointTraining, NetOnBits, Student, Teacher, trainers
from projection_nets.data import (
    ImageSplits,
    LabelledExamples,
    TextSplits,
)
from projection_nets.graph_training import GraphExamples, GraphTraining
from projection_nets.hashing import permutation
from projection_nets.joint_step import JointStep
from projection_nets.metrics import evaluate_networks
from projection_nets.neighbours import Neighbours, neighbours
from projection_nets.packing import Bytes, PackedBits, packed_bits
from projection_nets.projection_graph import projection_graph
from projection_nets.propagation import propagated_labels
from projection_nets.spec import ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures
from projection_nets.training import Progress, train

_CHOICE_STREAM = 2**33  # apart from the streams of epochs and splits
_LEAST_PROBABILITY = 1e-6  # its logarithm is finite


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Bits of the examples and, of images, pixels; the spec that made the bits."""

    spec: ProjectionSpec
    classes: int
    packed: Bytes
    train: LabelledExamples
    test: LabelledExamples


def main(arguments: list[str] | None = None) -> int:
    """Build the graph, train twice, report; 0 when all of it worked."""
    options = _options(arguments)
    try:
        torch.set_num_threads(options.threads)
        torch.manual_seed(options.seed)
        _run(options)
    except PoetError as error:
        print(f"projection_graph: {error} [{error.code}]", file=sys.stderr)
        return 1
    return 0


def _run(options: argparse.Namespace) -> None:
    task = _task(options)
    near = _neighbours(task, options)
    labelled = _with_labels(task.train.labels.numpy(), task.classes, options)
    joint = _joint(task, options)
    start = copy.deepcopy(joint.state_dict())
    few = LabelledExamples(
        inputs=tuple(values[labelled] for values in task.train.inputs),
        labels=task.train.labels[labelled],
    )
    _train(joint, few, min(options.batch, len(few)), options)
    _report(f"{len(few)} labels alone", joint, task)

    joint.load_state_dict(start)
    _train_on_graph(joint, task.train, near, labelled, options)
    _report("and neighbours", joint, task)

    joint.load_state_dict(start)
    flowed = propagated_labels(near, task.train.labels.numpy(), labelled, classes=task.classes)
    soft = torch.from_numpy(flowed).clamp_min(_LEAST_PROBABILITY).log()
    with_soft = LabelledExamples(inputs=(*task.train.inputs, soft), labels=task.train.labels)
    teachers = {
        **joint.teachers,
        "graph": Teacher(net=nn.Identity(), input=len(task.train.inputs), frozen=True),
    }
    student = replace(
        joint.students["projection"], teachers=("graph",), distillation_weight=options.soft_weight
    )
    taught = JointTraining(trainers=teachers, students={"projection": student})
    _train_on_graph(taught, with_soft, near, labelled, options)
    _report("and labels that flowed", joint, task)


def _train_on_graph(
    joint: JointTraining,
    examples: LabelledExamples,
    near: Neighbours,
    labelled: npt.NDArray[np.int64],
    options: argparse.Namespace,
) -> None:
    held = [name for name in joint.networks if name != "graph"]
    step = GraphTraining(
        joint, weights=dict.fromkeys(held, options.graph_weight), distance=options.distance
    )
    source = GraphExamples(
        examples,
        near,
        labelled=labelled,
        labelled_rows=min(options.batch, len(labelled)),
        sampled=options.sampled,
        seed=options.seed,
    )
    _train(step, source, min(options.batch, len(examples)), options)


def _neighbours(task: Task, options: argparse.Namespace) -> Neighbours:
    began = time.perf_counter()
    graph = projection_graph(
        task.packed, task.spec, radius=options.radius, bucket_limit=options.bucket_limit
    )
    near = neighbours(
        graph, task.packed, count=options.neighbours, probes=options.probes, seed=options.seed
    )
    seconds = time.perf_counter() - began
    share = near.agreement(task.train.labels.numpy())
    print(
        f"{len(task.packed)} examples, {len(graph.node_value)} projection nodes, "
        f"{len(graph.edges)} edges between them ({graph.cut_buckets} buckets cut), "
        f"{seconds:.1f} s; {100 * share:.1f}% of the neighbours are of the same class"
    )
    return near


def _with_labels(
    labels: npt.NDArray[np.int64], classes: int, options: argparse.Namespace
) -> npt.NDArray[np.int64]:
    """So many positions of each class, chosen by the seed."""
    order = permutation(len(labels), options.seed, _CHOICE_STREAM)
    chosen = [order[labels[order] == label][: options.labels_per_class] for label in range(classes)]
    if options.labels_per_class < 1 or min(map(len, chosen)) < options.labels_per_class:
        raise UsageError(
            f"Expected {options.labels_per_class} examples of each class, at least one, got "
            f"{min(map(len, chosen))} of the rarest.",
            code="examples_missing",
            hint="Pass more --images or fewer --labels-per-class.",
        )
    return np.sort(np.concatenate(chosen))


def _joint(task: Task, options: argparse.Namespace) -> JointTraining:
    small = NetOnBits(PackedBits(task.spec), task.classes, hidden=options.hidden)
    beside = {}
    if options.trainer:
        if len(task.train.inputs) == 1:
            raise UsageError(
                "Expected images for --trainer, got texts.",
                code="trainer_invalid",
                hint="Leave --trainer out.",
            )
        net = trainers.feed_forward(task.train.inputs[1].shape[1], task.classes, hidden=(256,))
        beside["trainer"] = Teacher(net=net, input=1, divisor=255.0)
    return JointTraining(trainers=beside, students={"projection": Student(net=small)})


def _train(
    step: JointStep,
    examples: LabelledExamples | GraphExamples,
    batch_size: int,
    options: argparse.Namespace,
) -> None:
    budget = {} if options.ram is None else {"ram": options.ram, "device": options.device}
    train(
        step,
        torch.optim.Adam(step.parameters(), lr=options.learning_rate),
        examples,
        steps=options.steps,
        seed=options.seed,
        batch_size=batch_size,
        on_progress=None if options.quiet else _show,
        **budget,
    )


def _show(progress: Progress) -> None:
    line = f"step {progress.step}/{progress.steps}  loss {progress.loss:.4f}"
    end = "\r" if sys.stderr.isatty() and progress.step != progress.steps else "\n"
    print(line, end=end, file=sys.stderr, flush=True)


def _report(what: str, step: JointStep, task: Task) -> None:
    for name, shares in evaluate_networks(step, task.test).items():
        scores = "  ".join(f"P@{k} {100 * share:.2f}%" for k, share in shares.items())
        print(f"{what:24} {name:10}  {scores}")


def _task(options: argparse.Namespace) -> Task:
    root = data_root(options.data)
    if options.images < 1:
        raise UsageError(
            f"Expected at least one of --images, got {options.images}.",
            code="examples_missing",
            hint="Pass a positive number.",
        )
    if options.data in IMAGES:
        return _image_task(IMAGES[options.data](root), options)
    return _text_task(TEXTS[options.data](root), options)


def _image_task(splits: ImageSplits, options: argparse.Namespace) -> Task:
    features = splits.train.pixels.shape[1]
    spec = ProjectionSpec(in_features=features, functions=options.T, bits=options.d)
    parts = []
    for images, count in ((splits.train, options.images), (splits.test, len(splits.test))):
        pixels, labels = images.pixels[:count], images.labels[:count]
        bits = torch.from_numpy(packed_bits(spec, pixels.numpy()))
        inputs = (bits, pixels.float()) if options.trainer else (bits,)
        parts.append(LabelledExamples(inputs=inputs, labels=labels))
    packed = parts[0].inputs[0].numpy()
    return Task(spec=spec, classes=splits.classes, packed=packed, train=parts[0], test=parts[1])


def _text_task(splits: TextSplits, options: argparse.Namespace) -> Task:
    spec = ProjectionSpec(
        kind=ProjectionKind.HASHED, functions=options.T, bits=options.d, text=TextFeatures()
    )
    # the files are sorted by class
    order = permutation(len(splits.train), options.seed, _CHOICE_STREAM)[: options.images]
    texts = [splits.train.texts[at] for at in order]
    labels = [splits.train.labels[at] for at in order]
    parts = [
        LabelledExamples(
            inputs=(torch.from_numpy(packed_bits(spec, some)),), labels=torch.tensor(numbers)
        )
        for some, numbers in ((texts, labels), (splits.test.texts, splits.test.labels))
    ]
    packed = parts[0].inputs[0].numpy()
    return Task(spec=spec, classes=splits.classes, packed=packed, train=parts[0], test=parts[1])


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.projection_graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--data", choices=[*IMAGES, *TEXTS], default="digits", help="digits needs no download")
    add("--images", type=int, default=5000, help="examples in the graph, at most")
    add("--labels-per-class", type=int, default=5)
    add("--steps", type=int, default=400)
    add("--T", type=int, default=60, help="projection functions")
    add("--d", type=int, default=12, help="bits a function")
    add("--hidden", type=int, nargs="+", help="units of hidden layers")
    add("--trainer", action="store_true", help="a large network learns beside (images only)")
    add("--radius", type=int, default=1, help="bits that linked projection nodes may differ in")
    add("--bucket-limit", type=int, default=64, help="nodes that one is compared with in a bucket")
    add("--neighbours", type=int, default=8, help="kept of each example")
    add("--probes", type=int, default=8, help="candidates that each function gives an example")
    add("--sampled", type=int, default=2, help="neighbours of each row of a batch")
    add("--graph-weight", type=float, default=1.0)
    add("--soft-weight", type=float, default=1.0, help="weight of the labels that flowed")
    add("--distance", choices=("squared", "cross"), default="squared")
    add("--batch", type=int, default=100)
    add("--learning-rate", type=float, default=2e-3)
    add("--seed", type=int, default=0)
    add("--ram", help="a budget with a unit, such as 8MiB; without it, eager")
    add("--device", default="host", help="a name of `poet devices list`")
    add("--threads", type=int, default=min(2, os.cpu_count() or 1))
    add("--quiet", action="store_true", help="no progress on stderr")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
