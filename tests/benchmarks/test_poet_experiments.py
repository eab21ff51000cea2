"""POET's experiments: budgets, methods and their judge, versions, and a run from the command line."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import poet_experiments, poet_experiments_units
from benchmarks.poet_experiments_ours import (
    GIVEN_ORDER,
    KEEP_EVERYTHING,
    OURS,
    OURS_METHODS,
    PAGE_ONLY,
    REMAT_ONLY,
)
from benchmarks.poet_experiments_points import (
    DEVICES,
    Answer,
    Method,
    Outcome,
    PointContext,
    Result,
    Scope,
    Series,
    labels_of,
    ram_bytes_of,
)
from benchmarks.poet_experiments_pool import METHODS, crowding
from benchmarks.poet_experiments_report import faults
from benchmarks.poet_experiments_run import facts_of, points_of, run_group
from benchmarks.poet_experiments_store import read_results
from benchmarks.poet_experiments_units import (
    FACTS,
    Unit,
    all_series,
    members,
    missing,
    small_series,
    traces,
    units_of,
    version_of,
)
from poet_core.baseline import keep_everything
from poet_core.errors import BudgetError, PlanningError
from poet_core.plan import Problem, Schedule

REPOSITORY = Path(__file__).resolve().parent.parent.parent
CHAIN = Series(network="poet/unit-chain-5-0.6", scope=Scope.PUBLISHED, device="raspberry-pi-4b")
ONLY = "linear-a72, published"


def method(run: Callable[[Problem, float, PointContext], Answer], name: str = "mine") -> Method:
    return Method(name=name, sources=(), run=run)


# -- series and budgets -------------------------------------------------------------------------


def test_every_network_scope_and_device_is_a_series_and_the_headline_comes_first() -> None:
    series = all_series()
    assert len(set(series)) == len(series)
    traced = {one for one in series if one.scope is not Scope.PUBLISHED}
    whole = {one for one in traced if not one.network.endswith("-split")}
    assert len(whole) == 12 * 3 * len(DEVICES)
    assert {one.device for one in series[: len(whole) // len(DEVICES)]} == {DEVICES[0]}
    assert {one.device for one in traced - whole} == {DEVICES[0]}
    assert set(small_series()) <= set(series)


def test_a_budget_is_a_share_of_keep_everything_or_above_the_floor() -> None:
    def ram_bytes(label: str) -> int | None:
        return ram_bytes_of(label, keep_bytes=1000, floor_bytes=250, device_bytes=77)

    assert (ram_bytes("60"), ram_bytes("20"), ram_bytes("device")) == (600, None, 77)
    assert (ram_bytes("floor"), ram_bytes("floor+2%"), ram_bytes("floor+10%")) == (250, 255, 275)


def test_points_come_tightest_first_and_no_two_are_the_same() -> None:
    facts = facts_of(CHAIN)
    budgets = [point.ram_bytes for point in points_of(facts)]
    assert budgets == sorted(set(budgets))
    assert budgets[0] == facts.floor_bytes
    assert budgets[-1] == facts.keep_bytes
    assert {point.label for point in points_of(facts)} <= set(labels_of(CHAIN))


def test_traces_are_shared_by_scopes_and_devices() -> None:
    wanted = traces(all_series())
    assert len(wanted) == 12 * 2 * 2
    assert {unit.series.scope for unit in wanted} == {Scope.SGD, Scope.ADAM}


def test_a_list_that_is_not_here_is_skipped_with_a_reason() -> None:
    gone = replace(CHAIN, network="poet/no-such-list")
    assert "poet/no-such-list.json" in (missing(gone) or "")
    assert missing(CHAIN) is None


# -- a method at a point ------------------------------------------------------------------------


def answers(run: Callable[[Problem, float, PointContext], Answer]) -> list[Result]:
    return run_group(CHAIN, (method(run),), 1.0)


def test_figures_are_the_judges() -> None:
    found = answers(lambda problem, *_: keep_everything(problem.graph))
    facts = facts_of(CHAIN)
    for result in found:
        if result.ram_bytes < facts.keep_bytes:
            assert result.outcome is Outcome.REFUSED
            assert "ram" in (result.said or "")
        else:
            assert result.outcome is Outcome.PLANNED
            assert (result.energy_joules, result.peak_bytes) == (
                facts.keep_joules,
                facts.keep_bytes,
            )


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (BudgetError("no", code="ram_below_floor"), Outcome.IMPOSSIBLE),
        (PlanningError("no", code="not_found_in_time"), Outcome.NOT_FOUND),
        (PlanningError("no", code="not_applicable"), Outcome.NOT_APPLICABLE),
        (ZeroDivisionError("oh"), Outcome.FAILED),
    ],
)
def test_what_a_method_raises_says_what_became_of_it(error: Exception, outcome: Outcome) -> None:
    def run(_problem: Problem, _seconds: float, _context: PointContext) -> Schedule:
        raise error

    found = answers(run)
    assert {result.outcome for result in found} == {outcome}
    assert all(str(error.args[0]) in (result.said or "") for result in found)


def test_no_answer_proves_nothing_and_methods_hear_all_budgets_and_share_what_they_know() -> None:
    heard: list[tuple[int, tuple[int, ...], int]] = []

    def run(problem: Problem, _seconds: float, context: PointContext) -> None:
        context.shared[f"{problem.budget.ram_bytes}"] = True
        heard.append((problem.budget.ram_bytes, context.budgets_bytes, len(context.shared)))

    found = answers(run)
    assert {result.outcome for result in found} == {Outcome.NOT_FOUND}
    assert [ram for ram, _, _ in heard] == list(heard[0][1])
    assert [known for _, _, known in heard] == list(range(1, len(heard) + 1))


# -- ours ---------------------------------------------------------------------------------------


def test_ours_meets_the_published_optima_and_nothing_of_ours_is_cheaper_than_ours() -> None:
    """Unit chains of POET's model, paging at 0.6 J: 15.6 J in 3 bytes, 14.0 in 4 (closed forms)."""
    found = run_group(CHAIN, members(OURS_METHODS, OURS, CHAIN), 2.0)
    ours = {result.ram_bytes: result for result in found if result.method == OURS}
    joules = {ram_bytes: result.energy_joules for ram_bytes, result in ours.items()}
    # POET's model does not count a page_in while it runs: with it the judge allows a little less.
    assert joules[3] is None or joules[3] >= 15.6 - 1e-9
    assert joules[max(joules)] == pytest.approx(11.0)
    known = [joule for _, joule in sorted(joules.items()) if joule is not None]
    assert known == sorted(known, reverse=True)
    assert {PAGE_ONLY, REMAT_ONLY} <= {result.method for result in found}
    for result in found:
        best = ours[result.ram_bytes].energy_joules
        if result.energy_joules is not None:
            assert best is not None
            assert best <= result.energy_joules * (1 + 1e-9)
    assert faults([facts_of(CHAIN)], found) == []


def test_ablations_are_asked_where_they_say_something() -> None:
    headline = Series(network="vgg16-32-b1", scope=Scope.SGD, device=DEVICES[0])
    elsewhere = replace(headline, device="nrf52840")
    names = {one.name for one in members(OURS_METHODS, OURS, headline)}
    assert names == {one.name for one in OURS_METHODS} - {KEEP_EVERYTHING}
    assert GIVEN_ORDER not in {one.name for one in members(OURS_METHODS, OURS, elsewhere)}
    assert [one.name for one in members(OURS_METHODS, OURS, elsewhere)][-1] == OURS


# -- checks -------------------------------------------------------------------------------------


def planned(name: str, joules: float | None, said: str | None = None) -> Result:
    return Result(
        series=CHAIN,
        label="60",
        ram_bytes=6,
        method=name,
        outcome=Outcome.PLANNED if joules is not None else Outcome.NOT_FOUND,
        given_seconds=1.0,
        planner_seconds=1.0,
        energy_joules=joules,
        said=said,
    )


@pytest.mark.parametrize(
    ("ours", "other", "wrong"),
    [(2.0, 2.0, 0), (2.0, 2.1, 0), (2.0, 1.9, 1), (None, 1.9, 1), (2.0, None, 0), (None, None, 0)],
)
def test_a_fault_is_a_point_where_another_method_is_cheaper_or_alone(
    ours: float | None, other: float | None, wrong: int
) -> None:
    found = faults([facts_of(CHAIN)], [planned(OURS, ours), planned("Capuchin", other)])
    assert len(found) == wrong


def test_a_refused_plan_is_a_fault() -> None:
    refused = replace(planned("mine", None, "ram_exceeded"), outcome=Outcome.REFUSED)
    assert [one.method for one in faults([facts_of(CHAIN)], [planned(OURS, 2.0), refused])] == [
        "mine"
    ]


# -- versions -----------------------------------------------------------------------------------


def test_a_changed_source_is_a_new_version_for_its_own_methods_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poet_experiments_units, "REPOSITORY", tmp_path)
    for name in ("one.py", "two.py"):
        (tmp_path / name).write_text("1")
    methods = (
        Method(name="one", sources=("one.py",), run=lambda *_: None),
        Method(name="two", sources=("two.py",), run=lambda *_: None),
    )
    units = [Unit(work=name, series=CHAIN) for name in ("one", "two", FACTS)]
    poet_experiments_units._digest.cache_clear()
    before = [version_of(unit, methods) for unit in units]
    (tmp_path / "two.py").write_text("2")
    poet_experiments_units._digest.cache_clear()
    after = [version_of(unit, methods) for unit in units]
    poet_experiments_units._digest.cache_clear()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]


def test_every_method_names_sources_that_are_there() -> None:
    for one in METHODS:
        assert one.sources, one.name
        for pattern in one.sources:
            assert any(REPOSITORY.glob(pattern)), f"{one.name}: {pattern}"


def test_methods_of_a_group_are_one_unit() -> None:
    works = [unit.work for unit in units_of([CHAIN], METHODS)]
    assert len(works) == len(set(works))
    assert works[0] == FACTS
    assert OURS in works


def test_a_crowded_machine_gets_at_most_four_times_the_seconds() -> None:
    assert 1.0 <= crowding() <= 4.0


# -- the command --------------------------------------------------------------------------------


def command(folder: Path, only: str, *more: str) -> list[str]:
    lines = folder / "lines.jsonl"
    return ["--only", only, "--lines", str(lines), "--results", str(folder), *more]


def test_a_run_keeps_its_results_and_the_next_one_has_nothing_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = f"{KEEP_EVERYTHING}: poet/{ONLY}"
    assert poet_experiments.main(command(tmp_path, only, "--jobs", "1")) == 0
    assert only in capsys.readouterr().err
    kept = (tmp_path / "lines.jsonl").read_bytes()
    about, facts, results = read_results(tmp_path / "poet-experiments-only.json")
    assert about["not_done"] == []
    assert [one.series.network for one in facts] == ["poet/linear-a72"]
    assert {one.method for one in results} == {KEEP_EVERYTHING}
    assert {one.outcome for one in results} == {Outcome.PLANNED, Outcome.IMPOSSIBLE}

    assert poet_experiments.main(command(tmp_path, only)) == 0
    assert only not in capsys.readouterr().err
    assert (tmp_path / "lines.jsonl").read_bytes() == kept

    assert poet_experiments.main(command(tmp_path, only, "--list")) == 0
    assert f"done  {only}" in capsys.readouterr().out

    (tmp_path / "lines.jsonl").unlink()
    assert poet_experiments.main(command(tmp_path, only, "--plot-only")) == 0
    assert not (tmp_path / "lines.jsonl").exists()


def test_what_is_not_done_is_named_and_the_status_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    only = f"{OURS}: poet/{ONLY}"
    assert poet_experiments.main(command(tmp_path, only, "--minutes", "0")) == 1
    assert f"not done: {only}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("needs", "asked"), [(1.0, []), (4.0, [4.0]), (12.0, [4.0, 12.0]), (99.0, [4.0, 12.0, 36.0])]
)
def test_where_another_is_cheaper_ours_is_asked_again_with_more_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, needs: float, asked: list[float]
) -> None:
    again: list[float] = []

    def answer(unit: Unit, name: str, joules: float) -> Result:
        told = replace(planned(name, joules), series=unit.series)
        return replace(told, step_seconds=1.0, blocking_seconds=1.0, peak_bytes=6, transfers=0)

    def do_all(units, *, jobs, share, ends, done) -> None:
        for unit in units:
            if unit.work == FACTS:
                done(unit, [facts_of(unit.series)], 0.1)
            elif unit.work == OURS:
                again.append(share)
                joules = 1.0 if share >= needs else 2.0
                done(unit, [answer(unit, OURS, joules)], 0.1)
            else:
                done(unit, [answer(unit, unit.work, 1.5)], 0.1)

    monkeypatch.setattr(poet_experiments, "do_all", do_all)
    status = poet_experiments.main(command(tmp_path, f"poet/{ONLY}"))
    assert again == [1.0, *asked]
    assert status == (needs > 36)


@pytest.mark.skipif(sys.platform == "win32", reason="signals as on POSIX systems")
def test_a_run_that_is_interrupted_ends_with_its_children_and_continues(tmp_path: Path) -> None:
    asked = [sys.executable, "-m", "benchmarks.poet_experiments"]
    asked += command(tmp_path, ONLY, "--jobs", "1", "--seconds", "300")
    run = subprocess.Popen(asked, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    try:
        # Facts and keep-everything are kept at once; everything else is still to come.
        for line in run.stderr:
            if "keep everything:" in line:
                break
        run.send_signal(signal.SIGINT)
        told = run.stderr.read()
        assert run.wait(timeout=120) == 130
    finally:
        if run.poll() is None:
            run.kill()
            run.wait()
        run.stderr.close()
    assert "continues" in told
    assert "Traceback" not in told
    kept = (tmp_path / "lines.jsonl").read_text(encoding="utf-8")
    assert '"unit":"keep everything"' in kept
    series = [one for one in all_series() if ONLY in one.title]
    assert kept.count('"done"') < len(list(units_of(series, METHODS)))
