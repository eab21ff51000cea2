"""What is kept of POET's experiments: what counts as done, for whom, and that it comes back whole."""

from __future__ import annotations

from pathlib import Path

from benchmarks.poet_experiments_points import Facts, Outcome, Result, Scope, Series
from benchmarks.poet_experiments_store import Store, read_results, write_results
from benchmarks.poet_experiments_units import FACTS, Unit

SERIES = Series(network="vgg16-32-b1", scope=Scope.ADAM, device="mkr1000")
UNIT = Unit(work="ours", series=SERIES)


def result(label: str = "60", joules: float | None = 2.5, method: str = "ours") -> Result:
    return Result(
        series=SERIES,
        label=label,
        ram_bytes=1000,
        method=method,
        outcome=Outcome.NOT_FOUND if joules is None else Outcome.PLANNED,
        given_seconds=1.0,
        planner_seconds=0.25,
        energy_joules=joules,
        bound_holds_for=None if joules is None else "any_order",
    )


def facts() -> Facts:
    return Facts(
        series=SERIES, ops=3, storages=4, device_ram_bytes=32768, keep_bytes=5000, keep_seconds=1.0,
        keep_joules=2.0, floor_bytes=700, floor_set_by="op 1 (mm, aten.mm)", floor_op="aten.mm of fc",
        bytes_by_role={"activation": 4000}, split_ops=5, split_floor_bytes=300,
    )  # fmt: skip


def test_a_unit_is_done_once_it_is_kept_and_found_again_by_another_run(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    store = Store(path, resume=True)
    assert not store.is_done(UNIT, "v1")
    store.add(UNIT, "v1", [result("60"), result("20", None)], 12.5)
    again = Store(path, resume=True)
    assert again.is_done(UNIT, "v1")
    assert again.found(UNIT, "v1") == [result("60"), result("20", None)]
    assert again.job_seconds(UNIT, "v1") == 12.5


def test_another_version_or_method_or_series_is_not_done(tmp_path: Path) -> None:
    store = Store(tmp_path / "lines.jsonl", resume=True)
    store.add(UNIT, "v1", [result()], 1.0)
    other = Series(network="vgg16-32-b1", scope=Scope.SGD, device="mkr1000")
    assert not store.is_done(UNIT, "v2")
    assert not store.is_done(Unit(work="Capuchin", series=SERIES), "v1")
    assert not store.is_done(Unit(work="ours", series=other), "v1")
    assert store.found(UNIT, "v2") == []


def test_a_unit_cut_short_counts_for_nothing_and_spoils_nothing(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    store = Store(path, resume=True)
    store.add(UNIT, "v1", [result("60"), result("20")], 1.0)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"\n") + 40])
    cut = Store(path, resume=True)
    assert not cut.is_done(UNIT, "v1")
    assert cut.found(UNIT, "v1") == []
    cut.add(UNIT, "v1", [result("60", 3.0), result("20", 4.0)], 1.0)
    assert Store(path, resume=True).found(UNIT, "v1") == [result("60", 3.0), result("20", 4.0)]


def test_restart_forgets(tmp_path: Path) -> None:
    path = tmp_path / "lines.jsonl"
    Store(path, resume=True).add(UNIT, "v1", [result()], 1.0)
    assert not Store(path, resume=False).is_done(UNIT, "v1")
    assert not Store(path, resume=True).is_done(UNIT, "v1")


def test_results_and_facts_come_back_from_one_file(tmp_path: Path) -> None:
    store = Store(tmp_path / "lines.jsonl", resume=True)
    store.add(Unit(work=FACTS, series=SERIES), "v1", [facts()], 0.1)
    assert store.found(Unit(work=FACTS, series=SERIES), "v1") == [facts()]
    found = (result("60"), result("20", None), result("60", 9.0, "Capuchin"))
    write_results(tmp_path / "all.json", {"jobs": 2}, [facts()], found)
    assert read_results(tmp_path / "all.json") == ({"jobs": 2}, (facts(),), found)
