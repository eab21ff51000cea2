"""docs/schemas say what the readers say: what codecs write validates, what readers refuse does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from poet_core.device_document import device_from_document, device_to_document
from poet_core.devices import device_names, load_device
from poet_core.errors import DeviceError, DocumentError, GraphError
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_solvers.addresses import addresses_to_document, place, read_addresses
from tests.core.documents import (
    PLAN,
    REMOVED,
    changed,
    device_document,
    graph_document,
    plan_document,
)
from tests.core.training_step import GRAPH
from tests.oracles.generate import random_graph
from tests.solvers.test_addresses_moves import moving_case

SCHEMAS = Path(__file__).parents[2] / "docs" / "schemas"


def addresses_document() -> dict[str, Any]:
    return addresses_to_document(place(GRAPH, PLAN), PLAN)


def addresses_from_document(document: Any) -> object:
    return read_addresses(json.dumps(document), GRAPH, PLAN)


READERS: dict[str, Callable[[Any], object]] = {
    "graph": graph_from_document,
    "plan": plan_from_document,
    "device": device_from_document,
    "addresses": addresses_from_document,
}
DOCUMENTS = {
    "graph": graph_document,
    "plan": plan_document,
    "device": device_document,
    "addresses": addresses_document,
}


def validator(kind: str) -> Draft202012Validator:
    schema = json.loads((SCHEMAS / f"poet.{kind}-1.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


VALIDATORS = {kind: validator(kind) for kind in READERS}

GOOD: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("graph", ("x",), {"anything": [1, {"deep": None}]}),
    ("graph", ("ops", 0, "x"), 1),
    ("graph", ("ops", 0, "seconds"), 0.25),
    ("graph", ("ops", 0, "reads"), None),
    ("graph", ("ops", 0, "module"), REMOVED),
    ("graph", ("name",), REMOVED),
    ("graph", ("conditions",), {"threads": "1", "dtype": "float32", "torch": None}),
    ("graph", ("storages", 0, "bytes"), 2**53 - 1),
    ("graph", ("storages", 5, "persistent"), None),
    ("plan", ("x",), "note"),
    ("plan", ("bound",), None),
    ("plan", ("bound",), REMOVED),
    ("plan", ("problem", "flash_bytes"), None),
    ("plan", ("problem", "step_seconds"), REMOVED),
    ("plan", ("problem", "costs", "idle_watts"), 2),
    ("plan", ("instructions", 0, "x"), []),
    ("plan", ("instructions",), []),
    ("device", ("idle_watts",), {"value": 0.1}),
    ("device", ("measured",), {"value": True, "source": None}),
    ("device", ("x",), None),
    ("addresses", ("x",), [1]),
    ("addresses", ("found_by",), ""),
]

# kind, where, what: each is refused by the reader for the shape of the document.
BAD: list[tuple[str, tuple[str | int, ...], Any]] = [
    ("graph", (), []),
    ("graph", (), None),
    ("graph", ("schema",), "poet.graph/2"),
    ("graph", ("schema",), REMOVED),
    ("graph", ("storages",), REMOVED),
    ("graph", ("ops",), {}),
    ("graph", ("ops",), []),
    ("graph", ("surprise",), 1),
    ("graph", ("name",), "n" * 1001),
    ("graph", ("rng_state_bytes",), -1),
    ("graph", ("rng_state_bytes",), "2"),
    ("graph", ("conditions",), {"path": "somewhere"}),
    ("graph", ("conditions",), {"threads": 1}),
    ("graph", ("storages", 0, "bytes"), -1),
    ("graph", ("storages", 0, "bytes"), 2**53),
    ("graph", ("storages", 0, "bytes"), 1.5),
    ("graph", ("storages", 0, "bytes"), True),
    ("graph", ("storages", 0, "bytes"), None),
    ("graph", ("storages", 0, "role"), "weight"),
    ("graph", ("storages", 0, "persistent"), 1),
    ("graph", ("storages", 0, "address"), 0),
    ("graph", ("storages", 0, "tier"), 0),
    ("graph", ("ops", 0, "phase"), "sideways"),
    ("graph", ("ops", 0, "kind"), 7),
    ("graph", ("ops", 0, "reads"), 0),
    ("graph", ("ops", 0, "reads"), ["w"]),
    ("graph", ("ops", 0, "writes"), [-1]),
    ("graph", ("ops", 0, "writes"), [1.5]),
    ("graph", ("ops", 0, "flops"), -1),
    ("graph", ("ops", 0, "seconds"), -0.5),
    ("graph", ("ops", 0, "seconds"), "fast"),
    ("graph", ("ops", 0, "random"), "yes"),
    ("plan", (), "plan"),
    ("plan", ("schema",), "poet.graph/1"),
    ("plan", ("graph_sha256",), 1),
    ("plan", ("claims",), REMOVED),
    ("plan", ("claims", "peak_bytes"), -1),
    ("plan", ("claims", "peak_bytes"), 1.5),
    ("plan", ("claims", "energy_joules"), None),
    ("plan", ("claims", "praise"), 5),
    ("plan", ("problem", "objective"), "beauty"),
    ("plan", ("problem", "ram_bytes"), REMOVED),
    ("plan", ("problem", "alignment_bytes"), 0),
    ("plan", ("problem", "overlap"), "no"),
    ("plan", ("problem", "allowed", "page"), None),
    ("plan", ("problem", "allowed", "fly"), True),
    ("plan", ("problem", "costs", "op_seconds"), [-1.0]),
    ("plan", ("problem", "costs", "op_joules"), ["1"]),
    ("plan", ("problem", "costs", "idle_watts"), -1),
    ("plan", ("start",), {"ram": []}),
    ("plan", ("start", "ram"), [-1]),
    ("plan", ("start", "flash"), "all"),
    ("plan", ("instructions",), {}),
    ("plan", ("instructions", 0), []),
    ("plan", ("instructions", 0), {"do": "compute", "storage": 0}),
    ("plan", ("instructions", 0), {"do": "free", "op": 0}),
    ("plan", ("instructions", 0), {"do": "explode", "storage": 0}),
    ("plan", ("instructions", 0), {"do": "free", "storage": 0, "address": 64}),
    ("plan", ("instructions", 0), {"do": "free"}),
    ("plan", ("instructions", 0), {"op": 0}),
    ("plan", ("bound", "holds_for"), "me"),
    ("plan", ("bound",), {}),
    ("plan", ("planner", "wall_seconds"), -1),
    ("device", ("schema",), "poet.device/2"),
    ("device", ("ram_bytes",), REMOVED),
    ("device", ("ram_bytes",), 0),
    ("device", ("ram_bytes",), 1.5),
    ("device", ("ram_bytes",), {"source": "nowhere"}),
    ("device", ("ram_bytes",), {"value": 5, "unit": "KiB"}),
    ("device", ("flops_per_second",), 0),
    ("device", ("flops_per_second",), -1),
    ("device", ("flops_per_second",), {"value": 0}),
    ("device", ("flash_watts",), "0.1 W"),
    ("device", ("overlap",), 1),
    ("device", ("alignment_bytes",), 0),
    ("device", ("name",), 5),
    ("device", ("title",), "t" * 1001),
    ("device", ("colour",), "green"),
    ("addresses", (), []),
    ("addresses", ("schema",), "poet.addresses/2"),
    ("addresses", ("schema",), REMOVED),
    ("addresses", ("surprise",), 1),
    ("addresses", ("graph_sha256",), None),
    ("addresses", ("plan_sha256",), 1),
    ("addresses", ("plan_sha256",), REMOVED),
    ("addresses", ("arena_bytes",), -1),
    ("addresses", ("arena_bytes",), 1.5),
    ("addresses", ("peak_bytes",), None),
    ("addresses", ("moved_bytes",), REMOVED),
    ("addresses", ("found_by",), 5),
    ("addresses", ("found_by",), "n" * 1001),
    ("addresses", ("placed",), REMOVED),
    ("addresses", ("placed",), {}),
    ("addresses", ("placed", 0), {"holds": "storage"}),
    ("addresses", ("placed", 0), ["storage", 0, 0, 0, 0]),
    ("addresses", ("placed", 0), ["storage", 0, 0, 0, 0, 1, 1]),
    ("addresses", ("placed", 0, 0), "address"),
    ("addresses", ("placed", 0, 1), -1),
    ("addresses", ("placed", 0, 2), -2),
    ("addresses", ("placed", 0, 3), -2),
    ("addresses", ("placed", 0, 4), -1),
    ("addresses", ("placed", 0, 4), "0"),
    ("addresses", ("placed", 0, 5), 0),
    ("addresses", ("moves",), None),
    ("addresses", ("moves",), [1]),
    ("addresses", ("moves",), [[0, "storage", 0, 0, 2]]),
    ("addresses", ("moves",), [[0, "storage", 0, 0, 2, 2, 2]]),
    ("addresses", ("moves",), [[-1, "storage", 0, 0, 2, 2]]),
    ("addresses", ("moves",), [["storage", 0, 0, 0, 2, 2]]),
    ("addresses", ("moves",), [[0, "weights", 0, 0, 2, 2]]),
    ("addresses", ("moves",), [[0, "storage", -1, 0, 2, 2]]),
    ("addresses", ("moves",), [[0, "storage", 0, -2, 2, 2]]),
    ("addresses", ("moves",), [[0, "storage", 0, 0, 1.5, 2]]),
    ("addresses", ("moves",), [[0, "storage", 0, 0, 2, 0]]),
]


@pytest.mark.parametrize("kind", READERS)
def test_what_the_codecs_write_is_valid_and_reads_back(kind: str) -> None:
    document = DOCUMENTS[kind]()
    VALIDATORS[kind].validate(document)
    READERS[kind](document)


def test_random_graphs_and_bare_plans_are_valid_too() -> None:
    rng = Random(1)
    for _ in range(200):
        graph = random_graph(rng)
        document = json.loads(json.dumps(graph_to_document(graph)))
        VALIDATORS["graph"].validate(document)
        assert graph_from_document(document) == graph
    bare = plan_to_document(replace(PLAN, bound=None))
    VALIDATORS["plan"].validate(bare)
    assert plan_from_document(plan_document()) == PLAN


def test_addresses_with_moves_are_valid_too() -> None:
    graph, plan, addresses = moving_case()
    document = json.loads(json.dumps(addresses_to_document(addresses, plan)))
    assert document["moves"]
    VALIDATORS["addresses"].validate(document)
    assert read_addresses(json.dumps(document), graph, plan) == addresses


def test_shipped_devices_are_valid() -> None:
    for name in device_names():
        VALIDATORS["device"].validate(device_to_document(load_device(name)))


@pytest.mark.parametrize(("kind", "path", "value"), GOOD)
def test_what_readers_accept_is_valid(kind: str, path: tuple[str | int, ...], value: Any) -> None:
    document = changed(DOCUMENTS[kind](), path, value)
    READERS[kind](document)
    VALIDATORS[kind].validate(document)


@pytest.mark.parametrize(("kind", "path", "value"), BAD)
def test_what_readers_refuse_is_not_valid(
    kind: str, path: tuple[str | int, ...], value: Any
) -> None:
    document = changed(DOCUMENTS[kind](), path, value)
    with pytest.raises((DocumentError, GraphError, DeviceError)):
        READERS[kind](document)
    assert not VALIDATORS[kind].is_valid(document)
