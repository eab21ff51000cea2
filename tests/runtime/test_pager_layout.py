"""Places in the paging file: copies that are alive together never overlap."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from examples import mlp
from poet_core.graph import TrainingGraph
from poet_core.plan import Do, Schedule
from poet_runtime.flash.flash_layout import PLACE_BYTES, lay_out
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import page_everything, random_schedule


@pytest.fixture(scope="module")
def graph() -> TrainingGraph:
    return trace(*mlp.step(batch_size=4, features=300, hidden=(40, 20, 30), optimizer="adam")).graph


def check(graph: TrainingGraph, schedule: Schedule) -> None:
    """Replay on paper: bytes of the file that hold a copy still wanted are never written over."""
    layout = lay_out(graph, schedule)
    owner = {
        layout.homes[storage] + at: (storage, -1)
        for storage in schedule.start_flash
        for at in range(0, graph.storages[storage].size_bytes, PLACE_BYTES)
    }
    newest = {storage: (storage, -1) for storage in schedule.start_flash}
    transfers = [i for i in schedule.instructions if i.do in (Do.PAGE_OUT, Do.PAGE_IN)]
    assert len(transfers) == len(layout.transfers)
    for number, (instruction, transfer) in enumerate(zip(transfers, layout.transfers, strict=True)):
        storage = instruction.target
        assert transfer.storage == storage
        assert transfer.outward == (instruction.do is Do.PAGE_OUT)
        assert transfer.size_bytes == graph.storages[storage].size_bytes
        pages = range(transfer.offset, transfer.offset + transfer.size_bytes, PLACE_BYTES)
        assert pages.stop <= layout.size_bytes
        if transfer.outward:
            newest[storage] = (storage, number)
            owner.update(dict.fromkeys(pages, newest[storage]))
        else:
            assert {owner[page] for page in pages} == {newest[storage]}
    for storage in schedule.start_flash:  # persistent storages end at home, whole
        home = layout.homes[storage]
        pages = range(home, home + graph.storages[storage].size_bytes, PLACE_BYTES)
        assert {owner[page] for page in pages} == {newest[storage]}


def test_page_everything(graph: TrainingGraph) -> None:
    check(graph, page_everything(graph))


@pytest.mark.parametrize("seed", range(10))
def test_random_schedules(graph: TrainingGraph, seed: int) -> None:
    check(graph, random_schedule(graph, seed))


def test_copies_of_activations_share_bytes() -> None:
    layers = [nn.Sequential(nn.Linear(64, 64), nn.ReLU()) for _ in range(8)]
    model = nn.Sequential(*layers, nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.randn(256, 64), torch.zeros(256, dtype=torch.int64))
    graph = trace(model, nn.functional.cross_entropy, optimizer, batch).graph
    layout = lay_out(graph, page_everything(graph))
    copies = sum(t.size_bytes for t in layout.transfers if t.outward)
    assert layout.size_bytes < copies / 2
