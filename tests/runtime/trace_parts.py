"""Training a model both ways, traced and eager, with every bit compared after every step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from poet_runtime.program import Program
from poet_runtime.tracing.trace import trace
from tests.runtime.interpreter import Interpreter, bits, eager_state, eager_step

STEPS = 3


def check_like_eager(
    model: nn.Module,
    loss_fn: Any,
    optimizer: torch.optim.Optimizer,
    batches: list[tuple[Any, ...]],
    scheduler: Callable[[torch.optim.Optimizer], Any] | None = None,
    **options: bool,
) -> Program:
    """Trace, then train `model` both ways; compare all bits after every step."""
    before = {name: bits(value) for name, value in eager_state(model, optimizer).items()}
    generator = torch.get_rng_state()
    program = trace(model, loss_fn, optimizer, batches[0], **options)
    assert torch.equal(generator, torch.get_rng_state())
    assert before == {name: bits(value) for name, value in eager_state(model, optimizer).items()}
    interpreter = Interpreter(program, model, optimizer)
    schedule = scheduler(optimizer) if scheduler else None
    for batch in batches:
        torch.manual_seed(17)
        traced_loss = interpreter.run(batch)
        traced_generator = torch.get_rng_state()
        torch.manual_seed(17)
        loss = eager_step(model, loss_fn, optimizer, batch)
        assert bits(loss) == bits(traced_loss)
        assert torch.equal(traced_generator, torch.get_rng_state())
        if schedule is not None:
            schedule.step()
        expected, found = eager_state(model, optimizer), interpreter.state()
        missing = {name for name in expected if name not in found}
        assert not missing
        for name, value in expected.items():
            assert bits(value) == bits(found[name]), name
    return program


def small_net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(7, 9), nn.Tanh(), nn.Linear(9, 3))


def small_batches(steps: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(5)
    return [
        (torch.randn(6, 7, generator=generator), torch.randn(6, 3, generator=generator))
        for _ in range(steps)
    ]
