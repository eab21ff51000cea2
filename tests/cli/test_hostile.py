"""Wrong and hostile documents: a clear exit code with a machine-readable code, and no harm."""

import copy
import dataclasses
import json

import pytest

from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.plan_document import plan_to_document
from tests.cli.conftest import plan_for, poet_process, write

TEXTS = {
    "empty": (b"", "document_not_json"),
    "not UTF-8": (b"\xff\xfe", "document_not_json"),
    "deep": (b"[" * 10**5, "document_too_deep"),
    "NaN": (b'{"schema": NaN}', "not_finite"),
    "duplicate keys": (b'{"a": 1, "a": 2}', "duplicate_key"),
    "a huge integer": (b'{"schema": 1' + b"0" * 5000 + b"}", "out_of_range"),
    "no object": (b"[]", "wrong_type"),
    "another schema": (b'{"schema": "x", "storages": [], "ops": []}', "wrong_schema"),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_is_no_graph(poet, tmp_path, name):
    text, code = TEXTS[name]
    (tmp_path / "bad.json").write_bytes(text)
    result = poet("plan", "bad.json", "--device", "mkr1000", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)
    assert "bad.json" in result.json["error"]["detail"]


GRAPHS = {
    "a billion ops by id": (("ops", 0, "id"), 10**9, "graph_op_id"),
    "a billion storages by id": (("storages", 0, "id"), 10**9, "graph_storage_id"),
    "unknown storage": (("ops", 0, "reads"), [999], "graph_unknown_storage"),
    "cyclic": (("ops", 0, "reads"), [3], "graph_cyclic"),
    "negative bytes": (("storages", 0, "bytes"), -1, "out_of_range"),
    "unknown field": (("command",), "rm -rf /", "unknown_field"),
    "too many bytes": (("storages", 0, "bytes"), 2**53 - 1, "graph_too_large"),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_that_makes_no_sense(poet, documents, name):
    path, value, code = GRAPHS[name]
    document = json.loads((documents / "graph.json").read_text())
    target = document
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    write(documents / "bad.json", document)
    result = poet("plan", "bad.json", "--device", "mkr1000", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


@pytest.mark.parametrize("command", ["verify", "show"])
def test_files_that_are_not_there_or_not_files(poet, documents, command):
    for graph, plan in (("none.json", "plan.json"), ("graph.json", "."), ("a\x1bb", "plan.json")):
        result = poet(command, graph, plan)
        assert (result.code, "[file_unreadable]" in result.err) == (2, True)
        assert "\x1b" not in result.err


def test_an_endless_file(poet, documents):
    result = poet("verify", "/dev/zero", "plan.json", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "document_too_large")


def test_a_plan_that_the_judge_refuses(poet, documents, graph):
    plan = plan_for(graph)
    schedule = dataclasses.replace(plan.schedule, instructions=plan.schedule.instructions[1:])
    bad = dataclasses.replace(plan, schedule=schedule)
    write(documents / "bad.json", plan_to_document(bad))
    for command in ("verify", "show"):
        result = poet(command, "graph.json", "bad.json", "--json")
        assert (result.code, result.json["error"]["code"]) == (1, "not_resident")


def test_a_plan_for_another_graph(poet, documents, graph):
    other = dataclasses.replace(graph, conditions={"threads": "7"})
    write(documents / "other.json", graph_to_document(other))
    result = poet("verify", "other.json", "plan.json", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "plan_for_other_graph")


INJECTIONS = [
    "<script>alert(1)</script><img src=x onerror=alert(2)>",
    '" onload="alert(1)" x=\'',
    "__import__('os').system('touch owned')",
    "\x1b]0;owned\x07\x1b[31m\x1b[2J\r\n",
    "[bold red]x[/bold red][link=file:///etc/passwd]y[/link]",
    "\u202egpj.exe\u2066",
    "{0.__class__}%s%n$(touch owned)`touch owned`",
    "]]></style></svg><script>1</script>",
]


@pytest.fixture(params=range(len(INJECTIONS)))
def evil(request, documents, graph):
    """graph.json and plan.json with every string an injection."""
    text = INJECTIONS[request.param]
    document = copy.deepcopy(graph_to_document(graph))
    document["name"] = text
    document["conditions"] = {"torch": text, "dtype": text, "threads": text}
    for item in document["storages"]:
        item["name"] = text
    for item in document["ops"]:
        item["name"] = item["kind"] = item["module"] = text
    write(documents / "graph.json", document)
    plan = plan_for(graph_from_document(document))
    by = dataclasses.replace(plan.planned_by, formulation=text, solver=text, status=text)
    plan = dataclasses.replace(plan, device_name=text, planned_by=by)
    write(documents / "plan.json", plan_to_document(plan))
    return text


def harmless(text):
    return not any(mark in text for mark in ("\x1b", "\r", "\x07", "\u202e", "\u2066"))


def test_injections_pass_through_every_command_harmlessly(poet, documents, evil):
    shown = poet("show", "graph.json", "plan.json", "--html", "report.html")
    assert shown.code == 0
    results = [
        shown,
        poet("verify", "graph.json", "plan.json"),
        poet("show", "graph.json", "plan.json", "--json"),
        poet("plan", "graph.json", "--device", "mkr1000", "--ram", "1KiB"),
        poet("plan", "graph.json", "--device", "mkr1000", "--ram", "1KiB", "--json"),
        poet("plan", "graph.json", "--device", evil),
        poet("plan", "graph.json", "--device", "mkr1000", "--server", evil),
        poet("trace", evil),
        poet("devices", "show", evil),
        poet(evil),
    ]
    assert [item.code for item in results] == [0, 0, 0, 1, 1, 2, 2, 2, 2, 2]
    assert all(harmless(item.out + item.err) for item in results)
    page = (documents / "report.html").read_text()
    assert harmless(page)
    for mark in ("<script", "<img", 'onload="', "javascript:", "</svg><"):
        assert mark not in page
    assert page.count("<svg") == page.count("</svg>") == 1
    assert page.count("<style") == page.count("</style>") == 1
    assert not (documents / "owned").exists()


def test_injections_through_the_commands_that_plan_and_place(poet, documents, evil):
    device = ("--device", "raspberry-pi-4b")
    quick = ("--seconds", "1")
    results = [
        poet("frontier", "graph.json", *device, "--points", "2", "--jobs", "1", "--moves", "50",
             *quick, "--plot", "frontier.svg"),
        poet("least-ram", "graph.json", *device, "--overhead", "10%", *quick),
        poet("addresses", "graph.json", "plan.json", "--plan-out", "shifted.json"),
    ]  # fmt: skip
    assert [item.code for item in results] == [0, 0, 0], results
    assert all(harmless(item.out + item.err) for item in results)
    picture = (documents / "frontier.svg").read_text()
    assert harmless(picture)
    assert "<script" not in picture


def test_markup_in_a_name_is_shown_as_it_is_written(poet, documents, graph):
    document = graph_to_document(graph)
    document["storages"][0]["name"] = "[bold]weight[/bold]"
    write(documents / "graph.json", document)
    write(documents / "plan.json", plan_to_document(plan_for(graph_from_document(document))))
    assert "[bold]weight[/bold]" in poet("show", "graph.json", "plan.json").out


def test_an_unexpected_fault_is_one_line(poet, documents, monkeypatch):
    def broken(*arguments):
        raise ZeroDivisionError("a fault of ours \x1b[31m")

    monkeypatch.setattr("poet_core.verify.verify", broken)
    result = poet("verify", "graph.json", "plan.json")
    assert result.code == 4
    assert "ZeroDivisionError" in result.err
    assert "POET_DEBUG=1" in result.err
    assert "\x1b" not in result.err
    as_json = poet("verify", "graph.json", "plan.json", "--json")
    assert (as_json.code, as_json.json["error"]["code"]) == (4, "internal")


def test_the_traceback_is_there_for_who_asks(documents):
    result = poet_process("verify", "none.json", "plan.json", cwd=documents, POET_DEBUG="1")
    assert result.returncode == 2
    assert "Traceback" in result.stderr
