"""What a layer inside a network gives, asked for by the layer's path ("block3", "features.4.conv").

Invariant: the network is as it was afterwards, and its logits are what they are without asking; the
hooks exist only while it runs, so it can be traced, copied and saved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from poet_core.errors import UsageError


def run_observed(
    net: nn.Module, inputs: Tensor, paths: Sequence[str]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the output of each layer by its path, as far as gradients are on, with theirs.

    Raises UsageError: `layer_unknown`, `layer_unusable` (not run, run twice, no tensor).
    """
    found: dict[str, Tensor] = {}
    with ExitStack() as hooks:
        for path in dict.fromkeys(paths):
            hook = layer_at(net, path).register_forward_hook(_keeping(path, found))
            hooks.callback(hook.remove)
        logits: Tensor = net(inputs)
    for path in paths:
        if path not in found:
            raise _unusable(path, "did not run")
    return logits, found


def shapes_observed(
    net: nn.Module, inputs: Tensor, paths: Sequence[str]
) -> dict[str, tuple[int, ...]]:
    """The shape of each layer's output for one example, without the batch; the network is not trained.

    Raises UsageError as `run_observed`, also where a later layer overwrites the output.
    """
    training = [module for module in net.modules() if module.training]
    net.eval()
    versions: dict[str, int] = {}
    try:
        with ExitStack() as hooks, torch.no_grad():
            for path in dict.fromkeys(paths):
                hook = layer_at(net, path).register_forward_hook(_versioning(path, versions))
                hooks.callback(hook.remove)
            _, found = run_observed(net, inputs, paths)
    finally:
        for module in training:
            module.training = True
    for path, output in found.items():
        if output._version != versions[path]:
            raise _unusable(path, "is overwritten in place by a later layer; take that one")
    return {path: tuple(output.shape[1:]) for path, output in found.items()}


def layer_at(net: nn.Module, path: str) -> nn.Module:
    """The module at a path, or UsageError (`layer_unknown`)."""
    layers: dict[str, nn.Module] = dict(net.named_modules())
    if not path or path not in layers:
        known = [name for name in layers if name]
        raise UsageError(
            f"Expected the path of a layer of {type(net).__name__}, got {path!r:.60}.",
            code="layer_unknown",
            hint=f"It has {', '.join(known[:12])}{' ...' if len(known) > 12 else ''}.",
        )
    return layers[path]


def _keeping(path: str, found: dict[str, Tensor]) -> Callable[..., None]:
    def keep(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        if path in found:
            raise _unusable(path, "runs more than once")
        if not isinstance(output, Tensor):
            raise _unusable(path, f"returns a {type(output).__name__}, not a tensor")
        found[path] = output

    return keep


def _versioning(path: str, versions: dict[str, int]) -> Callable[..., None]:
    def note(_layer: nn.Module, _inputs: Any, output: Any) -> None:
        versions[path] = getattr(output, "_version", 0)

    return note


def _unusable(path: str, reason: str) -> UsageError:
    return UsageError(
        f"Expected a layer whose output can be compared, but {path!r:.60} {reason}.",
        code="layer_unusable",
        hint="Map a layer that runs once a step and returns one tensor.",
    )
