"""SHA-256 of the whole state of a training run: what "identical" means here.

Every parameter and buffer of the model (those that are not saved, such as projection matrices,
included) and every entry of the optimizer's state, by name: name, type, shape and bytes. Two runs
in two processes are identical when their fingerprints are. Invariant: any bit of any of them
changes the fingerprint.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def fingerprint(model: nn.Module, optimizer: torch.optim.Optimizer) -> str:
    """One hexadecimal SHA-256 over `state_digests`."""
    whole = hashlib.sha256()
    for name, digest in state_digests(model, optimizer).items():
        whole.update(f"{len(name)}:{name}={digest};".encode())
    return whole.hexdigest()


def state_digests(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, str]:
    """The SHA-256 of each state tensor, sorted by name, to see which one differs."""
    # Their hooks bring back what a TrainStep has parked on flash.
    model.state_dict()
    optimizer.state_dict()
    return {name: _digest(value) for name, value in sorted(_state(model, optimizer))}


def _state(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[tuple[str, Any]]:
    for name, parameter in model.named_parameters():
        yield f"parameter {name}", parameter
        for key, value in optimizer.state.get(parameter, {}).items():
            yield f"optimizer {name} {key}", value
    for name, buffer in model.named_buffers():
        yield f"buffer {name}", buffer


def _digest(value: Any) -> str:
    if not isinstance(value, torch.Tensor):
        return hashlib.sha256(f"{type(value).__name__} {value!r}".encode()).hexdigest()
    data = value.detach().cpu().contiguous()
    digest = hashlib.sha256(f"{data.dtype} {tuple(data.shape)} ".encode())
    digest.update(data.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
