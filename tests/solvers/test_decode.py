"""Decoding: which instructions an answer becomes, and docs/formulation.md's worked example."""

from __future__ import annotations

import re
from pathlib import Path

from poet_core.costs import Costs
from poet_core.graph import Op, Phase, Role, Storage, TrainingGraph
from poet_core.plan import Allowed, Budget, Do, Instruction, Problem, Schedule
from poet_core.simulate import simulate
from poet_solvers.decode import decode
from poet_solvers.poet_milp import judged_model
from tests.solvers.milp_cases import objective_of, solve_here, unit_chain

DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "formulation.md"
WORDS = {Do.COMPUTE: "C", Do.PAGE_OUT: "out", Do.PAGE_IN: "in", Do.FREE: "free"}


def told(schedule: Schedule) -> str:
    """The instructions as words: C0 out0 C1 free0 ..."""
    return " ".join(f"{WORDS[i.do]}{i.target}" for i in schedule.instructions)


def test_the_worked_example_of_the_document() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    [block] = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    scope: dict[str, object] = {"__name__": "formulation_example"}
    exec(compile(block, str(DOCUMENT), "exec"), scope)  # its asserts are the test
    [words] = re.findall(r"```text\n(C0 .*?)\n```", text, re.DOTALL)
    assert told(scope["schedule"]) == " ".join(words.replace("|", " ").split())  # type: ignore[arg-type]


def test_the_unit_chain_pages_out_at_once_and_in_as_late_as_can_be(tmp_path: Path) -> None:
    problem = unit_chain(2, 3, 0.4, Allowed())
    model = judged_model(problem)
    answer = solve_here(model, tmp_path)
    assert answer is not None
    schedule = decode(model, answer)
    figures = simulate(problem.graph, problem.costs, problem.budget, schedule)
    assert figures.energy_joules == objective_of(model, answer)
    assert round(figures.energy_joules, 9) == 5.8
    assert told(schedule) == "C0 out0 C1 free0 C2 C3 free1 free2 in0 C4 free0 free3"


def _storage(number: int, size: int, role: Role, **flags: bool) -> Storage:
    return Storage(id=number, name=f"s{number}", size_bytes=size, role=role, **flags)


def _problem(storages: list[Storage], ops: list[Op], ram_bytes: int) -> Problem:
    zeros, ones = (0.0,) * len(storages), (1.0,) * len(storages)
    work = (1.0,) * len(ops)
    return Problem(
        graph=TrainingGraph(storages=tuple(storages), ops=tuple(ops)),
        costs=Costs(
            op_seconds=work, op_joules=work, page_in_seconds=zeros, page_in_joules=ones,
            page_out_seconds=zeros, page_out_joules=ones,
        ),
        budget=Budget(ram_bytes=ram_bytes),
    )  # fmt: skip


def _answer(problem: Problem, folder: Path) -> Schedule:
    model = judged_model(problem)
    answer = solve_here(model, folder)
    assert answer is not None
    schedule = decode(model, answer)
    simulate(problem.graph, problem.costs, problem.budget, schedule)
    return schedule


def test_a_mutated_persistent_storage_goes_back_to_where_it_began(tmp_path: Path) -> None:
    """A weight of 4 bytes is read, then updated; a wide op in between needs all 6 bytes of RAM."""
    storages = [
        _storage(0, 4, Role.PARAMETER, persistent=True),
        _storage(1, 1, Role.ACTIVATION),
        _storage(2, 5, Role.ACTIVATION),
        _storage(3, 1, Role.RESULT, result=True),
    ]
    ops = [
        Op(id=0, name="use", kind="t", phase=Phase.FORWARD, reads=(0,), writes=(1,)),
        Op(id=1, name="wide", kind="t", phase=Phase.FORWARD, reads=(1,), writes=(2,)),
        Op(id=2, name="narrow", kind="t", phase=Phase.FORWARD, reads=(2,), writes=(3,)),
        Op(id=3, name="update", kind="t", phase=Phase.UPDATE, reads=(3,), mutates=(0,)),
    ]
    schedule = _answer(_problem(storages, ops, 6), tmp_path)
    assert schedule.start_flash == (0,)
    # in for the first use and out after the update: the copy in flash is never stale at the end
    transfers = [i for i in schedule.instructions if i.do in (Do.PAGE_IN, Do.PAGE_OUT)]
    assert transfers[-1] == Instruction(Do.PAGE_OUT, 0)
    assert schedule.instructions.index(Instruction(Do.COMPUTE, 3)) < len(
        schedule.instructions
    ) - 1 - schedule.instructions[::-1].index(Instruction(Do.PAGE_OUT, 0))


def test_an_old_version_is_freed_before_it_is_overwritten(tmp_path: Path) -> None:
    """Writing onto a resident storage counts twice; 4 + 4 bytes would not fit in 5."""
    storages = [
        _storage(0, 4, Role.BUFFER, persistent=True),
        _storage(1, 1, Role.ACTIVATION),
    ]
    ops = [
        Op(id=0, name="read", kind="t", phase=Phase.FORWARD, reads=(0,), writes=(1,)),
        Op(id=1, name="overwrite", kind="t", phase=Phase.FORWARD, reads=(1,), writes=(0,)),
    ]
    schedule = _answer(_problem(storages, ops, 5), tmp_path)
    assert told(schedule).startswith("C0 free0 C1")


def test_what_nobody_pages_in_is_not_paged_out_nor_kept_in_flash(tmp_path: Path) -> None:
    """With free transfers a solver may set anything; the decoder leaves out what has no use."""
    storages = [
        _storage(0, 1, Role.PARAMETER, persistent=True),
        _storage(1, 1, Role.ACTIVATION),
    ]
    ops = [Op(id=0, name="use", kind="t", phase=Phase.FORWARD, reads=(0,), writes=(1,))]
    problem = _problem(storages, ops, 2)
    model = judged_model(problem)
    model.row([(model.start_ram[0], 1)], "==", 1, "in_ram")
    model.row([(model.start_flash[0], 1)], "==", 1, "in_flash_too")
    answer = solve_here(model, tmp_path)
    assert answer is not None
    schedule = decode(model, answer)
    assert (schedule.start_ram, schedule.start_flash) == ((0,), ())
    assert told(schedule) == "C0 free1"
