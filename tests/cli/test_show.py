"""poet show and verify: the chart, the residents at the peak, the page."""

import dataclasses

import pytest

from poet_cli.chart import ASCII, UNICODE, Timeline, downsampled, glyphs_for, memory_chart
from poet_cli.residency import residents
from poet_cli.timeline import BOTH, phase_starts, timeline_of
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Do, Instruction, PlannedBy, Schedule
from poet_core.plan_request import PlanRequest
from poet_core.simulate import simulate
from tests.cli.conftest import plan_for, poet_process


def eventful():
    """A plan with everything: paging, a random op that runs again, workspace, an overwrite."""
    storages = (
        Storage(id=0, name="w", size_bytes=100, role=Role.PARAMETER, persistent=True),
        Storage(id=1, name="x", size_bytes=30, role=Role.INPUT),
        Storage(id=2, name="mask", size_bytes=50, role=Role.ACTIVATION),
        Storage(id=3, name="loss", size_bytes=4, role=Role.RESULT, result=True),
        Storage(id=4, name="nothing", size_bytes=0, role=Role.ACTIVATION),
    )
    ops = (
        Op(id=0, name="drop", kind="d", phase=Phase.FORWARD, reads=(1,), writes=(2, 4), random=True,
           workspace_bytes=13),
        Op(id=1, name="loss", kind="l", phase=Phase.FORWARD, reads=(2, 0), writes=(3,)),
        Op(id=2, name="again", kind="l", phase=Phase.BACKWARD, reads=(2,), writes=(3,)),
        Op(id=3, name="update", kind="u", phase=Phase.UPDATE, reads=(3,), mutates=(0,),
           recomputable=False),
    )  # fmt: skip
    graph = TrainingGraph(storages=storages, ops=ops, rng_state_bytes=70)
    text = "C0 I0 C1 F0 F2 C0 O2 F2 I2 C2 F1 F2 I0 C3 O0 F0"
    doing = {"C": Do.COMPUTE, "I": Do.PAGE_IN, "O": Do.PAGE_OUT, "F": Do.FREE}
    schedule = Schedule(
        start_ram=(),
        start_flash=(0,),
        instructions=tuple(Instruction(doing[item[0]], int(item[1:])) for item in text.split()),
    )
    problem = PlanRequest(graph=graph, device="mkr1000", ram_bytes=2000).problem()
    judgement = simulate(graph, problem.costs, problem.budget, schedule)
    plan = dataclasses.replace(
        plan_for(graph),
        graph_sha256=graph_sha256(graph),
        budget=problem.budget,
        schedule=schedule,
        claims=judgement.claims,
        planned_by=PlannedBy(formulation="by hand", solver="", status="", wall_seconds=0.0),
    )
    return graph, plan, judgement


def test_the_residents_add_up_to_the_judges_figure_at_every_instruction(graph):
    kept = plan_for(graph)
    for step, plan, judgement in (
        eventful(),
        (graph, kept, simulate(graph, kept.costs, kept.budget, kept.schedule)),
    ):
        figures = [judgement.initial_bytes, *judgement.memory_bytes]
        sums = [
            sum(item.size_bytes for item in residents(step, plan.budget, plan.schedule, position))
            for position in range(-1, len(figures) - 1)
        ]
        assert sums == figures


def test_what_is_resident_is_named():
    step, plan, _ = eventful()
    names = {item.name: item for item in residents(step, plan.budget, plan.schedule, 9)}
    assert set(names) == {"x", "mask", "loss", "loss (new copy)"}
    assert names["mask"].touched
    assert not names["x"].touched
    second_run = {item.name for item in residents(step, plan.budget, plan.schedule, 5)}
    assert {"workspace of the op", "generator states"} <= second_run


def test_show_draws_the_memory_and_names_the_peak(poet, documents):
    result = poet("show", "graph.json", "plan.json")
    assert result.code == 0
    assert "█" in result.out
    assert "┤" in result.out
    assert "in RAM there" in result.out
    for name in ("weight", "activation0", "gradient2"):
        assert name in result.out


def test_show_as_json(poet, documents):
    answer = poet("show", "graph.json", "plan.json", "--json").json
    assert sum(item["bytes"] for item in answer["at_peak"]) == answer["peak_bytes"]
    assert max(answer["memory_bytes"]) == answer["peak_bytes"]
    assert answer["memory_bytes"][answer["peak_instruction"]] == answer["peak_bytes"]
    assert answer["phases"][0] == {"phase": "forward", "instruction": 0}


def test_the_page_is_whole_and_asks_nobody(poet, documents):
    assert poet("show", "graph.json", "plan.json", "--html", "report.html").code == 0
    page = (documents / "report.html").read_text()
    assert page.startswith("<!doctype html>")
    assert "default-src 'none'" in page
    assert "http://" not in page
    assert "https://" not in page
    assert page.count("<svg") == 1
    assert "activation0" in page


def test_verify_says_what_it_accepted(poet, documents):
    assert poet("verify", "graph.json", "plan.json").out.startswith("accepted; fits: peak")
    answer = poet("verify", "graph.json", "plan.json", "--json").json
    assert answer["ok"]
    assert answer["time_ratio"] == 1.0


def test_a_peak_is_never_lost_in_a_narrow_chart():
    values = [1] * 1000
    values[777] = 50
    for width in (1, 7, 80, 999):
        assert max(downsampled(values, width)) == 50
    assert downsampled([], 5) == [0]
    assert downsampled([3, 4], 5) == [3, 4]


def lines_of(timeline, **how):
    return ["".join(text for text, _ in line) for line in memory_chart(timeline, **how)]


@pytest.mark.parametrize("glyphs", [UNICODE, ASCII])
@pytest.mark.parametrize("width", [5, 40, 80, 157])
@pytest.mark.parametrize("count", [1, 3, 70, 1001])
def test_the_chart_keeps_to_its_width_and_shows_budget_peak_and_phases(count, width, glyphs):
    memory = list(range(1, count + 1))
    timeline = Timeline(
        memory_bytes=memory, budget_bytes=count + count // 2, peak=count - 1,
        phases=(("forward", 0), ("backward", count // 2), ("update", count - 1)),
        paged_in=[0], paged_out=[0, count // 2], again=[count - 1],
    )  # fmt: skip
    lines = lines_of(timeline, width=width, height=8, glyphs=glyphs)
    assert max(map(len, lines)) <= max(width, 21)
    assert lines[0].endswith("budget")
    text = "\n".join(lines)
    assert text.count(glyphs.peak) == 1
    assert text.count(glyphs.tick + glyphs.budget) == 1 or glyphs is ASCII
    if width >= 80:
        assert f"peak {count} B" in text
        assert "flash" in text
        assert glyphs.both in text
        assert glyphs.again in text
    if glyphs is ASCII:
        assert text.isascii()


def test_the_marker_stands_on_the_peaks_bar():
    memory = [10, 20, 80, 30]
    timeline = Timeline(memory_bytes=memory, budget_bytes=100, peak=2)
    lines = lines_of(timeline, width=51, height=10)  # 40 columns: ten an instruction
    column = 11 + 20
    marker = next(number for number, line in enumerate(lines) if UNICODE.peak in line)
    assert lines[marker][column] == UNICODE.peak
    assert lines[marker + 1][column] == "█"
    assert all("█" not in line for line in lines[:marker])


def test_a_budget_far_above_the_peak_is_named_not_drawn():
    timeline = Timeline(memory_bytes=[10, 20], budget_bytes=10**6)
    lines = lines_of(timeline, width=60, height=4)
    assert "budget 977 KiB, above" in lines[0]
    assert "20 B" in lines[2]  # the scale ends at the peak


def test_no_memory_at_all_is_drawn_too():
    assert lines_of(Timeline(memory_bytes=[], budget_bytes=5, peak=-1), width=30)


def test_phases_and_events_of_a_plan():
    step, plan, judgement = eventful()
    timeline = timeline_of(step, plan, judgement)
    assert phase_starts(step, plan) == (("forward", 0), ("backward", 9), ("update", 13))
    assert timeline.paged_in == [1, 8, 12]
    assert timeline.paged_out == [6, 14]
    assert timeline.again == [5]
    assert timeline.memory_bytes[timeline.peak] == judgement.peak_bytes == timeline.peak_bytes


def test_updates_amid_the_backward_pass_are_said():
    step, plan, _ = eventful()
    ops = [dataclasses.replace(op) for op in step.ops]
    ops[1] = dataclasses.replace(ops[1], phase=Phase.UPDATE)
    mixed = TrainingGraph(storages=step.storages, ops=tuple(ops))
    assert (BOTH, 2) in phase_starts(mixed, plan)


@pytest.mark.parametrize(
    ("encoding", "glyphs"),
    [("utf-8", UNICODE), ("ascii", ASCII), ("latin-1", ASCII), (None, ASCII), ("none", ASCII)],
)
def test_what_a_terminal_cannot_show_is_not_sent(encoding, glyphs):
    assert glyphs_for(encoding) is glyphs


def test_a_terminal_without_unicode_gets_ascii(documents):
    result = poet_process(
        "show", "graph.json", "plan.json", cwd=documents, PYTHONIOENCODING="ascii", COLUMNS="80"
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.isascii()
    assert "#" in result.stdout
    assert "v peak" in result.stdout


def test_colours_are_for_those_who_want_them(poet, documents, monkeypatch):
    assert "\x1b" not in poet("show", "graph.json", "plan.json").out
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[36m" in poet("show", "graph.json", "plan.json").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in poet("show", "graph.json", "plan.json").out


def test_the_width_is_the_terminals(poet, documents, monkeypatch):
    for columns in (40, 80, 120):
        monkeypatch.setenv("COLUMNS", str(columns))
        chart = poet("show", "graph.json", "plan.json").out.split("\n\n")[0]
        assert max(map(len, chart.splitlines())) == columns
