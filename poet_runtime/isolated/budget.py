"""How much of a cap is left for a plan: the cap less what the worker itself takes, measured here.

    cap  =  plan  +  worker (interpreter, torch, I/O)  +  so much for each op  +  allowance

The first two are calibrated once a process, by two workers in memory groups that only count: one
with a step of a few ops, one with a step of some hundreds (a step's ops are Python objects and
compiled source: some 12 KiB each). The allowance is for what differs between models: oneDNN's
kernels, page tables, granules that a block does not fill, and the arena's own room under a cap.

Invariant: planned + `worker_bytes` is the group's maximum under a cap that was asked of
`plan_budget_bytes`, within 2% where the step fills the allowance, because the arena keeps freed
pages as far as there is room; a small step without oneDNN's kernels leaves the allowance unused.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import nn

from poet_core.errors import BudgetError, ReplayError
from poet_core.units import format_bytes

MIB = 1 << 20
ALLOWANCE_BYTES = 12 * MIB
"""oneDNN's kernels of ResNet-18 took 6 MiB in all, and the arena's room is 4 to 10."""
ALLOWANCE_OF_PLAN = 0.03
"""Granules that blocks do not fill, and page tables: BERT's blocks took 4% more than its plan, of
which a part is never touched."""
PAGING_CODE = 1.25
"""What is calibrated keeps everything; a plan that pages has more instructions for each op, of some
1.7 KiB of code each (BERT base at 512 MiB: 3.4 an op, and 1.9 where everything is kept)."""

_DEEP_LAYERS = 24
_STEPS = 3  # the first makes kernels, the second compiles the step's other form


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerCost:
    """What a worker takes beside its plan: `base_bytes`, and `op_bytes` for each op."""

    base_bytes: int
    op_bytes: float

    def bytes_for(self, ops: int) -> int:
        """For a step of so many ops, without the allowance."""
        return self.base_bytes + int(PAGING_CODE * self.op_bytes * ops)


def plan_budget_bytes(cap_bytes: int, *, ops: int = 0) -> int:
    """The RAM budget of a plan for a worker under a cap of the kernel's; `ops`: of its graph.

    Raises BudgetError (`cap_below_worker`) and ReplayError (`no_cgroup`).
    """
    taken = worker_cost().bytes_for(ops) + ALLOWANCE_BYTES
    budget = int((cap_bytes - taken) / (1 + ALLOWANCE_OF_PLAN))
    if budget <= 0:
        raise BudgetError(
            f"A cap of {format_bytes(cap_bytes)} is below what a worker takes before it holds a "
            f"tensor: {format_bytes(taken)}.",
            code="cap_below_worker",
            hint=f"Give more than {format_bytes(taken)}: that is Python, torch and a step of {ops} "
            "ops; the plan comes on top of it.",
            details={"cap_bytes": cap_bytes, "worker_bytes": taken},
        )
    return budget


def least_cap_bytes(plan_bytes: int, *, ops: int = 0) -> int:
    """The least cap, in whole MiB, whose budget is at least `plan_bytes`."""
    taken = worker_cost().bytes_for(ops) + ALLOWANCE_BYTES
    exact = taken + (1 + ALLOWANCE_OF_PLAN) * plan_bytes + 1
    return (int(exact) // MIB + 1) * MIB


def worker_cost() -> WorkerCost:
    """Measured at the first call for a number of threads. Raises ReplayError (`no_cgroup`)."""
    return _calibrated(torch.get_num_threads())


@functools.cache
def _calibrated(_threads: int) -> WorkerCost:
    # The first worker is also charged for pages of files that nobody had read before it.
    few_ops, few_bytes = min(_taken(1), _taken(1))
    many_ops, many_bytes = _taken(_DEEP_LAYERS)
    op_bytes = max(0.0, (many_bytes - few_bytes) / (many_ops - few_ops))
    return WorkerCost(base_bytes=int(few_bytes - op_bytes * few_ops), op_bytes=op_bytes)


def _taken(layers: int) -> tuple[int, int]:
    """Ops of a step of tiny layers, and what its worker took beside the plan."""
    from poet_core.devices import load_device
    from poet_core.problem import make_problem
    from poet_runtime.isolated.step import IsolatedStep
    from poet_runtime.planner import unconstrained_plan
    from poet_runtime.tracing.trace import trace

    with torch.random.fork_rng(devices=[]):
        model, optimizer, batch = _step(layers)
        program = trace(model, nn.functional.mse_loss, optimizer, batch)
        host = load_device("host")
        plan = unconstrained_plan(make_problem(program.graph, host, ram_bytes=host.ram_bytes))
        with IsolatedStep(model, optimizer, program, plan, batch, counted=True) as step:
            for _ in range(_STEPS):
                step(*batch)
            memory = step.memory()
    if memory.group_bytes is None:  # v2 before Linux 5.19 counts no peak
        raise ReplayError(
            "The kernel here does not count the peak of a memory group.", code="no_cgroup"
        )
    return len(program.graph.ops), memory.group_bytes - memory.planned_bytes


def _step(
    layers: int,
) -> tuple[nn.Module, torch.optim.Optimizer, tuple[torch.Tensor, torch.Tensor]]:
    """Layers of the kinds that models are made of, all as small as can be."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Linear(8, 8), nn.LayerNorm(8), nn.GELU(), nn.Dropout(0.1)]
    model = nn.Sequential(*parts)
    return model, torch.optim.Adam(model.parameters()), (torch.zeros(4, 8), torch.zeros(4, 8))
