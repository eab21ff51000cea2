"""When ops are traced in parts: what is asked of the tracer, which graph is planned, what errors say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.device import DeviceProfile
from poet_core.devices import load_device
from poet_core.errors import BudgetError, PlanError, PlanningError, UsageError
from poet_core.plan import Allowed, Budget, Objective, Plan
from poet_core.plan_request import PlanRequest
from poet_core.problem import make_problem
from poet_runtime import TrainStep
from poet_runtime.plan_source import PlanSource
from poet_runtime.planner import LocalPlanner
from poet_runtime.program import Program
from poet_runtime.splitting_choice import AUTO, parse_split, traced_and_planned
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing import trace as tracer
from poet_runtime.tracing.trace import trace
from tests.runtime.step_parts import batches, eager, mlp_momentum, outcome, tied, trained

DEVICE = "raspberry-pi-4b"


def traced(width: int) -> Program:
    """A large last layer, which sets the floor: `width` says how large."""
    hidden = [layer for _ in range(9) for layer in (nn.Linear(128, 128), nn.ReLU())]
    model = nn.Sequential(nn.Linear(16, 128), *hidden, nn.Linear(128, width))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.rand(64, 16), torch.randint(0, 10, (64,)))
    return trace(model, nn.functional.cross_entropy, optimizer, batch)


@dataclass
class Tracer:
    """Answers with `whole`, or, asked to split, with `parts`; remembers what it was asked."""

    whole: Program
    parts: Program
    asked: list[int | None] = field(default_factory=list)

    def __call__(self, above: int | None) -> Program:
        self.asked.append(above)
        program = self.whole if above is None else self.parts
        return replace(program, options=StepOptions(split_above_bytes=above))


@pytest.fixture(scope="module")
def whole() -> Program:
    return traced(1000)


@pytest.fixture(scope="module")
def parts() -> Program:
    """What splitting makes of it is no matter here, but that less is needed at once."""
    return traced(200)


def source(ram: int | None, **wishes: Any) -> PlanSource:
    device: str | DeviceProfile | None = None if ram is None else DEVICE
    return PlanSource(
        **{
            "device": device, "ram": ram, "plan": None, "planner": None, "time_ratio": None,
            "objective": Objective.ENERGY, "allowed": None, "flash_write_bytes": None,
            "wall_seconds": 1.0,
        }
        | wishes
    )  # fmt: skip


def floor_bytes(program: Program) -> int:
    budget = make_problem(program.graph, load_device(DEVICE), ram_bytes=1).budget
    return ram_floor(program.graph, budget).floor_bytes


def keep_bytes(program: Program) -> int:
    problem = make_problem(program.graph, load_device(DEVICE), ram_bytes=1)
    budget: Budget = problem.budget
    return judge_keep_everything(
        problem.graph, problem.costs,
        reserved_bytes=budget.reserved_bytes, alignment_bytes=budget.alignment_bytes,
    ).peak_bytes  # fmt: skip


@pytest.mark.parametrize(
    ("given", "expected"),
    [(None, None), ("off", None), ("auto", AUTO), ("3KiB", 3072), (0, 0), (5, 5)],
)
def test_what_a_user_may_write(given: Any, expected: Any) -> None:
    assert parse_split(given) == expected


@pytest.mark.parametrize(
    ("given", "code"), [("300", "size_invalid"), (-1, "split_invalid"), (True, "split_invalid")]
)
def test_what_a_user_may_not_write(given: Any, code: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_split(given)
    assert caught.value.code == code


def test_auto_leaves_ops_whole_where_there_is_room(whole: Program, parts: Program) -> None:
    for ram in (None, keep_bytes(whole)):
        ask = Tracer(whole, parts)
        program, plan, _ = traced_and_planned(ask, source(ram), AUTO)
        assert ask.asked == [None]
        assert program.graph is whole.graph
        assert ram is None or plan.budget.ram_bytes == ram


def test_auto_splits_only_near_the_floor(whole: Program, parts: Program) -> None:
    """At 60% of the budget the floor is not near, one byte above it is."""
    floor, keep = floor_bytes(whole), keep_bytes(whole)
    least = -(-floor * 100 // 60)
    assert floor < least < keep, "the model must leave room for both sides of the rule"
    for ram, expected in ((least, [None]), (least - 2, [None, (least - 2) // 3])):
        ask = Tracer(whole, parts)
        program, _, judgement = traced_and_planned(ask, source(ram), AUTO)
        assert ask.asked == expected
        assert program.graph is (whole if expected == [None] else parts).graph
        assert judgement.peak_bytes <= ram


def test_a_given_plan_is_no_reason_to_split(whole: Program, parts: Program) -> None:
    _, plan, _ = traced_and_planned(Tracer(whole, parts), source(keep_bytes(whole)), None)
    ask = Tracer(whole, parts)
    assert traced_and_planned(ask, source(None, plan=plan), AUTO)[1] is plan
    assert ask.asked == [None]


@dataclass
class Failing:
    """Finds no plan for one graph, and asks the true planner about others."""

    graph: Any
    error: Callable[[], Exception]

    def plan(self, request: PlanRequest) -> Plan:
        if request.graph == self.graph:
            raise self.error()
        return LocalPlanner().plan(request)


@pytest.mark.parametrize("kind", [PlanningError, BudgetError])
def test_auto_splits_where_no_plan_is_found(whole: Program, parts: Program, kind: Any) -> None:
    ram = keep_bytes(whole) - 1
    wishes = source(ram, planner=Failing(whole.graph, lambda: kind("none")))
    ask = Tracer(whole, parts)
    assert traced_and_planned(ask, wishes, AUTO)[0].graph is parts.graph
    assert ask.asked == [None, ram // 3]
    # Where there is nothing to split, the planner is not asked the same question again.
    with pytest.raises(kind, match="none"):
        traced_and_planned(Tracer(whole, whole), wishes, AUTO)


def test_below_the_floor_the_error_is_about_the_parts(whole: Program, parts: Program) -> None:
    ram = floor_bytes(parts) - 1
    with pytest.raises(BudgetError) as caught:
        traced_and_planned(Tracer(whole, parts), source(ram), AUTO)
    assert caught.value.code == "ram_below_floor"
    assert caught.value.details["floor_bytes"] == floor_bytes(parts)
    assert f"op {caught.value.details['op']} " in caught.value.message
    assert "have been split" in caught.value.hint
    with pytest.raises(BudgetError) as caught:
        traced_and_planned(Tracer(whole, parts), source(ram), None)
    assert caught.value.details["floor_bytes"] == floor_bytes(whole)
    assert "have been split" not in caught.value.hint


def test_without_paging_the_floor_is_another(whole: Program, parts: Program) -> None:
    """Everything that persists is resident then, so the floor is near where it was not before."""
    ask = Tracer(whole, parts)
    ram = -(-floor_bytes(whole) * 100 // 60)
    traced_and_planned(ask, source(ram, allowed=Allowed(page=False)), AUTO)
    assert ask.asked == [None, ram // 3]


def test_a_plan_for_another_splitting_is_refused_with_a_hint(
    whole: Program, parts: Program
) -> None:
    _, plan, _ = traced_and_planned(Tracer(whole, parts), source(keep_bytes(whole)), None)
    for split, words in ((4096, "split=4096"), (None, "no op split")):
        ask = Tracer(parts, parts)
        with pytest.raises(PlanError) as caught:
            traced_and_planned(ask, source(None, plan=plan), split)
        assert caught.value.code == "plan_for_other_graph"
        assert words in caught.value.hint


def test_train_step_asks_the_tracer(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int | None] = []

    def remember(*arguments: Any, options: StepOptions, **others: Any) -> Program:
        asked.append(options.split_above_bytes)
        return trace(*arguments, options=options, **others)

    monkeypatch.setattr(tracer, "trace", remember)
    data = batches(tied, 2)
    with TrainStep(*tied(), data[0]):
        pass
    with TrainStep(*tied(), data[0], split="off"):
        pass
    with TrainStep(*tied(), data[0], split="2KiB"):
        pass
    assert asked == [None, None, 2048]


def test_a_program_has_a_splitting_of_its_own() -> None:
    data = batches(mlp_momentum, 2)
    built = mlp_momentum()
    program = trace(*built, data[0], options=StepOptions(split_above_bytes=2**20))
    for split in ("auto", "1MiB", 2**20):
        with TrainStep(*built, data[0], program=program, split=split) as step:
            assert step.program is program
    with pytest.raises(UsageError) as caught:
        TrainStep(*built, data[0], program=program, split=2**19)
    assert caught.value.code == "program_options"


@pytest.mark.parametrize("split", ["auto", 2**12])
def test_near_the_floor_the_bits_are_eagers(split: str | int, tmp_path: Any) -> None:
    """With another shape in between, which is split by the same wish."""
    first, small = batches(tied, 3), batches(tied, 1, rows=3)
    data = [first[0], small[0], first[1], first[2]]
    program = trace(*tied(), data[0])
    model, loss_fn, optimizer = tied()
    with TrainStep(
        model, loss_fn, optimizer, data[0], device=DEVICE, ram=floor_bytes(program) * 11 // 10,
        split=split, wall_seconds=1, paging_directory=tmp_path, on_new_shape="replan",
    ) as step:  # fmt: skip
        torch.manual_seed(1)
        losses = trained(step, data)
        assert outcome(model, optimizer, losses) == eager(tied, data)


def wide() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    """A loss over many classes sets the floor."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 24), nn.Tanh(), nn.Linear(24, 3000))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return model, nn.functional.cross_entropy, optimizer


def test_below_the_floor_of_whole_ops_it_trains_to_eagers_bits(tmp_path: Any) -> None:
    data = batches(wide, 3, rows=256)
    floor = floor_bytes(trace(*wide(), data[0]))
    wishes = {"device": DEVICE, "ram": floor - 1, "wall_seconds": 1, "paging_directory": tmp_path}
    with pytest.raises(BudgetError) as caught:
        TrainStep(*wide(), data[0], split="off", **wishes)  # type: ignore[arg-type]
    assert caught.value.details["floor_bytes"] == floor
    model, loss_fn, optimizer = wide()
    with TrainStep(model, loss_fn, optimizer, data[0], **wishes) as step:  # type: ignore[arg-type]
        assert step.program.options.split_above_bytes == (floor - 1) // 3
        assert floor_bytes(step.program) < floor
        assert step.judgement.peak_bytes < floor
        torch.manual_seed(1)
        assert outcome(model, optimizer, trained(step, data)) == eager(wide, data)
