"""What goes wrong, on purpose: every fault has a name, voids the step, and hangs nothing."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import costs_on
from poet_core.devices import load_device
from poet_core.errors import PlanError, ReplayError, UsageError
from poet_core.plan import Allowed, Do, Plan
from poet_core.plan_request import PlanRequest
from poet_core.problem import make_problem
from poet_runtime import TrainStep
from poet_runtime import planner as planner_module
from poet_runtime.flash import pager as pager_module
from poet_runtime.flash.flash_file import SystemDisk
from poet_runtime.flash.paging_directory import memory_file_system
from poet_runtime.flash.paging_file import FlashOptions
from poet_runtime.planner import plan_of
from poet_runtime.program import Program
from poet_runtime.tracing.trace import trace
from tests.runtime.disk_parts import At, scripted
from tests.runtime.replay_parts import BY_HAND, hand_made_plan, page_everything
from tests.runtime.step_parts import batches, eager, norm_and_dropout, outcome, trained

DATA = batches(norm_and_dropout, 4)


@pytest.fixture(scope="module")
def program() -> Program:
    return trace(*norm_and_dropout(), DATA[0])


@pytest.fixture(scope="module")
def plan(program: Program) -> Plan:
    return hand_made_plan(program.graph, page_everything(program.graph))


def build(
    program: Program, plan: Plan, folder: Path, **options: Any
) -> tuple[TrainStep, nn.Sequential, torch.optim.Optimizer]:
    model, loss_fn, optimizer = norm_and_dropout()
    assert isinstance(model, nn.Sequential)
    options = {"flash_write_bytes": 2**40, "paging_directory": folder, **options}
    step = TrainStep(model, loss_fn, optimizer, DATA[0], plan=plan, program=program, **options)
    torch.manual_seed(1)
    return step, model, optimizer


def expect_void(step: TrainStep, model: nn.Sequential, reason: str) -> None:
    """Every door says no, and says why."""
    for door in (lambda: step(*DATA[0]), step.write_back, model.state_dict, step.park):
        with pytest.raises(ReplayError, match=reason) as caught:
            door()
        assert caught.value.code == "step_void"


def test_corrupt_flash_voids_the_step(program: Program, plan: Plan, tmp_path: Path) -> None:
    script = At("flip", "read", number=10**9)
    step, model, _ = build(program, plan, tmp_path, flash=FlashOptions(open_disk=scripted(script)))
    trained(step, DATA[:2])
    script.number = script.seen  # the first storage of the next step comes in changed
    with pytest.raises(ReplayError) as caught:
        trained(step, DATA[2:])
    assert caught.value.code == "flash_corrupt"
    expect_void(step, model, "checksum")
    step.close()
    assert any(value.isnan().all() for value in model.parameters())
    fresh, _, _ = norm_and_dropout()
    model.load_state_dict(fresh.state_dict())
    assert torch.isfinite(model(DATA[0][0])).all()


@pytest.mark.parametrize("word", ["io", "full", "truncate"])
@pytest.mark.parametrize("call", ["write", "read"])
def test_a_dying_disk_voids_the_step_and_nothing_hangs(
    program: Program, plan: Plan, tmp_path: Path, call: str, word: str
) -> None:
    threads = threading.active_count()
    script = At(word, call, number=10**9, stays=True)
    step, model, optimizer = build(
        program, plan, tmp_path, flash=FlashOptions(open_disk=scripted(script))
    )
    trained(step, DATA[:1])
    script.number = script.seen + 3
    with pytest.raises(ReplayError) as caught:
        trained(step, DATA[1:])
    if (word, call) == ("truncate", "write"):  # what is read later is not what was written
        assert caught.value.code in {"flash_io", "flash_corrupt"}
    else:
        assert caught.value.code == {"io": "flash_io", "full": "flash_full"}.get(word, "flash_io")
    expect_void(step, model, "disk|flash")
    with pytest.raises(ReplayError):
        optimizer.state_dict()
    step.close()
    assert threading.active_count() == threads


def test_a_disk_that_hangs_voids_the_step_and_does_not_hang_it(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    answer = threading.Event()

    class Hanging(SystemDisk):
        def read(self, parts: Sequence[memoryview], offset: int) -> int:
            answer.wait(30)
            return super().read(parts, offset)

    step, model, _ = build(
        program, plan, tmp_path, flash=FlashOptions(stall_seconds=0.2, open_disk=Hanging)
    )
    with pytest.raises(ReplayError) as caught:
        step(*DATA[0])
    assert caught.value.code == "flash_stalled"
    expect_void(step, model, "not answered")
    step.close()
    answer.set()


def test_a_full_disk_is_met_at_the_start(program: Program, plan: Plan, tmp_path: Path) -> None:
    script = At("full", "reserve")
    with pytest.raises(ReplayError) as caught:
        build(program, plan, tmp_path, flash=FlashOptions(open_disk=scripted(script)))
    assert caught.value.code == "flash_full"


def test_an_op_that_fails_voids_the_step_and_frees_its_memory(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    broken_at = next(op.id for op in program.graph.ops if op.kind == "aten.relu.default")

    def fail(*_: Any) -> None:
        raise RuntimeError("kernel gave up")

    calls = list(program.calls)
    calls[broken_at] = replace(calls[broken_at], function=fail)
    step, model, _ = build(replace(program, calls=tuple(calls)), plan, tmp_path)
    with pytest.raises(ReplayError, match="kernel gave up") as caught:
        step(*DATA[0])
    assert caught.value.code == "step_failed"
    assert isinstance(caught.value.__cause__, RuntimeError)
    expect_void(step, model, "kernel gave up")
    step.close()


def test_an_interrupted_step_is_void(program: Program, plan: Plan, tmp_path: Path) -> None:
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    calls = [*program.calls[:-1], replace(program.calls[-1], function=interrupt)]
    step, model, _ = build(replace(program, calls=tuple(calls)), plan, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        step(*DATA[0])
    expect_void(step, model, "KeyboardInterrupt")
    step.close()


def test_a_page_in_that_is_skipped_is_not_identical(
    program: Program, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison that the demo makes must be able to say no. One read of the third step does
    not happen and no checksum is looked at: memory holds what it happens to hold."""
    expected = eager(norm_and_dropout, DATA)
    transfer = pager_module._transfer
    left = -1

    def skipping(lane: Any, job: Any) -> None:
        nonlocal left
        left -= not job.outward
        if left == 0 and not job.outward:
            ctypes.memset(job.memory.data_ptr(), 0x3F, job.size_bytes)
        else:
            transfer(lane, job)

    monkeypatch.setattr(pager_module, "_transfer", skipping)
    for skip in (False, True):
        step, model, optimizer = build(program, plan, tmp_path)
        with step:
            losses = trained(step, DATA[:2])
            left = 1 if skip else -1
            losses += trained(step, DATA[2:])
            found = outcome(model, optimizer, losses)
        assert (found.state == expected.state) is (not skip)
        assert (found == expected) is (not skip)


def test_a_plan_for_another_graph_is_refused(plan: Plan, tmp_path: Path) -> None:
    model, loss_fn, optimizer = norm_and_dropout()
    other = batches(norm_and_dropout, 1, rows=16)[0]
    with pytest.raises(PlanError) as caught:
        TrainStep(model, loss_fn, optimizer, other, plan=plan)
    assert caught.value.code == "plan_for_other_graph"


def test_a_plan_for_a_larger_budget_than_asked_is_refused(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as caught:
        build(program, plan, tmp_path, ram="1MiB")
    assert caught.value.code == "plan_budget_larger"


def test_a_plan_that_wears_the_flash_out_is_refused(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(PlanError) as caught:
        build(program, plan, tmp_path, flash_write_bytes=plan.claims.flash_bytes_written - 1)
    assert caught.value.code == "flash_writes_exceeded"
    build(program, plan, tmp_path, flash_write_bytes=plan.claims.flash_bytes_written)[0].close()


def test_the_default_cap_is_four_times_keep_everything(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = program.graph
    keep = judge_keep_everything(graph, costs_on(graph, load_device("host")), alignment_bytes=64)
    base = page_everything(graph)
    written = hand_made_plan(graph, base).claims.flash_bytes_written
    assert written < 4 * keep.peak_bytes
    model, loss_fn, optimizer = norm_and_dropout()
    with TrainStep(
        model, loss_fn, optimizer, DATA[0], program=program, paging_directory=tmp_path,
        plan=hand_made_plan(graph, base),
    ):  # fmt: skip
        pass
    # The same plan is refused where the factor is a little less than what it writes.
    monkeypatch.setattr(planner_module, "FLASH_WRITES_OF_PEAK", written / keep.peak_bytes * 0.999)
    with pytest.raises(PlanError) as caught:
        TrainStep(
            model, loss_fn, optimizer, DATA[0], program=program, plan=hand_made_plan(graph, base)
        )
    assert caught.value.code == "flash_writes_exceeded"


def test_claims_that_the_judge_does_not_share_are_refused(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    boast = replace(plan, claims=replace(plan.claims, peak_bytes=plan.claims.peak_bytes - 64))
    with pytest.raises(PlanError) as caught:
        build(program, boast, tmp_path)
    assert caught.value.code == "claim_mismatch"


class Answers:
    """A planner that answers with what a test hands it."""

    def __init__(self, answer: Callable[[PlanRequest], Plan]) -> None:
        self.answer = answer
        self.asked: list[PlanRequest] = []

    def plan(self, request: PlanRequest) -> Plan:
        self.asked.append(request)
        return self.answer(request)


def honest(request: PlanRequest) -> Plan:
    return plan_of(request.problem(), page_everything(request.graph), BY_HAND)


def ask(answer: Callable[[PlanRequest], Plan], **options: Any) -> tuple[Answers, TrainStep]:
    planner = Answers(answer)
    model, loss_fn, optimizer = norm_and_dropout()
    return planner, TrainStep(
        model, loss_fn, optimizer, DATA[0], planner=planner, **{"ram": "64KiB", **options}
    )


def test_a_planner_is_asked_for_what_the_user_said() -> None:
    cap = 10**6
    planner, step = ask(
        honest, device="raspberry-pi-4b", allowed=Allowed(reorder=False), flash_write_bytes=cap,
        time_ratio=1e6, wall_seconds=7.0,
    )  # fmt: skip
    with step:
        (request,) = planner.asked
        assert request.ram_bytes == 65536
        assert request.profile.name == "raspberry-pi-4b"
        assert request.flash_write_bytes == cap
        assert request.time_ratio == 1e6
        assert request.wall_seconds == 7.0
        assert not request.allowed.reorder
        assert step.plan.budget.ram_bytes == 65536


def test_a_planner_that_gives_itself_more_than_was_asked_is_caught() -> None:
    def generous(request: PlanRequest) -> Plan:
        return honest(replace(request, ram_bytes=request.ram_bytes + 1))

    with pytest.raises(PlanError) as caught:
        ask(generous)
    assert caught.value.code == "plan_budget_larger"


def test_a_planner_that_forgets_the_reserved_bytes_is_caught(program: Program, plan: Plan) -> None:
    host = load_device("host")
    problem = make_problem(program.graph, host, ram_bytes=65536)
    floor = ram_floor(program.graph, problem.budget).floor_bytes
    assert floor < plan.claims.peak_bytes  # so the same schedule no longer fits
    tight = replace(host, reserved_bytes=65536 - floor)

    def forgetful(request: PlanRequest) -> Plan:
        return honest(replace(request, device=host))

    with pytest.raises(PlanError) as caught:
        ask(forgetful, device=tight)
    assert caught.value.code == "ram_exceeded"


def test_a_planner_that_pages_where_that_is_not_allowed_is_caught() -> None:
    def paging(request: PlanRequest) -> Plan:
        return honest(replace(request, allowed=Allowed()))

    with pytest.raises(PlanError) as caught:
        ask(paging, allowed=Allowed(page=False))
    assert caught.value.code == "paging_not_allowed"


def test_sizes_need_units() -> None:
    with pytest.raises(UsageError) as caught:
        ask(honest, ram="512")
    assert caught.value.code == "size_invalid"


def test_paging_on_a_ram_disk_is_refused(program: Program, plan: Plan) -> None:
    if memory_file_system(Path("/dev/shm")) != "tmpfs":
        pytest.skip("/dev/shm is no tmpfs here")
    with pytest.raises(UsageError) as caught:
        build(program, plan, Path("/dev/shm"))
    assert caught.value.code == "paging_on_ram"


def test_switching_an_optimizer_option_is_refused_and_voids_nothing(
    program: Program, plan: Plan, tmp_path: Path
) -> None:
    step, model, optimizer = build(program, plan, tmp_path)
    with step:
        losses = trained(step, DATA[:1])
        optimizer.param_groups[0]["weight_decay"] = 0.1
        with pytest.raises(ReplayError) as caught:
            step(*DATA[1])
        assert caught.value.code == "optimizer_changed"
        optimizer.param_groups[0]["weight_decay"] = 0
        losses += trained(step, DATA[1:])
        assert outcome(model, optimizer, losses) == eager(norm_and_dropout, DATA)


def test_the_schedule_of_these_tests_pages_in(plan: Plan) -> None:
    reads = sum(i.do is Do.PAGE_IN for i in plan.schedule.instructions)
    assert reads > 20
