"""Every rule of docs/rules.md, broken once: the judge names it, where, and by how many bytes."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from poet_core import flash_account as flash_account_module
from poet_core import simulate as judge_module
from poet_core import verify as verify_module
from poet_core.errors import PlanError
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.graph_document import graph_sha256
from poet_core.plan import Allowed, Budget, Instruction, Objective, Plan, PlannedBy, Schedule
from poet_core.simulate import simulate
from poet_core.verify import verify
from tests.core.training_step import (
    BACK_W2,
    BACK_X2,
    COSTS,
    DRAW1,
    DRAW2,
    GRAPH,
    GW1,
    H1,
    H2,
    KEEP,
    LAYER1,
    LAYER2,
    LOSS,
    LOSS_OP,
    M1,
    MASK1,
    MASK2,
    ROOMY,
    UPDATE1,
    UPDATE2,
    W1,
    W2,
    X,
    bring,
    edited,
    free,
    out,
    program,
    run,
)  # fmt: skip

RULES = Path(__file__).parents[2] / "docs" / "rules.md"


def refusal(
    schedule: Schedule, budget: Budget = ROOMY, allowed: Allowed | None = None
) -> PlanError:
    with pytest.raises(PlanError) as caught:
        simulate(GRAPH, COSTS, budget, schedule, allowed)
    return caught.value


def started(ram: tuple[int, ...], flash: tuple[int, ...]) -> Schedule:
    return replace(KEEP, start_ram=ram, start_flash=flash)


def plan(**changes: object) -> Plan:
    judged = simulate(GRAPH, COSTS, ROOMY, KEEP)
    good = Plan(
        graph_sha256=graph_sha256(GRAPH), device_name="board", budget=ROOMY,
        objective=Objective.ENERGY, allowed=Allowed(), costs=COSTS, schedule=KEEP,
        claims=judged.claims, planned_by=PlannedBy(
            formulation="none", solver="none", status="", wall_seconds=0.0),
    )  # fmt: skip
    return replace(good, **changes)


def refused_plan(**changes: object) -> PlanError:
    with pytest.raises(PlanError) as caught:
        verify(GRAPH, plan(**changes))
    return caught.value


def at_start(
    ram: tuple[int, ...], flash: tuple[int, ...], instructions: tuple[Instruction, ...]
) -> Schedule:
    return Schedule(start_ram=ram, start_flash=flash, instructions=instructions)


def empty_storage_step() -> TrainingGraph:
    op = Op(id=0, name="o", kind="k", phase=Phase.FORWARD, writes=(0,), mutates=(1,))
    return TrainingGraph(
        storages=(
            Storage(id=0, name="nothing", size_bytes=0, role=Role.ACTIVATION),
            Storage(id=1, name="none", size_bytes=0, role=Role.BUFFER, persistent=True),
        ),
        ops=(op,),
    )


def empty_storage_refusal(schedule: Schedule) -> PlanError:
    graph = empty_storage_step()
    costs = replace(
        COSTS, op_seconds=(1.0,), op_joules=(1.0,), page_in_seconds=(0.0,) * 2,
        page_in_joules=(0.0,) * 2, page_out_seconds=(0.0,) * 2, page_out_joules=(0.0,) * 2,
    )  # fmt: skip
    with pytest.raises(PlanError) as caught:
        simulate(graph, costs, ROOMY, schedule)
    return caught.value


def other_costs() -> PlanError:
    with pytest.raises(PlanError) as caught:
        simulate(GRAPH, replace(COSTS, page_in_joules=(0.0,)), ROOMY, KEEP)
    return caught.value


def run_once_graph_refusal() -> PlanError:
    ops = tuple(replace(op, recomputable=op.id != LAYER1) for op in GRAPH.ops)
    with pytest.raises(PlanError) as caught:
        simulate(replace(GRAPH, ops=ops), COSTS, ROOMY,
                 edited(after=run(LAYER2), insert=(run(LAYER1),)))  # fmt: skip
    return caught.value


def infinite_energy() -> PlanError:
    costs = replace(COSTS, op_seconds=(1e300,) * len(GRAPH.ops), idle_watts=1e300)
    with pytest.raises(PlanError) as caught:
        simulate(GRAPH, costs, ROOMY, KEEP)
    return caught.value


PAGED_W1 = edited(after=run(LAYER1), insert=(out(W1),))
"""w1 is written to flash and stays in RAM: 6 bytes of flash, from the start of the step on."""

OLD_M1_COMES_BACK = program(
    *edited(before=run(UPDATE1), insert=(out(M1),)).instructions, free(M1), bring(M1)
)
RECOMPUTED_TOO_LATE = edited(
    drop=(free(X), free(MASK1)), after=run(UPDATE1), insert=(run(LAYER1), free(X), free(MASK1))
)

CASES: dict[str, Callable[[], PlanError]] = {
    "costs_for_other_graph": other_costs,
    "too_many_instructions": lambda: refusal(program(*([run(DRAW1)] * 641))),
    "unknown_op": lambda: refusal(edited(insert=(run(10),))),
    "unknown_storage": lambda: refusal(edited(insert=(free(14),))),
    "rematerialization_not_allowed": lambda: refusal(
        edited(after=run(LAYER1), insert=(run(LAYER1),)), allowed=Allowed(rematerialize=False)),
    "reordering_not_allowed": lambda: refusal(
        edited(drop=run(DRAW2), after=run(LAYER1), insert=(run(DRAW2),)),
        allowed=Allowed(reorder=False)),
    "paging_not_allowed": lambda: refusal(PAGED_W1, allowed=Allowed(page=False)),
    "start_duplicate": lambda: refusal(started((*KEEP.start_ram, W1), ())),
    "start_not_persistent": lambda: refusal(started((*KEEP.start_ram, H1), ())),
    "start_missing": lambda: refusal(started(KEEP.start_ram[1:], ())),
    "zero_bytes": lambda: empty_storage_refusal(at_start((), (), (run(0), free(0)))),
    "not_resident": lambda: refusal(edited(drop=run(LAYER1))),
    "wrong_version": lambda: refusal(RECOMPUTED_TOO_LATE),
    "not_recomputable": run_once_graph_refusal,
    "random_order": lambda: refusal(
        edited(drop=run(DRAW1), after=run(DRAW2), insert=(run(DRAW1),))),
    "page_out_not_resident": lambda: refusal(edited(before=run(LAYER1), insert=(out(H1),))),
    "page_out_redundant": lambda: refusal(
        edited(after=run(LAYER1), insert=(out(W1), out(W1)))),
    "page_in_resident": lambda: refusal(
        edited(after=run(LAYER1), insert=(out(W1), bring(W1)))),
    "page_in_no_copy": lambda: refusal(edited(before=run(LAYER1), insert=(bring(H1),))),
    "free_not_resident": lambda: refusal(edited(before=run(LAYER1), insert=(free(H1),))),
    "ram_exceeded": lambda: refusal(KEEP, Budget(ram_bytes=40)),
    "flash_exceeded": lambda: refusal(PAGED_W1, replace(ROOMY, flash_bytes=5)),
    "flash_writes_exceeded": lambda: refusal(PAGED_W1, replace(ROOMY, flash_write_bytes=4)),
    "op_never_ran": lambda: refusal(edited(drop=run(UPDATE2))),
    "result_missing": lambda: refusal(edited(insert=(free(LOSS),))),
    "not_back_in_ram": lambda: refusal(edited(insert=(free(W1),))),
    "left_in_ram": lambda: refusal(edited(drop=free(H1))),
    "old_version_in_ram": lambda: refusal(OLD_M1_COMES_BACK),
    "old_version_in_flash": lambda: refusal(started(KEEP.start_ram, (W1,))),
    "figures_overflow": infinite_energy,
    "time_exceeded": lambda: refusal(KEEP, replace(ROOMY, step_seconds=54.9)),
    "energy_exceeded": lambda: refusal(KEEP, replace(ROOMY, energy_joules=9.9)),
    "plan_for_other_graph": lambda: refused_plan(graph_sha256="0" * 64),
    "claim_mismatch": lambda: refused_plan(
        claims=replace(plan().claims, peak_bytes=plan().claims.peak_bytes + 1)),
}  # fmt: skip


@pytest.mark.parametrize("code", CASES)
def test_every_rule_has_its_own_code(code: str) -> None:
    error = CASES[code]()
    assert error.code == code
    assert error.message.endswith(".")


def test_the_table_in_the_documentation_is_the_judges_list() -> None:
    table = set(
        re.findall(
            r"^\| `([a-z]+(?:_[a-z]+)+)`(?:, `page_in`)? \|", RULES.read_text(), re.MULTILINE
        )
    )
    assert table - {"page_out", "page_in"} == set(CASES)
    judge = codes_in(judge_module) | codes_in(flash_account_module)
    assert judge | codes_in(verify_module) == set(CASES)


def codes_in(module: object) -> set[str]:
    """Every string of a module that looks like a code: words joined by underscores.

    Names of details and of claims are no codes; `unknown_{what}` stands for two.
    """
    tree = ast.parse(Path(module.__file__).read_text())  # type: ignore[attr-defined]
    strings = {
        node.value for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }  # fmt: skip
    codes = {text for text in strings if re.fullmatch(r"[a-z]+(_[a-z]+)+", text)}
    if "unknown_" in strings:
        codes |= {"unknown_op", "unknown_storage"}
    details = {"bytes_over", "storage_name"}
    claims = {
        "peak_bytes",
        "flash_peak_bytes",
        "flash_bytes_written",
        "step_seconds",
        "energy_joules",
    }
    return codes - details - claims


@pytest.mark.parametrize(
    ("code", "where"),
    [
        ("unknown_op", {"instruction": 19}),
        ("not_resident", {"instruction": 2, "storage": H1, "storage_name": "h1", "op": LAYER2}),
        ("page_in_no_copy", {"instruction": 2, "storage": H1, "storage_name": "h1"}),
        ("op_never_ran", {"op": UPDATE2}),
        ("result_missing", {"storage": LOSS, "storage_name": "loss"}),
        ("flash_exceeded", {"bytes_over": 1}),
        ("flash_writes_exceeded",
         {"instruction": 3, "storage": W1, "storage_name": "w1", "bytes_over": 2}),
    ],
)  # fmt: skip
def test_a_refusal_says_where(code: str, where: dict[str, object]) -> None:
    assert CASES[code]().details == where


def test_ram_exceeded_says_by_how_many_bytes() -> None:
    """Layer2's backward by weight: 22 persistent, x 8, masks 2, h1 4, loss 1, g2 3, gw2 5."""
    peak = simulate(GRAPH, COSTS, ROOMY, KEEP)
    assert peak.peak_bytes == 45
    error = refusal(KEEP, Budget(ram_bytes=44))
    assert error.details == {"instruction": peak.peak_instruction, "bytes_over": 1}
    assert refusal(KEEP, Budget(ram_bytes=29)).details == {"instruction": -1, "bytes_over": 1}
    simulate(GRAPH, COSTS, Budget(ram_bytes=45), KEEP)


def test_flash_that_fills_up_during_the_step_is_refused_at_the_transfer() -> None:
    schedule = edited(after=run(LAYER2), insert=(out(H1), out(H2), free(H2), bring(H2)))
    simulate(GRAPH, COSTS, replace(ROOMY, flash_bytes=4), schedule)
    error = refusal(schedule, replace(ROOMY, flash_bytes=3))
    assert (error.code, error.details["instruction"]) == ("flash_exceeded", 4)
    assert error.details["bytes_over"] == 1


def test_zero_byte_storages_are_named_nowhere() -> None:
    for schedule in (
        at_start((), (), (out(1), run(0))),
        at_start((), (), (run(0), bring(0))),
        at_start((1,), (), (run(0),)),
        at_start((), (1,), (run(0),)),
    ):
        assert empty_storage_refusal(schedule).code == "zero_bytes"


@pytest.mark.parametrize("name", ["peak_bytes", "step_seconds", "energy_joules",
                                  "flash_peak_bytes", "flash_bytes_written"])  # fmt: skip
def test_no_claim_is_believed(name: str) -> None:
    claims = plan().claims
    error = refused_plan(claims=replace(claims, **{name: getattr(claims, name) + 1}))
    assert (error.code, error.details["claim"]) == ("claim_mismatch", name)


class TestCorruptedPlans:
    """The ways in which a plan is spoilt in practice; each is refused by the rule that it breaks."""

    def test_the_plan_itself_is_good(self) -> None:
        assert verify(GRAPH, plan()).energy_joules == 10

    def test_dropped_instruction(self) -> None:
        assert refusal(edited(drop=run(BACK_X2))).code == "not_resident"
        assert refusal(edited(drop=free(GW1))).code == "left_in_ram"

    def test_duplicated_instruction(self) -> None:
        assert refusal(edited(after=free(H1), insert=(free(H1),))).code == "free_not_resident"
        assert refusal(edited(after=run(UPDATE1), insert=(run(UPDATE1),))).code == "wrong_version"

    def test_reordered_instructions(self) -> None:
        moved = edited(drop=run(LOSS_OP), after=run(BACK_W2), insert=(run(LOSS_OP),))
        assert refusal(moved).code == "not_resident"

    def test_retargeted_instruction(self) -> None:
        assert refusal(edited(drop=free(H2), after=run(LOSS_OP), insert=(free(X),))).code == (
            "not_resident"
        )

    def test_stale_flash_copy_is_used(self) -> None:
        """m1 goes to flash before its update, and comes back instead of the new m1."""
        error = CASES["old_version_in_ram"]()
        assert (error.code, error.details["storage_name"]) == ("old_version_in_ram", "m1")

    def test_stale_flash_copy_is_left_for_the_next_step(self) -> None:
        """w1 begins in both places and is updated in RAM only: step 2 would read the old one."""
        error = refusal(started(KEEP.start_ram, (W1,)))
        assert (error.code, error.details["storage_name"]) == ("old_version_in_flash", "w1")

    def test_recompute_after_an_update(self) -> None:
        error = refusal(RECOMPUTED_TOO_LATE)
        assert (error.code, error.details["storage_name"]) == ("wrong_version", "w1")

    def test_update_before_a_first_read(self) -> None:
        early = edited(drop=run(UPDATE2), before=run(BACK_X2), insert=(run(UPDATE2),))
        error = refusal(early)
        assert (error.code, error.details) == (
            "wrong_version",
            {"instruction": early.instructions.index(run(BACK_X2)), "op": BACK_X2, "storage": W2,
             "storage_name": "w2"},
        )  # fmt: skip

    def test_one_update_missing(self) -> None:
        error = refusal(edited(drop=run(UPDATE1)))
        assert (error.code, error.details["op"]) == ("op_never_ran", UPDATE1)

    def test_forward_only(self) -> None:
        end = KEEP.instructions.index(run(LOSS_OP)) + 1
        error = refusal(program(*KEEP.instructions[:end]))
        assert (error.code, error.details["op"]) == ("op_never_ran", BACK_W2)

    def test_two_dropouts_swapped(self) -> None:
        swapped = edited(drop=run(DRAW1), after=run(DRAW2), insert=(run(DRAW1),))
        error = refusal(swapped)
        assert (error.code, error.details["op"]) == ("random_order", DRAW1)

    def test_missing_result(self) -> None:
        assert refusal(edited(after=run(LOSS_OP), insert=(free(LOSS),))).code == "result_missing"

    def test_persistent_storage_not_back_where_it_was(self) -> None:
        gone = edited(insert=(out(W1), free(W1)))
        error = refusal(gone)
        assert (error.code, error.details["storage_name"]) == ("not_back_in_ram", "w1")

    def test_masks_may_be_drawn_again_but_not_from_a_lost_generator_state(self) -> None:
        """The state of a replayed draw is in use from the first run to the last."""
        again = edited(after=run(LAYER2), insert=(free(MASK2), run(DRAW2)))
        judged = simulate(GRAPH, COSTS, ROOMY, again)
        once = simulate(GRAPH, COSTS, ROOMY, KEEP)
        first, last = (
            [i for i, one in enumerate(again.instructions) if one == run(DRAW2)][k] for k in (0, 1)
        )
        assert judged.memory_bytes[first] == once.memory_bytes[first] + 2
        assert judged.memory_bytes[last] == once.memory_bytes[last - 2] + 2
        assert judged.memory_bytes[last + 1] == once.memory_bytes[last - 1]
