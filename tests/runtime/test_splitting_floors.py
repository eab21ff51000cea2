"""The floors of two published steps, split: what no plan can go below."""

from __future__ import annotations

from typing import Any

import pytest

from examples import bert, resnet
from poet_core.bounds import ram_floor
from poet_core.devices import load_device
from poet_core.problem import make_problem
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace

MIB = 2**20


def _bert_base_of_one_layer() -> Any:
    """Its largest ops are those of all twelve: head, embedding and one layer's."""
    return bert.step(shape=bert.BertShape(layers=1))


def _resnet18() -> Any:
    return resnet.step(batch_size=32)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "whole_mib", "split_mib"),
    [(_bert_base_of_one_layer, 700, 140), (_resnet18, 380, 240)],
)
def test_the_floor_falls(step: Any, whole_mib: int, split_mib: int) -> None:
    host = load_device("host")

    def floor_mib(above_bytes: int | None) -> float:
        graph = trace(*step(), options=StepOptions(split_above_bytes=above_bytes)).graph
        problem = make_problem(graph, host, ram_bytes=host.ram_bytes)
        return ram_floor(graph, problem.budget).floor_bytes / MIB

    assert floor_mib(None) > whole_mib
    assert floor_mib(100 * MIB) < split_mib
