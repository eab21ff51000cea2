"""The timeline's memory, kept up to date, against one measured anew from its sequence."""

from __future__ import annotations

from random import Random

import pytest

from poet_core.plan import Problem
from poet_solvers.greedy_timeline import Timeline
from poet_solvers.occurrences import END, START, StepModel, step_model
from tests.oracles.generate import Shape, random_budget, random_costs, random_graph


def measured(line: Timeline) -> tuple[list[int], list[int], set[tuple[int, int, int]]]:
    """Memory, what is held across and the holds (value, since, until), from the sequence alone."""
    model, table = line.model, line.table
    sequence = line.sequence()
    runs = [(START, START), *sequence.runs, (END, END)]
    values = table.values
    extra = [0] * len(runs)
    across = [model.problem.budget.reserved_bytes] * len(runs)
    holds: set[tuple[int, int, int]] = set()
    last: dict[int, int] = {}
    in_ram = {v.id for v in values if v.persistent and v.storage in sequence.start_ram}
    for position, (number, op) in enumerate(runs):
        needed: tuple[int, ...] = table.needed[op] if op >= 0 else ()
        written: tuple[int, ...] = table.written[op] if op >= 0 else ()
        mutated: tuple[int, ...] = table.mutated[op] if op >= 0 else ()
        if op == START:
            begins = (v.id for v in values if v.starts_step)
            written = tuple(v for v in begins if v in in_ram or not values[v].persistent)
        if op == END:
            stays = {table.last_of[storage] for storage in sequence.start_ram}
            needed = tuple(sorted(stays | set(model.results)))
        for v in needed:
            if v in last and (v, number) not in sequence.paged:
                holds.add((v, last[v], position))
                for between in range(last[v] + 1, position + 1):
                    across[between] += values[v].ram_bytes
            else:
                extra[position] += values[v].ram_bytes
        extra[position] += sum(values[v].ram_bytes for v in written)
        extra[position] += model.workspace_bytes[op] if op >= 0 else 0
        last.update(dict.fromkeys((*needed, *written, *mutated), position))
    return [a + b for a, b in zip(across, extra, strict=True)], across, holds


def check(line: Timeline) -> None:
    memory, across, holds = measured(line)
    assert line.memory.tolist() == memory
    assert line.across.tolist() == across
    assert [int(line.place[node]) for node in line.order] == list(range(len(line.order)))
    kept = {
        (v, int(line.place[since]), int(line.place[until]))
        for v, spans in enumerate(line.holds.of)
        for since, until in spans
    }
    assert kept == holds
    for position in range(0, line.length, 3):
        chosen = {
            (int(line.holds.value[row]), int(line.holds.since[row]), int(line.holds.until[row]))
            for row in line.holds.across(position)
        }
        assert chosen <= {one for one in holds if one[1] < position < one[2]}


def change(line: Timeline, rng: Random) -> str:
    """One random change; what it was."""
    choices = [(v, spans) for v, spans in enumerate(line.holds.of) if spans]
    kind = rng.choice(("page", "hold", "leave", "come back", "put in", "put in", "take out"))
    if kind == "page" and choices:
        v, spans = rng.choice(choices)
        _, until = rng.choice(sorted(spans))
        line.page(v, until)
    elif kind == "hold" and line.paged:
        line.hold(*rng.choice(sorted(line.paged)))
    elif kind == "leave" and line.start_ram:
        line.leave(rng.choice(sorted(line.start_ram)))
    elif kind == "come back" and line.model.persistent - line.start_ram:
        line.come_back(rng.choice(sorted(line.model.persistent - line.start_ram)))
    elif kind == "put in":
        before = rng.choice(line.order[1:])
        run = sorted(
            o for o in range(len(line.model.op_cost)) if line.place[o] < line.place[before]
        )
        ops = [o for o in run if not line.table.mutated[o]]
        if not ops:
            return "nothing"
        chosen = rng.sample(ops, min(len(ops), rng.randint(1, 3)))
        line.put_in(before, [(o, tuple(v for v in line.table.needed[o] if rng.random() < 0.3))
                             for o in chosen])  # fmt: skip
    elif kind == "take out" and len(line.order) > len(line.model.op_cost) + 2:
        line.take_out(rng.choice(sorted(line.second_runs())))
    else:
        return "nothing"
    return kind


def model_of(rng: Random, most_ops: int) -> StepModel:
    graph = random_graph(rng, Shape(most_ops=most_ops))
    return step_model(
        Problem(graph=graph, costs=random_costs(rng, graph), budget=random_budget(rng, 50))
    )


@pytest.mark.parametrize("huge", [False, True])
def test_memory_kept_up_to_date_is_memory_measured_anew(
    huge: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in Python's own integers, which take over where bytes exceed numpy's."""
    if huge:
        monkeypatch.setattr("poet_solvers.greedy_timeline._MOST_INT64", 1)
    done: dict[str, int] = {}
    for seed in range(150):
        rng = Random(seed)
        line = Timeline(model_of(rng, most_ops=10))
        check(line)
        for _ in range(12):
            kind = change(line, rng)
            done[kind] = done.get(kind, 0) + 1
            check(line)
    assert all(done[kind] > 50 for kind in ("page", "hold", "leave", "come back", "put in")), done
    assert done["take out"] > 50


def test_a_run_taken_out_and_put_in_again_changes_nothing() -> None:
    for seed in range(60):
        rng = Random(seed)
        line = Timeline(model_of(rng, most_ops=12))
        while change(line, rng) != "put in":
            pass
        memory, paged = line.memory.tolist(), len(line.paged)
        after, run = line.take_out(rng.choice(sorted(line.second_runs())))
        assert line.length == len(memory) - 1
        line.put_in(after, [run])
        assert line.memory.tolist() == memory
        assert len(line.paged) == paged
        check(line)
