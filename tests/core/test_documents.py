"""Texts from strangers: each is refused with a code and a path, and none costs more than it weighs."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_core import documents, graph, graph_document, plan_document
from poet_core.documents import Limits, Node, canonical_json, describe, parse_json, sha256_of
from poet_core.errors import DocumentError, GraphError
from poet_core.graph_document import (
    graph_from_document,
    graph_sha256,
    read_graph,
)
from poet_core.plan_document import plan_to_document, read_plan
from tests.core.documents import PLAN, changed
from tests.core.documents import graph_document as graph_json
from tests.core.documents import plan_document as plan_json
from tests.core.training_step import GRAPH

GOLDEN = Path(__file__).parents[1] / "golden" / "training_step.graph.json"


def refusal(text: bytes | str, limits: Limits | None = None) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        parse_json(text, limits or Limits())
    return caught.value


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "document_not_json"),
        ("{", "document_not_json"),
        ("{'a': 1}", "document_not_json"),
        ("[1,]", "document_not_json"),
        ("01", "document_not_json"),
        ('"\t"', "document_not_json"),
        ("{} {}", "document_not_json"),
        (b"\xff", "document_not_json"),
        (b"\xef\xbb\xbf{}", "document_not_json"),
        ("\ufeff{}", "document_not_json"),
        ('{"a":1}'.encode("utf-16"), "document_not_json"),
        ('"\ud800"', "document_not_json"),
        ("NaN", "not_finite"),
        ("[Infinity]", "not_finite"),
        ("-Infinity", "not_finite"),
        ("1e400", "not_finite"),
        ("-1e400", "not_finite"),
        ("9007199254740992", "out_of_range"),
        ("-9007199254740992", "out_of_range"),
        ("1" + "0" * 100_000, "out_of_range"),
        ("-" + "9" * 18, "out_of_range"),
        ('{"a":1,"a":1}', "duplicate_key"),
        (r'{"a":1,"\u0061":2}', "duplicate_key"),
        ('{"x":{"deep":{"k":1,"k":2}}}', "duplicate_key"),
        ("[" * 100_000, "document_too_deep"),
        ("[" * 17 + "]" * 17, "document_too_deep"),
        ('{"a":' * 100_000, "document_too_deep"),
        ('[{"a":' * 50_000 + "}]" * 50_000, "document_too_deep"),
    ],
)
def test_a_text_that_is_no_strict_json_is_refused(text: bytes | str, code: str) -> None:
    error = refusal(text)
    assert error.code == code
    assert error.details["path"] == "$"
    assert len(str(error)) < 500


def test_brackets_inside_strings_are_no_depth() -> None:
    assert parse_json(json.dumps(["[" * 50, '"[' * 20, "\\[" * 20])) is not None
    assert parse_json("[" * 16 + "]" * 16) is not None


@pytest.mark.parametrize("run", range(1, 6))
def test_backslashes_before_a_quote_hide_no_depth(run: int) -> None:
    """An even run of them ends the string: what follows is depth. An odd one does not."""
    hidden = '["' + "\\" * run + '"' + "[" * 20
    assert refusal(hidden).code == ("document_too_deep" if run % 2 == 0 else "document_not_json")


def test_more_quotes_than_the_values_could_have() -> None:
    assert refusal(b'"' * 17, Limits(values=4)).code == "limit_exceeded"
    assert parse_json(b'{"a":"b","c":"d"}', Limits(values=2)) == {"a": "b", "c": "d"}


@pytest.mark.parametrize(
    "text",
    [
        b'"' + b'\\"' * 500_000,
        b'"' + b"\\" * 1_000_001,
        b'"' * 1_000_001,
        b'["' + b"a" * 1_000_000,
    ],
)
def test_the_depth_check_reads_a_text_once(text: bytes) -> None:
    """An unterminated string used to be scanned again from each of its quotes: hours for 1 MB."""
    begin = time.process_time()
    refusal(text)
    assert time.process_time() - begin < 5


def test_size_and_values_are_bounded_before_parsing() -> None:
    assert refusal(b"[1]", Limits(document_bytes=2)).code == "document_too_large"
    assert refusal(b"[1,1,1,1]", Limits(values=3)).code == "limit_exceeded"
    assert parse_json(b"[1,1,1,1]", Limits(values=4)) == [1, 1, 1, 1]


@given(st.binary(max_size=200))
def test_no_bytes_do_worse_than_a_document_error(data: bytes) -> None:
    try:
        parse_json(data)
    except DocumentError as error:
        assert error.code  # noqa: PT017 - both outcomes are right, any other exception is not


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10).filter(lambda text: text.isascii() or text.isprintable()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=20,
)  # fmt: skip


@given(json_values)
def test_canonical_json_is_a_fixed_point(value: object) -> None:
    text = canonical_json(value)
    text.decode("ascii")
    assert canonical_json(parse_json(text)) == text


def test_canonical_json_does_not_depend_on_order_or_layout() -> None:
    assert canonical_json({"b": 1, "a": [1.0, "é"]}) == rb'{"a":[1.0,"\u00e9"],"b":1}'
    one, two = '{"a": 1, "b": 2}', ' {"b":2,\n"a":1 }'
    assert sha256_of(parse_json(one)) == sha256_of(parse_json(two))
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_a_graph_keeps_its_hash() -> None:
    """The golden file was written once; a change of hash would orphan every saved plan."""
    golden = read_graph(GOLDEN.read_bytes())
    assert golden == GRAPH
    assert graph_sha256(golden) == GOLDEN_SHA256


GOLDEN_SHA256 = "ccfcad2a09db1fa21b1055d19805768d5978aad54ef6d7468a7a17a17e9e64cb"


def test_equal_graphs_have_equal_hashes_and_others_have_not() -> None:
    bare = graph_json()
    for op in bare["ops"]:
        del op["module"], op["seconds"]
    del bare["name"]
    bare["name"] = GRAPH.name
    assert graph_sha256(graph_from_document(bare)) == graph_sha256(GRAPH)
    hashes = {graph_sha256(GRAPH)}
    for path, value in (
        (("rng_state_bytes",), 3), (("storages", 0, "bytes"), 9), (("storages", 5, "result"), True),
        (("ops", 2, "recomputable"), False), (("ops", 3, "name"), "n"),
        (("conditions",), {"threads": "1"}),
    ):  # fmt: skip
        hashes.add(graph_sha256(graph_from_document(changed(graph_json(), path, value))))
    assert len(hashes) == 7


def test_a_step_named_or_timed_again_still_finds_its_plan() -> None:
    ops = (replace(GRAPH.ops[0], seconds=1.5), *GRAPH.ops[1:])
    assert graph_sha256(replace(GRAPH, name="another", ops=ops)) == graph_sha256(GRAPH)


def test_documents_survive_the_round_trip() -> None:
    assert read_graph(json.dumps(graph_json())) == GRAPH
    assert read_plan(json.dumps(plan_json())) == PLAN
    assert plan_to_document(read_plan(json.dumps(plan_json()))) == plan_json()


@pytest.mark.parametrize(
    ("path", "value", "code", "where"),
    [
        (("ops", 3, "reads"), [0, 99], "graph_unknown_storage", None),
        (("ops", 3, "reads", 1), -1, "out_of_range", "$.ops[3].reads[1]"),
        (("ops", 3, "reads", 1), 1.0, "wrong_type", "$.ops[3].reads[1]"),
        (("ops", 3, "seconds"), -1, "out_of_range", "$.ops[3].seconds"),
        (("storages", 2, "bytes"), True, "wrong_type", "$.storages[2].bytes"),
        (("storages", 2, "bytes"), -5, "out_of_range", "$.storages[2].bytes"),
        (("storages", 2, "rank"), 1, "unknown_field", "$.storages[2].rank"),
        (("ops", 1, "phase"), "warp", "wrong_value", "$.ops[1].phase"),
        (("name",), "half \ud800 pair", "wrong_value", "$.name"),
        (("name",), "n" * 1001, "limit_exceeded", "$.name"),
        (("schema",), "poet.plan/1", "wrong_schema", "$.schema"),
        (("conditions",), {"cuda": "12"}, "unknown_field", "$.conditions.cuda"),
        (("conditions", "\x1b[31m"), "12", "unknown_field", "$.conditions.\\u001b[31m"),
    ],
)
def test_a_graph_document_error_names_the_path(
    path: tuple[str | int, ...], value: object, code: str, where: str | None
) -> None:
    text = json.dumps(changed(graph_json(), path, value))
    with pytest.raises((DocumentError, GraphError)) as caught:
        read_graph(text)
    assert caught.value.code == code
    if where is not None:
        assert caught.value.details["path"] == where


def test_counts_are_bounded_before_anything_is_built() -> None:
    limits = Limits(storages=13)
    with pytest.raises(DocumentError, match="at most 13 items, got 14"):
        read_graph(json.dumps(graph_json()), limits)
    with pytest.raises(DocumentError, match="at most 9 items, got 10"):
        read_graph(json.dumps(graph_json()), Limits(ops=9))
    with pytest.raises(DocumentError, match="references to storages"):
        read_graph(json.dumps(graph_json()), Limits(references=20))
    with pytest.raises(DocumentError, match="at most 64 items"):
        read_plan(json.dumps(changed(plan_json(), ("instructions",),
                                     [{"do": "free", "storage": 0}] * 65)), Limits(ops=1))  # fmt: skip


def test_a_claim_of_a_billion_ops_is_only_a_number() -> None:
    """Nothing is allocated for ids: they must be positions."""
    text = json.dumps(changed(graph_json(), ("ops", 0, "id"), 10**9))
    with pytest.raises(GraphError) as caught:
        read_graph(text)
    assert caught.value.code == "graph_op_id"


@pytest.mark.parametrize(
    "value", [10**400, -(10**400), float("nan"), float("inf"), b"bytes", object(), "1", True]
)
def test_a_node_refuses_what_no_json_text_can_hold(value: object) -> None:
    for read in (Node(value).integer, Node(value).number):
        with pytest.raises(DocumentError):
            read()
    assert len(describe(value)) < 80


def test_a_node_keeps_what_it_accepts() -> None:
    assert Node(5).number() == 5.0
    assert Node(2**53 - 1).integer() == 2**53 - 1
    assert Node([1, 2]).integers(2) == (1, 2)
    with pytest.raises(DocumentError):
        Node([1, 2, 3]).integers(2)
    with pytest.raises(DocumentError) as caught:
        Node([1, True]).integers(5)
    assert caught.value.details["path"] == "$[1]"


def test_the_documentation_lists_every_code_of_the_readers() -> None:
    page = (Path(__file__).parents[2] / "docs" / "documents.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([a-z_]+)` \|", page, re.MULTILINE))
    source = "".join(
        Path(module.__file__).read_text(encoding="utf-8")
        for module in (documents, graph, graph_document, plan_document)
    )
    used = set(re.findall(r'code="([a-z_]+)"', source))
    used |= set(re.findall(r'_refuse\(\s*"([a-z_]+)"', source))
    assert listed == used - {"document_invalid"}
