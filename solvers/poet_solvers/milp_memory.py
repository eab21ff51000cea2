"""The judged model's rows about RAM: U after every op of every stage, exact in bytes.

A stage in which only its own op can run has one row. Where others may run before it, U follows
POET's recurrence: U[t, k] = U[t, k-1] + what op k writes - what is freed after op k-1, with Free
only where nobody in the stage and nobody after it wants the value. The workspace of the running op
is added in its own row only.
"""

from __future__ import annotations

import math

from poet_solvers.milp_model import JudgedModel, Terms, Variable, negative, scaled
from poet_solvers.values import Value

# A weight of a memory row is at most about this: wide of the solvers' absolute tolerances.
_LARGEST_WEIGHT = 4096.0


def add_memory(model: JudgedModel) -> None:
    """All memory rows: before the step, in each stage, at the end."""
    rows = _MemoryRows(model)
    rows.before_step()
    for stage in range(model.end):
        rows.stage(stage)
    rows.at_end()


class _MemoryRows:
    """Bytes are counted in units: a power of two times the divisor of all sizes."""

    def __init__(self, model: JudgedModel) -> None:
        self._model = model
        self._budget, self._graph = model.problem.budget, model.problem.graph
        sizes = [value.ram_bytes for value in model.table.values]
        sizes += [self._budget.rounded(op.workspace_bytes) for op in self._graph.ops]
        self._rng_bytes = self._budget.rounded(self._graph.rng_state_bytes)
        sizes.append(self._rng_bytes)
        self._divisor = math.gcd(*sizes) or 1
        steps = max(sizes) / self._divisor / _LARGEST_WEIGHT
        self._unit = self._divisor * 2.0 ** max(0, math.ceil(math.log2(steps)) if steps else 0)
        self._replayed = self._rng_holds()

    def before_step(self) -> None:
        """start.ram and the inputs."""
        terms: Terms = []
        constant = 0
        for value in self._model.table.values:
            if value.starts_step:
                start = self._model.start_ram.get(value.storage)
                if start is None:
                    constant += value.ram_bytes
                else:
                    terms.append((start, value.ram_bytes / self._unit))
        self._model.row(terms, "<=", self._left(constant), "memory_before_step")

    def at_end(self) -> None:
        self._model.row(self._residents(self._model.end), "<=", self._left(0), "memory_at_end")

    def stage(self, stage: int) -> None:
        """The rows of one stage."""
        model = self._model
        ops = model.windows.stages[stage]
        terms = self._residents(stage)
        own_bytes = sum(model.table.values[v].ram_bytes for v in model.table.written[stage])
        own_bytes += self._budget.rounded(self._graph.ops[stage].workspace_bytes)
        own_rng = self._replayed.get((stage, stage), [])
        if len(ops) == 1:
            model.row([*terms, *own_rng], "<=", self._left(own_bytes), f"memory_{stage}")
            return
        limit = self._left(0)
        for op_id in ops[:-1]:
            run = model.runs[stage, op_id]
            new_bytes = sum(model.table.values[v].ram_bytes for v in model.table.written[op_id])
            workspace_bytes = self._budget.rounded(self._graph.ops[op_id].workspace_bytes)
            used = model.continuous(f"U_{stage}_{op_id}", None)
            grown = [*terms, (run, new_bytes / self._unit), (used, -1.0)]
            model.row(grown, "==", 0, f"U_{stage}_{op_id}")
            in_use = [(used, 1.0), (run, workspace_bytes / self._unit)]
            model.row(in_use, "<=", limit, f"memory_{stage}_{op_id}")
            terms = [(used, 1.0), *self._freed(stage, op_id)]
        model.row([*terms, *own_rng], "<=", self._left(own_bytes), f"memory_{stage}")

    def _left(self, constant_bytes: int) -> float:
        """The budget less constants, rounded down to what sizes can add up to, in units."""
        budget = self._budget
        left = budget.ram_bytes - self._model.margin_bytes - budget.reserved_bytes
        return (left - constant_bytes) // self._divisor * self._divisor / self._unit

    def _residents(self, stage: int) -> Terms:
        """Everything in RAM at the start of a stage, in units."""
        terms: Terms = []
        for value in self._model.table.values:
            found = self._model.resident(value, stage)
            terms += scaled(found, value.ram_bytes / self._unit)
        for (held_stage, op_id), holds in self._replayed.items():
            if held_stage == stage and op_id != stage:
                terms += holds
        return terms

    def _freed(self, stage: int, op_id: int) -> Terms:
        """What may be freed right after op_id in this stage, negative, in units."""
        model = self._model
        terms: Terms = []
        for v in model.table.needed[op_id] + model.table.written[op_id]:
            value = model.table.values[v]
            if stage not in value.users:
                free = self._free(value, stage, op_id)
                terms.append((free, -value.ram_bytes / self._unit))
        return terms

    def _free(self, value: Value, stage: int, op_id: int) -> Variable:
        """POET's Free. Continuous: only its upper bounds matter, and those are 0 or 1."""
        model, name = self._model, f"{stage}_{value.id}_{op_id}"
        free = model.continuous(f"Free_{name}")
        model.row([(free, 1), *negative(model.again(stage, op_id))], "<=", 0, f"free_after_{name}")
        after = model.held_after(value, stage)
        if after:
            model.row([(free, 1), *after], "<=", 1, f"free_unless_held_{name}")
        for user in model.windows.users_at[value.id].get(stage, ()):
            if user > op_id:
                model.row(
                    [(free, 1), *model.again(stage, user)], "<=", 1, f"free_before_{name}_{user}"
                )
        return free

    def _rng_holds(self) -> dict[tuple[int, int], Terms]:
        """By (stage, random op): the generator state that the op's last run still needs.

        Counted for the whole of each stage from the first run's own row to the last run's stage.
        """
        holds: dict[tuple[int, int], Terms] = {}
        if not self._rng_bytes:
            return holds
        for op in self._graph.ops:
            stages = sorted(t for t, o in self._model.runs if o == op.id) if op.random else []
            later: Variable | None = None
            for position in reversed(range(len(stages))):
                name = f"rng_{op.id}_{stages[position]}"
                hold = self._model.continuous(name)
                run = self._model.runs[stages[position], op.id]
                self._model.row([(hold, 1), (run, -1)], ">=", 0, f"{name}_now")
                if later is not None:
                    self._model.row([(hold, 1), (later, -1)], ">=", 0, f"{name}_later")
                first = stages[position - 1] + 1 if position else op.id
                for stage in range(first, stages[position] + 1):
                    holds[stage, op.id] = [(hold, self._rng_bytes / self._unit)]
                later = hold
        return holds
