"""poet addresses: two files that belong together, one line, the verdict, and Ctrl-C."""

import json
import re
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from poet_core.errors import DocumentError
from poet_core.graph import Role, TrainingGraph
from poet_core.graph_document import graph_to_document
from poet_core.plan import Budget
from poet_core.plan_document import plan_to_document, read_plan
from poet_core.verify import verify
from poet_solvers.addresses import place, read_addresses, shifted
from tests.cli.conftest import plan_for, write
from tests.solvers.test_addresses import FREE, ROOMY, C, op, plan_of, schedule_of, storage
from tests.solvers.test_addresses_moves import VGG_WINDOW
from tests.solvers.test_addresses_shift import LATE, wide_graph


@pytest.fixture(scope="module")
def tight():
    """A graph and a plan that has its peak for RAM; no layout at fixed addresses is that small, as
    the test of these blocks shows by trying all."""
    count = 1 + max(last for *_, last in VGG_WINDOW)
    written_by, read_by = ([[] for _ in range(count)] for _ in range(2))
    for number, (_, first, last) in enumerate(VGG_WINDOW):
        written_by[first].append(number)
        if last != first:
            read_by[last].append(number)
    graph = TrainingGraph(
        storages=tuple(
            storage(number, units, Role.ACTIVATION) for number, (units, *_) in enumerate(VGG_WINDOW)
        ),
        ops=tuple(
            op(at, reads=tuple(read_by[at]), writes=tuple(written_by[at])) for at in range(count)
        ),
    )
    steps = []
    for at in range(count):
        steps += [(C, at), *((FREE, n) for n, (*_, last) in enumerate(VGG_WINDOW) if last == at)]
    return graph, plan_of(
        graph, schedule_of((), *steps), Budget(ram_bytes=27 + 3, reserved_bytes=3)
    )


def put(folder, graph, plan):
    write(folder / "graph.json", graph_to_document(graph))
    write(folder / "plan.json", plan_to_document(plan))


def written(folder, graph, name="addresses.json", plan_name="shifted.plan.json"):
    """The two files, read as a stranger reads them: judged and checked."""
    plan = read_plan((folder / plan_name).read_bytes())
    return plan, read_addresses((folder / name).read_bytes(), graph, plan)


def test_the_arena_and_its_plan_are_written_and_hold(poet, documents, graph):
    result = poet("addresses", "graph.json", "plan.json")
    plan, found = written(documents, graph)
    assert (result.code, result.err) == (0, "")
    assert result.out.count("\n") == 1
    assert f"({found.arena_bytes} bytes)" in result.out
    assert ", 1.0000 of the peak, within the RAM budget of 32.0 KiB\n" in result.out
    assert verify(graph, plan).peak_bytes == found.peak_bytes


def test_the_plan_with_shorter_stays_is_the_one_of_the_addresses(poet, tmp_path):
    graph = wide_graph()
    given = plan_of(graph, schedule_of((), *LATE), ROOMY)
    put(tmp_path, graph, given)
    assert poet("addresses", "graph.json", "plan.json").code == 0
    plan, found = written(tmp_path, graph)
    assert plan == shifted(graph, given) != given
    assert found.arena_bytes <= plan.claims.peak_bytes < given.claims.peak_bytes
    with pytest.raises(DocumentError, match="expected the plan's"):
        read_addresses((tmp_path / "addresses.json").read_bytes(), graph, given)


def test_as_json(poet, documents, graph):
    answer = poet("addresses", "graph.json", "plan.json", "--json").json
    plan, found = written(documents, graph)
    assert answer == {
        "ok": True,
        "addresses": "addresses.json",
        "plan": "shifted.plan.json",
        "arena_bytes": found.arena_bytes,
        "peak_bytes": verify(graph, plan).peak_bytes,
        "ratio": 1.0,
        "ram_bytes": 32768,
        "reserved_bytes": 0,
        "spare_bytes": 32768 - found.arena_bytes,
        "moves": 0,
        "moved_bytes": 0,
        "found_by": found.found_by,
    }


def test_an_arena_above_the_budget_is_written_and_exit_code_1(poet, tmp_path, tight):
    put(tmp_path, *tight)
    call = ("addresses", "graph.json", "plan.json", "--seconds", "0.2")
    result = poet(*call)
    plan, found = written(tmp_path, tight[0])
    above = found.arena_bytes + plan.budget.reserved_bytes - plan.budget.ram_bytes
    assert result.code == 1
    assert above > 0
    assert result.out.count("\n") == 1
    assert f" of the peak, {above} bytes above the RAM budget of " in result.out
    assert "hint: try --allow-moves, or plan with less RAM, such as --ram " in result.err
    less_bytes = int(re.search(r"--ram (\d+)B", result.err)[1])
    assert plan.budget.reserved_bytes < less_bytes < plan.budget.ram_bytes
    answer = poet(*call, "--json")
    assert (answer.code, answer.err) == (1, "")
    assert (answer.json["ok"], answer.json["spare_bytes"]) == (False, -above)


def test_moves_bring_it_within_the_budget_and_are_told(poet, tmp_path, tight):
    put(tmp_path, *tight)
    result = poet("addresses", "graph.json", "plan.json", "--allow-moves", "--seconds", "0.4")
    plan, found = written(tmp_path, tight[0])
    assert (result.code, result.err) == (0, "")
    assert found.moves
    assert found.arena_bytes + plan.budget.reserved_bytes <= plan.budget.ram_bytes
    told = f"; moves: {len(found.moves)}, {found.moved_bytes} bytes copied a step\n"
    assert result.out.endswith(told)


def test_reserved_bytes_count_against_the_budget(poet, tmp_path, graph):
    plan = plan_for(graph)
    spent_bytes = plan.claims.peak_bytes
    plan = replace(
        plan,
        budget=replace(plan.budget, reserved_bytes=7, ram_bytes=spent_bytes + 7),
        claims=replace(plan.claims, peak_bytes=spent_bytes + 7),
    )
    put(tmp_path, graph, plan)
    result = poet("addresses", "graph.json", "plan.json")
    assert result.code == 0
    assert " bytes + 7 reserved), 1.0000 of the peak, within " in result.out
    answer = poet("addresses", "graph.json", "plan.json", "--json").json
    assert answer["arena_bytes"] + 7 + answer["spare_bytes"] == spent_bytes + 7


def test_the_plan_goes_beside_the_addresses_or_where_it_is_told(poet, documents, graph):
    (documents / "out").mkdir()
    assert poet("addresses", "graph.json", "plan.json", "-o", "out/a.json").code == 0
    written(documents / "out", graph, "a.json")
    call = ("addresses", "graph.json", "plan.json", "-o", "-", "--plan-out", "b.json")
    result = poet(*call)
    assert result.code == 0
    plan = read_plan((documents / "b.json").read_bytes())
    assert read_addresses(result.out, graph, plan).ratio == 1
    assert not (documents / "addresses.json").exists()


def test_the_same_seed_gives_the_same_file(poet, documents):
    for name in ("one.json", "two.json"):
        assert poet("addresses", "graph.json", "plan.json", "-o", name, "--seed", "3").code == 0
    assert (documents / "one.json").read_bytes() == (documents / "two.json").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("none.json", "plan.json"), "file_unreadable"),
        (("graph.json", "graph.json"), "unknown_field"),
        (("graph.json", "plan.json", "--seconds", "0"), "usage"),
        (("graph.json", "plan.json", "--seed", "-1"), "usage"),
        (("graph.json", "plan.json", "-o", "none/a.json", "--plan-out", "p"), "file_unwritable"),
        (("graph.json", "plan.json", "-o", "a", "--plan-out", "../{here}/a"), "output_twice"),
        (("graph.json", "plan.json", "-o", "-", "--plan-out", "-"), "output_twice"),
        (("graph.json", "plan.json", "-o", "shifted.plan.json"), "output_twice"),
        (("graph.json", "plan.json", "-o", "plan.json"), "output_is_input"),
        (("graph.json", "plan.json", "--plan-out", "./graph.json"), "output_is_input"),
    ],
)
def test_every_wrong_usage_has_its_code_and_a_hint(poet, documents, arguments, code):
    arguments = [item.format(here=documents.name) for item in arguments]
    result = poet("addresses", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)
    assert result.json["error"]["hint"]
    assert not (documents / "addresses.json").exists()


def test_a_plan_that_the_judge_refuses_gets_no_addresses(poet, documents, graph):
    plan = plan_for(graph)
    lying = replace(plan, claims=replace(plan.claims, peak_bytes=plan.claims.peak_bytes - 1))
    write(documents / "plan.json", plan_to_document(lying))
    result = poet("addresses", "graph.json", "plan.json", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "claim_mismatch")
    assert sorted(item.name for item in documents.iterdir()) == ["graph.json", "plan.json"]


def test_ctrl_c_keeps_the_lowest_arena_so_far(poet, tmp_path, tight, monkeypatch):
    def stopped(work, stopping):
        cancel = threading.Event()
        cancel.set()
        return work(cancel), True

    monkeypatch.setattr("poet_cli.commands.addresses.interruptible", stopped)
    put(tmp_path, *tight)
    # Effort and seconds without end: only the cancellation can stop this search.
    monkeypatch.setitem(place.__kwdefaults__, "looks", 10**15)
    result = poet("addresses", "graph.json", "plan.json", "--seconds", "86400", "--json")
    assert result.code == 130
    _, found = written(tmp_path, tight[0])
    assert found.found_by.startswith("greedy")
    assert json.loads(result.out)["arena_bytes"] == found.arena_bytes


def test_every_option_is_documented(poet):
    text = (Path(__file__).resolve().parents[2] / "docs" / "cli.md").read_text(encoding="utf-8")
    section = text[text.index("## Addresses") :].split("\n## ")[0]
    known = set(
        re.findall(r"--[a-z][a-z-]+", poet("addresses", "--help").out.split("Examples:")[0])
    )
    assert len(known) >= 6
    missing = [
        option for option in known - {"--output", "--help", "--json"} if option not in section
    ]
    assert missing == []
