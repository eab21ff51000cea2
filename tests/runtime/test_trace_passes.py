"""The tracer's passes over drafts, on cases that no ordinary network shows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.graph import Phase, Role
from poet_runtime.program import TensorSpec
from poet_runtime.tracing import storages
from poet_runtime.tracing.accumulation import accumulated_in_place, laid_out, pruned
from poet_runtime.tracing.drafts import Block, Draft
from tests.runtime.trace_parts import check_like_eager


def spec(storage: int, *, stride: int = 1) -> TensorSpec:
    return TensorSpec(storage=storage, dtype=torch.float32, size=(4,), stride=(stride,))


def block(name: str, *, persistent: bool = False) -> Block:
    return Block(name=name, size_bytes=16, role=Role.GRADIENT, persistent=persistent)


def draft(kind: str, reads: tuple[int, ...], writes: int, *, random: bool = False) -> Draft:
    return Draft(
        name=f"{kind}.{writes}",
        kind=kind,
        phase=Phase.BACKWARD,
        function=torch.add,
        args=tuple(spec(storage) for storage in reads),
        outputs=(spec(writes),),
        random=random,
    )


ADD = "aten.add.Tensor"
BLOCKS = [block("weight", persistent=True), *(block(str(number)) for number in range(1, 8))]


def test_a_sum_goes_into_a_contribution_that_nobody_reads_later() -> None:
    drafts = [draft("a", (0,), 1), draft("b", (0,), 2), draft(ADD, (1, 2), 3)]
    kept, gradients = accumulated_in_place(drafts, BLOCKS, {"weight": spec(3)})
    assert kept[2].mutates == (1,)
    assert kept[2].reads == (2,)
    assert gradients["weight"].storage == 1
    read_later = [*drafts, draft("c", (1,), 4)]
    kept, gradients = accumulated_in_place(read_later, BLOCKS, {"weight": spec(3)})
    assert kept[2].mutates == (2,)
    assert gradients["weight"].storage == 2


def test_a_sum_stays_a_sum_where_no_contribution_may_be_changed() -> None:
    drafts = [draft("a", (0,), 1), draft("b", (0,), 2), draft(ADD, (1, 2), 3)]
    both_read = [*drafts, draft("c", (1, 2), 4)]
    assert accumulated_in_place(both_read, BLOCKS, {"weight": spec(3)})[0] == both_read
    # one contribution is itself a gradient, the other is a parameter
    shared = [draft("a", (0,), 1), draft(ADD, (0, 1), 3)]
    gradients = {"weight": spec(3), "other": spec(1)}
    assert accumulated_in_place(shared, BLOCKS, gradients) == (shared, gradients)
    doubled = [draft("a", (0,), 1), draft(ADD, (1, 1), 3)]
    assert accumulated_in_place(doubled, BLOCKS, {"weight": spec(3)})[0] == doubled


def test_sums_that_lead_to_no_gradient_of_a_parameter_stay() -> None:
    drafts = [draft("a", (0,), 1), draft("b", (0,), 2), draft(ADD, (1, 2), 3), draft("c", (3,), 4)]
    assert accumulated_in_place(drafts, BLOCKS, {"weight": spec(4)})[0] == drafts


def test_a_chain_of_sums_uses_one_storage() -> None:
    drafts = [
        *(draft("a", (0,), number) for number in (1, 2, 3)),
        draft(ADD, (1, 2), 4),
        draft(ADD, (4, 3), 5),
    ]
    kept, gradients = accumulated_in_place(drafts, BLOCKS, {"weight": spec(5)})
    assert [one.mutates for one in kept[3:]] == [(1,), (1,)]
    assert gradients["weight"].storage == 1


def test_what_nobody_wants_goes_but_random_ops_stay() -> None:
    drafts = [
        draft("dead", (0,), 1),
        draft("random", (0,), 2, random=True),
        draft("alive", (0,), 3),
    ]
    kept = pruned(drafts, BLOCKS, {3})
    assert [one.kind for one in kept] == ["random", "alive"]
    assert kept[0].outputs == (None,)
    assert kept[0].unused_bytes == 16


def test_gradients_that_lie_otherwise_or_are_not_the_steps_own_are_copied() -> None:
    blocks = [*BLOCKS]
    drafts = [draft("a", (0,), 1), draft("b", (0,), 2), draft("c", (0,), 3)]
    gradients = {"good": spec(1), "spread": spec(2, stride=0), "held": spec(0)}
    kept, found = laid_out(drafts, blocks, gradients, dict.fromkeys(gradients, spec(0)))
    assert found["good"] == spec(1)
    assert [one.name for one in kept] == ["a.1", "b.2", "spread.grad_layout", "c.3", "held.grad_layout"]  # fmt: skip
    assert [blocks[found[name].storage].name for name in ("spread", "held")] == ["spread.grad", "held.grad"]  # fmt: skip


class Calling(nn.Module):
    """A weight times the inputs, then a function."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(1, 2, 5))
        self.function = function

    def forward(self, inputs: Tensor) -> Tensor:
        result: Tensor = self.function(inputs * self.weight)
        return result


def train(function: Any, loss_fn: Any) -> Any:
    model = Calling(function)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return check_like_eager(model, loss_fn, optimizer, [(torch.rand(3, 5), None)] * 3)


def test_a_random_number_that_nobody_uses_still_moves_the_generator() -> None:
    def function(values: Tensor) -> Tensor:
        torch.rand_like(values)
        return values * torch.rand_like(values)

    assert sum(op.random for op in train(function, lambda out, _: out.sum()).graph.ops) == 2


def test_losses_that_are_views_or_have_one_element_in_a_dimension() -> None:
    train(torch.tanh, lambda out, _: out.mean().view(1, 1))
    train(torch.tanh, lambda out, _: out.mean().unsqueeze(0).squeeze())
    train(torch.tanh, lambda out, _: out.sum(0).sum(0, keepdim=True))


def test_a_shape_function_that_returns_its_input_where_the_kernel_copies(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def forgetful(op: Any, args: Any, output: Any) -> Any:
        return args[0] if op is torch.ops.aten.neg.default else output

    monkeypatch.setattr(storages, "true_output", forgetful)
    train(lambda values: values.neg() * values.t().t(), lambda out, _: out.square().sum())
