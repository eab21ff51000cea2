"""Documents of strangers: a valid one with a few things changed is read, or refused by an error of
the tree. Nothing else comes out, and what was read is written as it was understood."""

import copy
import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from poet_core.device_document import device_from_document, device_to_document, read_device_toml
from poet_core.documents import Limits, canonical_json, parse_json
from poet_core.errors import PoetError
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan_document import plan_from_document, plan_to_document
from poet_core.plan_request import request_from_document, request_to_document
from poet_core.units import LARGEST_INTEGER
from poet_core.verify import verify
from tests.core.documents import GRAPH, device_document, graph_document, plan_document

LIMITS = Limits(
    document_bytes=2**20, depth=16, storages=1000, ops=1000, references=10_000, string_length=200
)
REQUEST = {
    "graph": graph_document(),
    "device": device_document(),
    "budget": {"ram_bytes": 1024, "time_ratio": 2.0},
    "objective": "time",
    "allowed": {"page": True},
    "planner": {"backend": "highs", "wall_seconds": 1},
}

# What makes readers stumble: edges of ranges, other types, words of the format in other places.
NUMBERS = st.sampled_from(
    [0, -1, 1, 2, 2**31, LARGEST_INTEGER, LARGEST_INTEGER + 1, 10**400, 0.5, -0.0, 1e-320, 1e308]
)
WORDS = st.sampled_from(
    ["", "x", "poet.graph/1", "poet.plan/1", "forward", "parameter", "compute", "page_in", "energy",
     "__class__", "../../etc/passwd", "\x00", "\u202e", "\ud800", "\U0001f600", "1e5", "NaN"]
)  # fmt: skip
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, st.integers(), st.floats(), WORDS, st.text())
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(WORDS | st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)


def places(value, found):
    """Every container with its keys, deepest last."""
    if isinstance(value, dict):
        found.extend((value, key) for key in value)
        for item in list(value.values()):
            places(item, found)
    elif isinstance(value, list):
        found.extend((value, index) for index in range(len(value)))
        for item in value:
            places(item, found)
    return found


@st.composite
def spoiled(draw, valid):
    """`valid` with one to four changes: a value replaced, removed, doubled, exchanged, or added."""
    document = copy.deepcopy(valid)
    for _ in range(draw(st.integers(1, 4))):
        found = places(document, [])
        if not found:
            break
        holder, key = draw(st.sampled_from(found))
        match draw(st.sampled_from(["replace", "remove", "double", "exchange", "add"])):
            case "replace":
                holder[key] = draw(VALUES)
            case "remove":
                del holder[key]
            case "double" if isinstance(holder, list):
                holder.insert(key, copy.deepcopy(holder[key]))
            case "exchange":
                other, place = draw(st.sampled_from(found))
                holder[key] = copy.deepcopy(other[place]) if place in _keys(other) else None
            case _ if isinstance(holder, dict):
                holder[draw(WORDS)] = draw(VALUES)
            case _:
                holder.append(draw(VALUES))
    return document


def _keys(holder):
    return holder if isinstance(holder, dict) else range(len(holder))


def read_or_refuse(read, document):
    """What was read, or None after a refusal."""
    try:
        return read(document)
    except PoetError as error:
        check_refusal(error)
        return None


def check_refusal(error):
    """A refusal that a client may see: a code, and a few words in JSON."""
    assert error.code
    assert len(json.dumps(error.to_document(), allow_nan=False)) < 4000


def of_text(document):
    """The document as it arrives: NaN, endless integers and half characters are in the text."""
    return parse_json(json.dumps(document).encode(), LIMITS)


def graph_of(document):
    return graph_from_document(of_text(document), LIMITS)


def plan_of(document):
    return plan_from_document(of_text(document), LIMITS)


def device_of(document):
    return device_from_document(of_text(document), LIMITS)


def request_of(document):
    return request_from_document(of_text(document), LIMITS)


KINDS = {
    "graph": (graph_document(), graph_of, graph_to_document),
    "plan": (plan_document(), plan_of, plan_to_document),
    "device": (device_document(), device_of, device_to_document),
    "request": (REQUEST, request_of, request_to_document),
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_documents_are_valid_before_they_are_spoiled(kind):
    valid, read, write = KINDS[kind]
    assert read(write(read(valid))) == read(valid)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_document_is_read_or_refused(kind):
    valid, read, write = KINDS[kind]

    @settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
    @given(spoiled(valid))
    def check(document):
        value = read_or_refuse(read, document)
        if value is not None:
            # What was understood can be said again, and means the same.
            assert read(write(value)) == value
            canonical_json(write(value))

    check()


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled(plan_document()))
def test_a_spoiled_plan_is_judged_or_refused(document):
    plan = read_or_refuse(plan_of, document)
    if plan is not None:
        judgement = read_or_refuse(lambda read: verify(GRAPH, read), plan)
        assert judgement is None or judgement.peak_bytes <= plan.budget.ram_bytes


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(spoiled(REQUEST))
def test_a_spoiled_request_is_a_problem_or_refused(document):
    asked = read_or_refuse(request_of, document)
    if asked is not None:
        problem = read_or_refuse(lambda request: request.problem(), asked)
        assert problem is None or problem.budget.ram_bytes <= asked.profile.ram_bytes


@settings(max_examples=300)
@given(
    st.binary(max_size=200)
    | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace"))
)
def test_bytes_are_json_or_refused(data):
    value = read_or_refuse(lambda text: parse_json(text, LIMITS), data)
    if value is not None:
        assert value == json.loads(data)


@settings(max_examples=150)
@given(st.data())
def test_broken_json_of_a_document_is_refused(data):
    text = bytearray(json.dumps(REQUEST).encode())
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, len(text) - 1))
        match data.draw(st.sampled_from(["cut", "byte", "delete"])):
            case "cut":
                del text[place + 1 :]
            case "byte":
                text[place] = data.draw(st.integers(0, 255))
            case "delete":
                del text[place]
    read_or_refuse(lambda raw: request_from_document(parse_json(raw, LIMITS), LIMITS), bytes(text))


@settings(max_examples=150)
@given(st.text(max_size=100), st.integers(0, 2**64))
def test_toml_of_a_device_is_read_or_refused(text, number):
    lines = (text, f"ram_bytes = {number}\n{text}", f'name = "{text}"\nram_bytes = {number}')
    for toml in lines:
        read_or_refuse(read_device_toml, toml.encode("utf-8", "replace"))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_many_spoiled_documents_are_read_or_refused(kind):
    valid, read, write = KINDS[kind]

    @settings(max_examples=5000, suppress_health_check=[HealthCheck.too_slow])
    @given(spoiled(valid))
    def check(document):
        value = read_or_refuse(read, document)
        assert value is None or read(write(value)) == value

    check()
