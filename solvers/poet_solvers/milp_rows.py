"""The judged model's rows about where values are: runs, residency, flash and the cycle.

Each row says in its name which rule of the game it keeps. Rows named useful_* exclude only choices
that cost something and help nobody.
"""

from __future__ import annotations

from poet_solvers.milp_model import JudgedModel, Terms, Variable, negative
from poet_solvers.values import Value


def add_decisions(model: JudgedModel) -> None:
    """R, start.ram, start.flash, hold and page_in of every value."""
    for stage, ops in enumerate(model.windows.stages):
        for op_id in ops[:-1]:
            model.runs[stage, op_id] = model.binary(f"R_{stage}_{op_id}")
    paging = model.problem.allowed.page
    for value in model.table.values:
        if paging and value.persistent and value.starts_step:
            storage = value.storage
            in_ram = model.start_ram[storage] = model.binary(f"start_ram_{storage}")
            in_flash = model.start_flash[storage] = model.binary(f"start_flash_{storage}")
            model.row([(in_ram, 1), (in_flash, 1)], ">=", 1, f"start_{storage}")
        events, users = model.events(value), model.windows.users_at[value.id]
        for index in range(1, len(events)):
            key = (value.id, index)
            model.hold[value.id, index - 1] = model.binary(f"S_ram_{value.id}_{index - 1}")
            if paging and (events[index] == model.end or events[index] in users):
                model.page_in[key] = model.binary(f"M_in_{value.id}_{index}")


def add_residency(model: JudgedModel) -> None:
    """What is in RAM was there before, was just produced, or was paged in."""
    for value in model.table.values:
        events = model.events(value)
        _add_first_gap(model, value)
        for index in range(1, len(events)):
            present = model.present(value, index)
            if len(present) > 1:
                model.row(present, "<=", 1, f"page_in_of_absent_{value.id}_{index}")
            if events[index] == model.end:
                _add_end(model, value, present)
            else:
                _add_event(model, value, index, present)


def _add_first_gap(model: JudgedModel, value: Value) -> None:
    start = model.start_ram.get(value.storage) if value.starts_step else None
    first = model.hold.get((value.id, 0))
    if start is not None and first is not None:
        model.row([(first, 1), (start, -1)], "<=", 0, f"held_from_start_{value.id}")


def _add_end(model: JudgedModel, value: Value, present: Terms) -> None:
    """At the end RAM holds exactly start.ram and the results."""
    start = model.start_ram.get(value.storage)
    if start is None or model.problem.graph.storages[value.storage].result:
        model.row(present, "==", 1, f"at_end_{value.id}")
    else:
        model.row([*present, (start, -1.0)], "==", 0, f"at_end_{value.id}")


def _add_event(model: JudgedModel, value: Value, index: int, present: Terms) -> None:
    stage = model.events(value)[index]
    users = model.windows.users_at[value.id].get(stage, ())
    after = model.held_after(value, stage)
    if after:
        source = present + model.again(stage, value.producer)
        model.row([*after, *negative(source)], "<=", 0, f"held_from_{value.id}_{index}")
    if present and stage not in users:
        uses = [term for user in users for term in model.again(stage, user)]
        model.row(
            [*present, *negative(after), *negative(uses)], "<=", 0, f"useful_{value.id}_{index}"
        )


def add_dependencies(model: JudgedModel) -> None:
    """R[t, o] <= S_ram[t, v] + R[t, producer of v], for every v that op o needs."""
    for stage, ops in enumerate(model.windows.stages):
        for op_id in ops:
            for v in model.table.needed[op_id]:
                value = model.table.values[v]
                source = model.present(value, model.event_at(v, stage))
                source += model.again(stage, value.producer)
                certain = 1.0 if op_id == stage else 0.0
                model.row(
                    [*source, *negative(model.again(stage, op_id))],
                    ">=",
                    certain,
                    f"needs_{stage}_{op_id}_{v}",
                )


def add_useful_runs(model: JudgedModel) -> None:
    """A second run gives something that is used in its stage or held after it."""
    for (stage, op_id), run in model.runs.items():
        given = [model.table.values[v] for v in model.table.given(op_id)]
        users = [model.windows.users_at[value.id].get(stage, ()) for value in given]
        if any(stage in ops for ops in users):
            continue
        wanted = [term for ops in users for user in ops for term in model.again(stage, user)]
        for value in given:
            wanted += model.held_after(value, stage)
        model.row([(run, 1), *negative(wanted)], "<=", 0, f"useful_run_{stage}_{op_id}")


def add_flash(model: JudgedModel) -> None:
    """A page_in needs a copy, and start.flash a copy of the last version at the end."""
    if not model.problem.allowed.page:
        return
    dated = model.problem.budget.flash_bytes is not None
    copies: dict[tuple[int, int], Variable] = {}
    for value in model.table.values:
        page_ins = {
            index: model.page_in[value.id, index]
            for index in range(1, len(model.events(value)))
            if (value.id, index) in model.page_in
        }
        if value.persistent and value.starts_step:
            source = model.start_flash[value.storage]
        elif not page_ins:
            continue
        elif dated and not value.persistent:
            copies |= _add_dated_copies(model, value, page_ins)
            continue
        else:
            source = model.page_out[value.id, 0] = model.binary(f"M_out_{value.id}_0")
            if value.persistent and value.at_end:
                begins = model.start_flash[value.storage]
                model.row([(begins, 1), (source, -1)], "<=", 0, f"flash_at_end_{value.id}")
        for index, variable in page_ins.items():
            model.row([(variable, 1), (source, -1)], "<=", 0, f"copy_{value.id}_{index}")
    if dated:
        _add_capacity(model, copies)
    _add_write_cap(model)


def _add_dated_copies(
    model: JudgedModel, value: Value, page_ins: dict[int, Variable]
) -> dict[tuple[int, int], Variable]:
    """Where flash is small it matters when a copy is written: S_flash by gap, and one page_out.

    S_flash is continuous: the binaries around it leave no use for a value between 0 and 1.
    """
    v, events = value.id, model.events(value)
    copies: dict[tuple[int, int], Variable] = {}
    for index in range(len(events) - 1):
        out = model.page_out[v, index] = model.binary(f"M_out_{v}_{index}")
        copy = copies[v, index] = model.continuous(f"S_flash_{v}_{index}")
        carried = [(copies[v, index - 1], -1.0)] if index else []
        model.row([(copy, 1), (out, -1), *carried], "<=", 0, f"S_flash_from_{v}_{index}")
        if index + 1 in page_ins:
            model.row([(page_ins[index + 1], 1), (copy, -1)], "<=", 0, f"copy_{v}_{index + 1}")
        if index:
            source = model.present(value, index) + model.again(events[index], value.producer)
            model.row([(out, 1), *negative(source)], "<=", 0, f"out_of_{v}_{index}")
    outs: Terms = [(model.page_out[v, index], 1.0) for index in range(len(events) - 1)]
    model.row(outs, "<=", 1, f"one_copy_{v}")
    return copies


def _add_capacity(model: JudgedModel, copies: dict[tuple[int, int], Variable]) -> None:
    """Copies alive in a stage fit in flash; a persistent storage that is ever there always is."""
    limit = model.problem.budget.flash_bytes
    assert limit is not None
    always: Terms = []
    for value in model.table.values:
        if value.persistent and value.starts_step:
            ever = model.continuous(f"in_flash_{value.storage}")
            always.append((ever, float(value.flash_bytes)))
            outs = [
                variable
                for (v, _), variable in model.page_out.items()
                if model.table.values[v].storage == value.storage
            ]
            for number, variable in enumerate([model.start_flash[value.storage], *outs]):
                name = f"ever_in_flash_{value.storage}_{number}"
                model.row([(ever, 1), (variable, -1)], ">=", 0, name)
    unit = float(max((value.flash_bytes for value in model.table.values), default=1))
    for stage in range(-1, model.end):
        alive = list(always)
        for (v, index), copy in copies.items():
            value = model.table.values[v]
            first, last = model.events(value)[index], model.events(value)[index + 1]
            if first < stage <= last:
                alive.append((copy, float(value.flash_bytes)))
            if stage == first:
                alive.append((model.page_out[v, index], float(value.flash_bytes)))
        row = [(variable, weight / unit) for variable, weight in alive]
        model.row(row, "<=", limit / unit, f"flash_capacity_{stage + 1}")


def _add_write_cap(model: JudgedModel) -> None:
    cap = model.problem.budget.flash_write_bytes
    if cap is None:
        return
    sizes = [(variable, model.table.values[v].flash_bytes)
             for (v, _), variable in model.page_out.items()]  # fmt: skip
    unit = float(max((size for _, size in sizes), default=1))
    model.row([(variable, size / unit) for variable, size in sizes], "<=", cap / unit, "writes")
