"""The fingerprint sees every bit of every state tensor, and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from poet_runtime.fingerprint import fingerprint, state_digests

CHILD = """
import torch
from tests.runtime.test_fingerprint import trained_once
from poet_runtime.fingerprint import fingerprint
torch.set_num_threads(1)
print(fingerprint(*trained_once()))
"""


def trained_once() -> tuple[Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model: Any = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    model.register_buffer("projection", torch.randn(5), persistent=False)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(6, 3)).sum().backward()
    optimizer.step()
    return model, optimizer


def flip(tensor: torch.Tensor) -> None:
    """Change one bit."""
    data = tensor.detach().reshape(-1).view(torch.uint8)
    data[0] ^= 1


@pytest.mark.parametrize(
    "pick",
    [
        lambda model, _: model[0].weight,
        lambda model, _: model[1].running_var,
        lambda model, _: model[1].num_batches_tracked,
        lambda model, _: model.projection,
        lambda model, optimizer: optimizer.state[model[0].bias]["exp_avg"],
        lambda model, optimizer: optimizer.state[model[1].weight]["exp_avg_sq"],
        lambda model, optimizer: optimizer.state[model[1].weight]["step"],
    ],
    ids=["parameter", "buffer", "counter", "not saved", "moment", "second moment", "step"],
)
def test_any_bit_changes_it(pick: Callable[[Any, Any], torch.Tensor]) -> None:
    model, optimizer = trained_once()
    before, digests = fingerprint(model, optimizer), state_digests(model, optimizer)
    flip(pick(model, optimizer))
    assert fingerprint(model, optimizer) != before
    after = state_digests(model, optimizer)
    assert sum(digests[name] != after[name] for name in digests) == 1
    flip(pick(model, optimizer))
    assert fingerprint(model, optimizer) == before


def test_shape_and_type_count_beside_the_bytes() -> None:
    model, optimizer = trained_once()
    prints = {fingerprint(model, optimizer)}
    model.projection = torch.zeros(8)
    prints.add(fingerprint(model, optimizer))
    model.projection = torch.zeros(2, 4)
    prints.add(fingerprint(model, optimizer))
    model.projection = torch.zeros(8, dtype=torch.int32)
    prints.add(fingerprint(model, optimizer))
    assert len(prints) == 4


def test_negative_zero_is_another_state() -> None:
    model, optimizer = trained_once()
    model.projection = torch.zeros(1)
    before = fingerprint(model, optimizer)
    model.projection = -torch.zeros(1)
    assert fingerprint(model, optimizer) != before


def test_another_process_gets_the_same() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    child = subprocess.run(
        [sys.executable, "-c", CHILD], env=environment, capture_output=True, text=True, check=True
    )
    assert child.stdout.strip() == fingerprint(*trained_once())


def test_importing_the_package_does_not_import_torch() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    code = "import sys, poet_runtime; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
