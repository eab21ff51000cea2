"""The networks of POET's experiments: traced once, kept in a folder, and what each scope counts.

    NAME-sgd.json, NAME-adam.json    the whole step: documents that `poet plan` takes
    NAME-activations.json            the same as the paper counts it
    NAME-sgd-split.json, ...         with large ops in parts, for what that would bring
    NAME-sgd.version, ...            which sources and which torch made it

Traced from PyTorch at ATen level with the models of examples/, in training mode, at full size; costs
come from FLOPs and a device's profile, so no op is timed. SGD is with momentum 0.9 and weight decay.
Invariant: a graph that is read back was traced by these very sources with this very torch.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.planner_store import REPOSITORY
from benchmarks.poet_experiments_activations import activations_only
from benchmarks.poet_experiments_points import Scope
from poet_core.graph import TrainingGraph
from poet_core.graph_document import graph_to_document, read_graph

if TYPE_CHECKING:
    from examples.parts import Step

GRAPHS = REPOSITORY / "build" / "benchmarks" / "poet-experiments" / "graphs"

SOURCES = (
    "examples/parts.py",
    "examples/vgg.py",
    "examples/resnet.py",
    "examples/bert.py",
    "benchmarks/poet_experiments_activations.py",
    "poet_runtime/kernels.py",
    "poet_runtime/updat*.py",
    "poet_runtime/tracing/*.py",
    "poet_runtime/splitting/*.py",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """A model at an input size and a batch. `size`: pixels a side, or tokens. `family` and `size`
    together name what tables compare; `small`: part of --small."""

    family: str
    size: int
    batch: int
    build: Callable[[str], Step]
    small: bool = False

    @property
    def name(self) -> str:
        return f"{self.family}-{self.size}-b{self.batch}"


def _vgg(size: int, batch: int) -> Network:
    def build(optimizer: str) -> Step:
        from examples import vgg

        classes = 1000 if size == 224 else 10
        return vgg.step(batch_size=batch, image_size=size, classes=classes, optimizer=optimizer)

    return Network(family="vgg16", size=size, batch=batch, build=build)


def _resnet(size: int, batch: int) -> Network:
    def build(optimizer: str) -> Step:
        from examples import resnet

        classes = 1000 if size == 224 else 10
        return resnet.step(batch_size=batch, image_size=size, classes=classes, optimizer=optimizer)

    return Network(
        family="resnet18", size=size, batch=batch, build=build, small=(size, batch) == (32, 1)
    )


def _bert(length: int, batch: int) -> Network:
    def build(optimizer: str) -> Step:
        from examples import bert

        return bert.step(batch_size=batch, length=length, optimizer=optimizer)

    return Network(family="bert-base", size=length, batch=batch, build=build)


NETWORKS = {
    network.name: network
    for network in (
        _vgg(32, 1), _vgg(32, 64), _vgg(224, 1), _vgg(224, 8),
        _resnet(32, 1), _resnet(32, 64), _resnet(224, 1), _resnet(224, 8),
        _bert(128, 1), _bert(128, 8), _bert(512, 1), _bert(512, 4),
    )
}  # fmt: skip

IN_PARTS = "-split"
"""What a network's name ends in where its step is traced with large ops in parts."""

_OPTIMIZERS = {Scope.ACTIVATIONS: "momentum", Scope.SGD: "momentum", Scope.ADAM: "adam"}


@lru_cache(maxsize=4)
def graph_of(network: str, scope: Scope, *, split: bool = False) -> TrainingGraph:
    """The graph of a network in a scope; traced and kept where it is not there yet."""
    if network.endswith(IN_PARTS):
        return graph_of(network.removesuffix(IN_PARTS), scope, split=True)
    path = graph_file(network, scope, split=split)
    if is_traced(network, scope, split=split):
        return read_graph(path.read_bytes())
    if scope is Scope.ACTIVATIONS:
        found = activations_only(graph_of(network, Scope.SGD, split=split))
    else:
        found = _traced(network, scope, split=split)
    _write(path, found)
    return found


def graph_file(network: str, scope: Scope, *, split: bool = False) -> Path:
    """Where a graph is kept: a document that `poet plan` takes."""
    return GRAPHS / f"{network}-{scope}{IN_PARTS if split else ''}.json"


def is_traced(network: str, scope: Scope, *, split: bool = False) -> bool:
    """Whether a graph made by these sources is there."""
    stamp = _stamp(graph_file(network, scope, split=split))
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == graphs_version()


def _stamp(path: Path) -> Path:
    return path.with_suffix(".version")


def _write(path: Path, graph: TrainingGraph) -> None:
    """The stamp goes first and comes last: an interruption leaves no graph of other sources."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _stamp(path).unlink(missing_ok=True)
    partial = path.with_suffix(f".{os.getpid()}.partial")
    partial.write_text(
        json.dumps(graph_to_document(graph), separators=(",", ":")) + "\n", encoding="utf-8"
    )
    partial.replace(path)
    _stamp(path).write_text(graphs_version(), encoding="utf-8")


def _traced(network: str, scope: Scope, *, split: bool) -> TrainingGraph:
    from poet_runtime.step_options import StepOptions
    from poet_runtime.tracing.trace import trace

    model, loss_fn, optimizer, batch = NETWORKS[network].build(_OPTIMIZERS[scope])
    # Above 0 bytes: every op in the smallest parts whose bits stay the same.
    options = StepOptions(split_above_bytes=0 if split else None)
    return trace(model, loss_fn, optimizer, batch, name=network, options=options).graph


@lru_cache(maxsize=1)
def graphs_version() -> str:
    """A digest of torch's version and of the sources that decide a graph."""
    digest = hashlib.sha256(version("torch").encode())
    for pattern in SOURCES:
        for path in sorted(REPOSITORY.glob(pattern)):
            digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
