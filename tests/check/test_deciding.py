"""What is known of one entry: proofs, judged plans, and what is neither; and what would help."""

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from poet_cli.check.advice import advised, pasteable
from poet_cli.check.asking import Enough, Planner
from poet_cli.check.decide_child import decided
from poet_cli.check.deciding import Case, decide
from poet_cli.check.entries import Entry, Limit, Place
from poet_cli.check.formats.words import fix_of
from poet_cli.check.report import Verdict
from poet_core.bounds import ram_floor
from poet_core.devices import load_device
from poet_core.errors import BudgetError, PlanningError, ServiceError
from poet_core.graph_document import graph_sha256
from poet_core.plan import Bound, HoldsFor
from poet_core.units import parse_bytes
from tests.solvers.mlp_step import mlp_adam_step

GRAPH = mlp_adam_step((64, 80, 10), batch=20)
SHA256 = graph_sha256(GRAPH)
PI = "raspberry-pi-4b"


def entry(**others):
    given = {
        "name": "mlp on pi", "step": "m:s", "device": PI, "ram_bytes": 1 << 30,
        "place": Place(file=Path("poet-check.toml"), line=1), "planner_seconds": 60.0,
    }  # fmt: skip
    return Entry(**(given | others))


def case(**others):
    made = entry(**others)
    return Case(entry=made, graph=GRAPH, device=load_device(made.device))


ROOMY = case()
FLOOR, KEEP = ROOMY.floor.floor_bytes, ROOMY.keep.peak_bytes


@pytest.fixture(autouse=True)
def on_a_slow_machine(monkeypatch):
    """A try ends with its first plan: that it may take long costs nothing where it does not."""
    monkeypatch.setattr("poet_cli.check.advice._TRY_SECONDS", 60.0)
    monkeypatch.setattr("poet_cli.check.advice._MOST_SECONDS", 120.0)


class Fixed:
    """A planner that answers as it is told; each answer is a plan or an error."""

    cancel = threading.Event()
    graph_sha256 = SHA256
    server = None

    def __init__(self, *answers):
        self.answers, self.asked = list(answers), []

    def plan(self, request, enough):
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture(scope="module")
def planner():
    return Planner(graph_sha256=SHA256, cancel=threading.Event())


@pytest.fixture(scope="module")
def tight_plan(planner):
    """A plan that pages, within a third of what lies between floor and keep-everything."""
    within = case(ram_bytes=FLOOR + (KEEP - FLOOR) // 3)
    return planner.plan(within.request, Enough(None))


def test_a_budget_below_the_floor_is_proven_not_to_fit_without_a_planner():
    row, plan = decide(case(ram_bytes=FLOOR - 1), Fixed())
    assert (row.verdict, row.code, plan) == (Verdict.DOES_NOT_FIT, "ram_below_floor", None)
    assert row.floor_bytes == FLOOR
    assert row.headroom_bytes == -1


def test_keep_everything_inside_the_budget_fits_without_a_planner():
    row, _ = decide(case(ram_bytes=KEEP), Fixed())
    assert (row.verdict, row.peak_bytes, row.gap) == (Verdict.FITS, KEEP, 0.0)
    assert (row.seconds, row.joules) == (row.base_seconds, row.base_joules)


def test_a_limit_below_what_every_op_takes_is_proven_not_to_fit():
    row, _ = decide(case(max_time=Limit(text="1 ns", absolute=1e-9)), Fixed())
    assert (row.verdict, row.code) == (Verdict.DOES_NOT_FIT, "time_below_base")
    row, _ = decide(case(max_energy=Limit(text="1 nJ", absolute=1e-9)), Fixed())
    assert (row.verdict, row.code) == (Verdict.DOES_NOT_FIT, "energy_below_base")


def test_a_judged_plan_inside_the_budget_fits(planner):
    budget = FLOOR + (KEEP - FLOOR) // 3
    row, plan = decide(case(ram_bytes=budget), planner)
    assert row.verdict is Verdict.FITS
    assert FLOOR <= row.peak_bytes <= budget
    assert row.joules >= row.base_joules
    assert plan.claims.peak_bytes == row.peak_bytes


@pytest.mark.parametrize("code", ["not_found_in_time", "none_in_this_model", "cancelled"])
def test_no_plan_in_the_time_is_undecided_and_never_does_not_fit(code):
    row, _ = decide(case(ram_bytes=FLOOR), Fixed(PlanningError("None found.", code=code)))
    assert (row.verdict, row.code) == (Verdict.UNDECIDED, code)
    assert "seconds = 180" in row.hint


def test_a_server_out_of_reach_is_undecided():
    error = ServiceError("Nobody answers.", code="server_unreachable", hint="Is it on?")
    row, _ = decide(case(ram_bytes=FLOOR), Fixed(error))
    assert (row.verdict, row.code, row.hint) == (Verdict.UNDECIDED, error.code, error.hint)


def test_a_planners_proof_is_taken():
    row, _ = decide(case(ram_bytes=FLOOR), Fixed(BudgetError("No plan.", code="ram_infeasible")))
    assert (row.verdict, row.code) == (Verdict.DOES_NOT_FIT, "ram_infeasible")


def limited(plan, *, below_plan, **bound):
    """A case whose energy limit is `below_plan` of what the plan takes, and the plan, bounded so."""
    limit = Limit(text="x", absolute=plan.claims.energy_joules * below_plan)
    bounded = replace(plan, bound=Bound(by="a test", **bound))
    return case(ram_bytes=plan.budget.ram_bytes, max_energy=limit), bounded


def test_a_limit_is_not_put_into_the_problem_and_a_plan_above_it_is_undecided(tight_plan):
    one, plan = limited(
        tight_plan, below_plan=0.9999, value=ROOMY.problem.costs.base_joules,
        holds_for=HoldsFor.ANY_ORDER,
    )  # fmt: skip
    asked = Fixed(plan)
    row, _ = decide(one, asked)
    assert (row.verdict, row.code) == (Verdict.UNDECIDED, "not_found_in_time")
    assert asked.asked[0].energy_joules is None
    assert row.joules > one.problem.budget.energy_joules


def test_a_bound_above_the_limit_is_a_proof(tight_plan):
    value = tight_plan.claims.energy_joules * 0.99999
    one, plan = limited(tight_plan, below_plan=0.9999, value=value, holds_for=HoldsFor.ANY_ORDER)
    row, _ = decide(one, Fixed(plan))
    assert (row.verdict, row.code) == (Verdict.DOES_NOT_FIT, "limit_below_bound")


@pytest.mark.parametrize("holds_for", [HoldsFor.GIVEN_ORDER, HoldsFor.PLAN_ORDER])
def test_a_bound_for_one_order_is_no_proof(tight_plan, monkeypatch, holds_for):
    monkeypatch.setattr("poet_cli.check.proofs.any_order_bound", lambda *_: None)
    value = tight_plan.claims.energy_joules * 0.99999
    one, plan = limited(tight_plan, below_plan=0.9999, value=value, holds_for=holds_for)
    row, _ = decide(one, Fixed(plan))
    assert row.verdict is Verdict.UNDECIDED


def test_a_proof_for_every_order_is_looked_for_where_the_planner_has_one_for_its_own(planner):
    # At the floor something has to be paged, which takes more than nothing.
    hardly = Limit(text="1.0000001x", ratio=1.0000001)
    one = case(ram_bytes=FLOOR, max_energy=hardly)
    found = planner.plan(one.free_request, Enough(None, more_seconds=0.0))
    assert found.claims.energy_joules > one.problem.budget.energy_joules
    bound = Bound(value=found.claims.energy_joules, holds_for=HoldsFor.GIVEN_ORDER, by="a test")
    row, _ = decide(one, Fixed(replace(found, bound=bound)))
    assert (row.verdict, row.code) == (Verdict.DOES_NOT_FIT, "limit_below_bound")


def test_a_plan_inside_the_limit_fits(tight_plan):
    one, plan = limited(tight_plan, below_plan=1.0, value=0.0, holds_for=HoldsFor.ANY_ORDER)
    row, _ = decide(one, Fixed(plan))
    assert row.verdict is Verdict.FITS
    assert row.gap == plan.gap


def test_a_time_limit_alone_makes_time_what_is_minimised(tight_plan):
    one = case(ram_bytes=FLOOR, max_time=Limit(text="9x", ratio=9.0))
    assert str(one.request.objective) == "time"
    assert one.free_request.time_ratio is None
    both = case(
        ram_bytes=FLOOR,
        max_time=Limit(text="9x", ratio=9.0),
        max_energy=Limit(text="2x", ratio=2.0),
    )
    assert str(both.request.objective) == "energy"
    assert both.free_request.time_ratio == 9.0
    assert both.free_request.energy_ratio is None


def test_enough_waits_for_a_second_unless_the_gap_is_small():
    enough = Enough(2.0, more_seconds=1000.0)
    enough.hear(None, 1.0)
    enough.hear(3.0, 2.99)  # small a gap, but above the limit
    assert not enough.reached()
    enough.hear(1.9, 1.0)
    assert not enough.reached()
    enough.hear(1.8, 1.79)
    assert enough.reached()
    at_once = Enough(None, more_seconds=0.0)
    at_once.hear(5.0, None)
    assert at_once.reached()


def test_below_the_floor_the_op_and_the_least_budget_are_named(planner):
    one = case(ram_bytes=FLOOR // 2)
    row = advised(one, *decide(one, planner), planner)
    assert row.floor_set_by == one.floor.set_by
    held = sum(item.size_bytes for item in row.at_peak)
    assert 0 < held <= FLOOR
    assert row.least_bytes >= FLOOR
    (advice,) = [text for text in row.advice if text.startswith("Set ram = ")]
    told = parse_bytes(advice.split('"')[1])
    assert told >= row.least_bytes
    again, _ = decide(case(ram_bytes=told), planner)
    assert again.verdict is Verdict.FITS


@pytest.mark.parametrize("ram_by_device", [False, True])
def test_the_fix_is_what_the_configuration_has_a_place_for(planner, ram_by_device):
    one = case(ram_bytes=FLOOR // 2)
    one = replace(one, entry=replace(one.entry, ram_by_device=ram_by_device))
    row = advised(one, *decide(one, planner), planner)
    key = f"ram.{one.entry.device}" if ram_by_device else "ram"
    assert fix_of(row).startswith(f'{key} = "')


def test_where_the_device_is_too_small_others_are_named_that_fit(planner):
    one = case(device="mkr1000", ram_bytes=32 << 10)
    assert one.floor.floor_bytes > one.device.ram_bytes  # else it shows nothing
    row = advised(one, *decide(one, planner), planner)
    assert not [text for text in row.advice if text.startswith("Set ram")]
    (advice,) = [text for text in row.advice if text.startswith("It fits on ")]
    for name in ("nrf52840 (256 KiB)", "raspberry-pi-4b"):
        assert name in advice
    assert "host" not in advice


def test_paging_is_advised_where_it_is_forbidden_and_a_plan_with_it_is_known(planner, monkeypatch):
    monkeypatch.setattr("poet_cli.check.advice._MOST_SECONDS", 0.2)  # for the least budget
    # Without paging what persists is in RAM all the time.
    no_page = ram_floor(GRAPH, ROOMY.problem.budget, paging=False).floor_bytes
    assert no_page > FLOOR
    one = case(ram_bytes=no_page - 1, page=False)
    row = advised(one, *decide(one, planner), planner)
    assert (row.verdict, row.floor_bytes) == (Verdict.DOES_NOT_FIT, no_page)
    assert any(text.startswith("Set page = true") for text in row.advice)
    assert not any("rematerialize" in text for text in row.advice)


def test_the_limit_that_the_best_plan_keeps_is_named(tight_plan):
    value = tight_plan.claims.energy_joules * 0.99999
    one, plan = limited(tight_plan, below_plan=0.9999, value=value, holds_for=HoldsFor.ANY_ORDER)
    nothing = PlanningError("None.", code="not_found_in_time")
    row = advised(one, *decide(one, Fixed(plan)), Planner(graph_sha256=SHA256, cancel=_SET))
    assert nothing.code not in row.code
    (advice,) = [text for text in row.advice if text.startswith("Set max_energy = ")]
    ratio = float(advice.split('"')[1].removesuffix("x"))
    assert ratio * one.problem.costs.base_joules >= plan.claims.energy_joules
    assert row.at_peak


_SET = threading.Event()
_SET.set()


def test_what_fits_says_what_is_in_ram_at_its_peak(planner):
    one = case(ram_bytes=KEEP)
    row = advised(one, *decide(one, Fixed()), planner)
    assert row.advice == ()
    assert 0 < sum(item.size_bytes for item in row.at_peak) <= row.peak_bytes


@pytest.mark.parametrize("size", [1, 700, 1023, 1 << 14, (1 << 14) + 1, 12_345_678, (1 << 40) + 1])
def test_a_size_to_paste_is_no_less(size):
    assert size <= parse_bytes(pasteable(size)) <= size * 1.0625 + 1


def test_what_goes_wrong_is_a_row(monkeypatch):
    row = decided(entry(device="no-such-device"), GRAPH, SHA256, threading.Event())
    assert (row.verdict, row.code, row.internal) == (Verdict.FAILED, "unknown_device", False)
    monkeypatch.setattr("poet_cli.check.deciding.decide", _broken)
    row = decided(entry(), GRAPH, SHA256, threading.Event())
    assert (row.verdict, row.code, row.internal) == (Verdict.FAILED, "internal", True)
    assert "\x1b" not in row.reason


def _broken(*_):
    raise RuntimeError("a \x1b[31mfault")
