"""TrainingGraph: what contradicts itself is refused by name; document order gives the versions."""

from dataclasses import FrozenInstanceError, replace
from random import Random

import pytest

from poet_core.errors import GraphError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from tests.core.training_step import (
    BACK_X2,
    GRAPH,
    GW1,
    GW2,
    LAYER1,
    LAYER2,
    M1,
    UPDATE1,
    UPDATE2,
    W1,
    W2,
    X,
)
from tests.oracles.generate import random_graph


def storage(number: int, **changes: object) -> Storage:
    return replace(Storage(id=number, name="s", size_bytes=1, role=Role.ACTIVATION), **changes)


def op(number: int, reads: str = "", writes: str = "", mutates: str = "", **changes: object) -> Op:
    ids = [tuple(int(digit) for digit in digits) for digits in (reads, writes, mutates)]
    plain = Op(id=number, name="o", kind="k", phase=Phase.FORWARD, reads=ids[0], writes=ids[1],
               mutates=ids[2])  # fmt: skip
    return replace(plain, **changes)


def graph(storages: list[Storage], *ops: Op, **changes: object) -> TrainingGraph:
    return TrainingGraph(storages=tuple(storages), ops=ops, **changes)


@pytest.mark.parametrize(
    ("code", "make"),
    [
        ("graph_empty", lambda: graph([])),
        ("graph_storage_id", lambda: graph([storage(1)], op(0, writes="0"))),
        ("graph_op_id", lambda: graph([storage(0)], op(1, writes="0"))),
        ("graph_negative", lambda: graph([storage(0, size_bytes=-1)], op(0, writes="0"))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", flops=-1))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", workspace_bytes=-1))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", bytes_moved=-1))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", seconds=-1.0))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", seconds=float("nan")))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0", seconds=float("inf")))),
        ("graph_negative", lambda: graph([storage(0)], op(0, writes="0"), rng_state_bytes=-1)),
        ("graph_unknown_storage", lambda: graph([storage(0)], op(0, writes="01"))),
        ("graph_touches_twice", lambda: graph([storage(0)], op(0, writes="00"))),
        ("graph_touches_twice",
         lambda: graph([storage(0, persistent=True)], op(0, reads="0", mutates="0"))),
        ("graph_never_written", lambda: graph([storage(0), storage(1)], op(0, writes="0"))),
        ("graph_order",
         lambda: graph([storage(0), storage(1)], op(0, reads="0", writes="1"), op(1, writes="0"))),
        ("graph_order", lambda: graph([storage(0)], op(0, mutates="0"))),
        ("graph_cyclic",
         lambda: graph([storage(0), storage(1)], op(0, reads="0", writes="1"),
                       op(1, reads="1", writes="0"))),
    ],
    ids=(f"case{number}" for number in range(18)),
)  # fmt: skip
def test_a_graph_that_contradicts_itself_is_refused(code: str, make: object) -> None:
    with pytest.raises(GraphError) as caught:
        make()
    assert caught.value.code == code


def test_a_cycle_is_named_and_a_bad_order_says_what_to_do() -> None:
    three = [storage(0), storage(1), storage(2)]
    with pytest.raises(GraphError, match=r"cycle through \[") as caught:
        graph(three, op(0, reads="2", writes="0"), op(1, reads="0", writes="1"),
              op(2, reads="1", writes="2"))  # fmt: skip
    assert "unroll" in caught.value.hint
    assert caught.value.details == {"op": 0, "storage": 2}
    with pytest.raises(GraphError) as caught:
        graph(three, op(0, reads="2", writes="0"), op(1, writes="1"), op(2, writes="2"))
    assert "order" in caught.value.hint


def test_hostile_names_are_shown_harmlessly() -> None:
    named = storage(0, name="\x1b[2J<script>\n\u202e")
    with pytest.raises(GraphError) as caught:
        graph([named], op(0, reads="0", name="o\r\n"), op(1, writes="0"))
    assert caught.value.message.isprintable()


def test_document_order_gives_the_versions() -> None:
    versions = GRAPH.versions
    assert versions.need[LAYER1][W1] == 0
    assert versions.need[UPDATE1] == {GW1: 0, W1: 0, M1: 0}
    assert versions.gives[UPDATE1] == {W1: 1, M1: 1}
    assert versions.need[BACK_X2][W2] == 0
    assert (versions.last[W1], versions.last[W2], versions.last[X]) == (1, 1, 0)
    assert versions.gives[UPDATE2].keys() == {W2, W2 + 1}
    assert GW2 not in versions.gives[UPDATE2]
    assert LAYER2 not in versions.gives[LAYER2]


def test_a_storage_that_is_written_again_gets_the_next_version() -> None:
    made = graph([storage(0), storage(1, role=Role.INPUT)],
                 op(0, writes="0"), op(1, reads="0", mutates="1"), op(2, writes="01"),
                 op(3, mutates="0", reads="1"))  # fmt: skip
    assert made.versions.gives == ({0: 0}, {1: 1}, {0: 1, 1: 2}, {0: 2})
    assert made.versions.need == ({}, {0: 0, 1: 0}, {}, {0: 1, 1: 2})
    assert made.versions.last == (2, 2)


def test_only_persistent_storages_and_inputs_begin_with_a_version() -> None:
    made = graph([storage(0, role=Role.INPUT), storage(1, persistent=True), storage(2)],
                 op(0, reads="01", writes="2"))  # fmt: skip
    assert [made.begins_resident(i) for i in range(3)] == [True, True, False]


def test_an_op_touches_what_it_names() -> None:
    assert GRAPH.ops[UPDATE1].touches == (GW1, W1, M1)


def test_a_graph_does_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        GRAPH.name = "other"


def test_versions_of_random_graphs_match_a_replay_of_document_order() -> None:
    rng = Random(2)
    for _ in range(300):
        made = random_graph(rng)
        counts = {s.id: 0 for s in made.storages if s.persistent or s.role is Role.INPUT}
        for one in made.ops:
            assert made.versions.need[one.id] == {s: counts[s] for s in one.reads + one.mutates}
            for s in one.writes + one.mutates:
                counts[s] = counts.get(s, -1) + 1
            assert all(made.versions.gives[one.id][s] == counts[s] for s in one.writes)
        assert dict(enumerate(made.versions.last)) == counts
