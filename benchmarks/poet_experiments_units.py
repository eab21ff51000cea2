"""The work of POET's experiments in units, in the order in which it is done, and what each rests on.

    traces, which everything else needs; then, series by series, the headline's device first:
    facts, ours (and ours with something taken away), each of the other methods

Invariant: a unit's version changes with every source that can change its answers, and with nothing
that belongs to other methods alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from benchmarks.planner_store import REPOSITORY
from benchmarks.poet_experiments_networks import IN_PARTS, NETWORKS, graphs_version
from benchmarks.poet_experiments_points import DEVICES, Method, Scope, Series, labels_of
from benchmarks.poet_experiments_run import PUBLISHED_PREFIX
from benchmarks.published_optima import load_graph

TRACE, FACTS = "trace", "facts"

_FACTS_SOURCES = ("benchmarks/poet_experiments_run.py", "poet_core/*.py")
_PUBLISHED_SOURCES = ("solvers/poet_solvers/published_*.py",)

PUBLISHED = {
    "a72": ("raspberry-pi-4b", ("vgg16", "vgg16_cifar", "resnet18", "resnet18_cifar", "resnet50",
                                "bert", "transformer", "linear")),
    "m4": ("nrf52840", ("vgg16", "vgg16_cifar", "resnet18", "resnet18_cifar", "resnet50", "bert",
                        "transformer", "linear")),
    "m0": ("mkr1000", ("transformer", "linear")),
}  # fmt: skip
"""POET's own lists: the name of the costs in a file's name, the device that they are of, the networks."""

SCOPES = (Scope.ACTIVATIONS, Scope.SGD, Scope.ADAM)

SPLIT = (
    *((name, Scope.ACTIVATIONS) for name in (
        "resnet18-224-b8", "bert-base-128-b1", "bert-base-128-b8", "bert-base-512-b1",
        "bert-base-512-b4",
    )),
    *((name, Scope.ADAM) for name in (
        "vgg16-224-b1", "bert-base-128-b1", "bert-base-512-b1", "bert-base-512-b4",
    )),
)  # fmt: skip
"""Networks and scopes whose floor falls with large ops in parts: planned so, too, at the headline."""

# Seconds that ours may take at a point, by the ops of the graph. The smallest are POET's lists whose optimum
# is known: there ours is held against a proof, which its own exact models need a few seconds for.
_SECONDS = ((50, 8.0), (100, 1.0), (300, 1.5), (10**9, 3.0))
# Off the headline's device.
_ELSEWHERE = 2 / 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """`work`: trace, facts, or a group of methods. For a trace `split` counts and no device."""

    work: str
    series: Series
    split: bool = False

    @property
    def title(self) -> str:
        if self.work == TRACE:
            parts = ", in parts" if self.split else ""
            return f"{TRACE}: {self.series.network}, {self.series.scope}{parts}"
        return f"{self.work}: {self.series.title}"


def all_series() -> tuple[Series, ...]:
    """Every series, those of the headline's device first."""
    traced = [
        Series(network=network, scope=scope, device=device)
        for device in DEVICES
        for network in NETWORKS
        for scope in SCOPES
    ]
    first = len(NETWORKS) * len(SCOPES)
    in_parts = [
        Series(network=f"{network}{IN_PARTS}", scope=scope, device=DEVICES[0])
        for network, scope in SPLIT
    ]
    return (*traced[:first], *in_parts, *published_series(), *traced[first:])


def published_series() -> tuple[Series, ...]:
    """A series for each of POET's lists, whether its file is here or not."""
    return tuple(
        Series(network=f"{PUBLISHED_PREFIX}{network}-{costs}", scope=Scope.PUBLISHED, device=device)
        for costs, (device, networks) in PUBLISHED.items()
        for network in networks
    )


def small_series() -> tuple[Series, ...]:
    """What --small measures: minutes, and every kind of work once."""
    traced = [
        Series(network=network.name, scope=scope, device=device)
        for network in NETWORKS.values()
        if network.small
        for scope in SCOPES
        for device in (DEVICES[0], DEVICES[-1])
    ]
    lists = [one for one in published_series() if one.network == f"{PUBLISHED_PREFIX}linear-a72"]
    return (*traced, *lists)


def missing(series: Series) -> str | None:
    """Why a series cannot be measured here, in a sentence; None where it can."""
    if series.scope is not Scope.PUBLISHED:
        return None
    name = series.network.removeprefix(PUBLISHED_PREFIX)
    if load_graph(name) is not None:
        return None
    return f"{series.network}: no file poet/{name}.json under POET_INSTANCES."


def traces(series: Iterable[Series]) -> tuple[Unit, ...]:
    """The traces that some series rest on, each once; activations come from the step with SGD."""
    wanted: dict[tuple[str, Scope], None] = {}
    for one in series:
        if one.scope is not Scope.PUBLISHED:
            scope = Scope.ADAM if one.scope is Scope.ADAM else Scope.SGD
            wanted[one.network.removesuffix(IN_PARTS), scope] = None
    return tuple(
        Unit(work=TRACE, series=Series(network=network, scope=scope, device=""), split=split)
        for network, scope in wanted
        for split in (False, True)
    )


def units_of(series: Iterable[Series], methods: Iterable[Method]) -> Iterator[Unit]:
    """Facts and groups, series by series."""
    groups = dict.fromkeys(group_of(method) for method in methods)
    known = tuple(methods)
    for one in series:
        yield Unit(work=FACTS, series=one)
        for group in groups:
            if members(known, group, one):
                yield Unit(work=group, series=one)


def group_of(method: Method) -> str:
    """A method without a group is one of its own."""
    return method.group or method.name


def members(methods: Iterable[Method], group: str, series: Series) -> tuple[Method, ...]:
    """The methods of a group that apply to a series, in their order."""
    return tuple(one for one in methods if group_of(one) == group and one.applies(series))


def seconds_for(series: Series, ops: int) -> float:
    """The planner's seconds at a point."""
    seconds = next(seconds for most, seconds in _SECONDS if ops <= most)
    full = series.device == DEVICES[0] or series.scope is Scope.PUBLISHED
    return seconds if full else _ELSEWHERE * seconds


def version_of(unit: Unit, methods: Iterable[Method]) -> str:
    """A digest of what decides a unit's answers."""
    sources = set(_FACTS_SOURCES)
    for method in members(methods, unit.work, unit.series):
        sources.update(method.sources)
    beside = " ".join(labels_of(unit.series))
    if unit.series.scope is Scope.PUBLISHED:
        sources.update(_PUBLISHED_SOURCES)
    else:
        sources.add(f"device_profiles/{unit.series.device}.toml")
        beside += f" {graphs_version()}"
    return _digest(tuple(sorted(sources)), beside)


@lru_cache(maxsize=64)
def _digest(sources: tuple[str, ...], beside: str) -> str:
    digest = hashlib.sha256(beside.encode() + b"\0")
    for path in sorted({path for pattern in sources for path in REPOSITORY.glob(pattern)}):
        if path.is_file():
            digest.update(path.relative_to(REPOSITORY).as_posix().encode() + b"\0")
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]
