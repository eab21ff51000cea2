"""One module in several places of a model: traced once, and given back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from poet_core.errors import TraceError
from poet_runtime.tracing.trace import trace
from tests.runtime.trace_parts import STEPS, check_like_eager


class Branches(nn.Module):
    """Two branches over one module with a buffer, and a parameter that two others hold."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
        one, two = nn.Linear(8, 4), nn.Linear(8, 4)
        two.weight = one.weight
        self.one = nn.Sequential(shared, one)
        self.two = nn.Sequential(shared, two)

    def forward(self, values: Tensor) -> Tensor:
        logits: Tensor = self.one(values) + self.two(values.square())
        return logits


def batch() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 8), torch.randint(0, 4, (6,))


def held(model: nn.Module) -> list[int]:
    """The very tensors of the model, at each of their places."""
    return [
        id(tensor)
        for module in model.modules()
        for tensor in (*module._parameters.values(), *module._buffers.values())
    ]


def test_shared_modules_and_tied_parameters_train_as_in_eager_pytorch() -> None:
    torch.manual_seed(0)
    model = Branches()
    before = held(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    program = check_like_eager(
        model, nn.functional.cross_entropy, optimizer, [batch() for _ in range(STEPS)]
    )
    assert held(model) == before
    names = {storage.name for storage in program.graph.storages if storage.persistent}
    assert {"one.0.0.weight", "one.1.weight", "two.1.bias"} <= names
    assert not {"two.0.0.weight", "two.1.weight"} & names


def test_the_model_has_its_tensors_back_where_tracing_fails() -> None:
    model = Branches()
    before = held(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def by_value(logits: Tensor, target: Tensor) -> Tensor:
        return logits.sum() * logits.sum().item()

    with pytest.raises(TraceError):
        trace(model, by_value, optimizer, batch())
    assert held(model) == before
