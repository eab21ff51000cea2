"""What a traced graph says about a step: storages, order, roles, labels; and that tracing is free."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from examples import bert, projection, resnet, vgg
from poet_core.baseline import judge_keep_everything
from poet_core.bounds import ram_floor
from poet_core.costs import Costs
from poet_core.documents import canonical_json
from poet_core.graph import Op, Phase, Role, TrainingGraph
from poet_core.graph_document import graph_sha256, graph_to_document, read_graph
from poet_core.plan import Budget
from poet_runtime.program import Owner, Program
from poet_runtime.tracing.drafts import specs_in
from poet_runtime.tracing.measure import allocator_peak
from poet_runtime.tracing.trace import trace


def costless(graph: TrainingGraph) -> Costs:
    ops, storages = (0.0,) * len(graph.ops), (0.0,) * len(graph.storages)
    return Costs(
        op_seconds=ops,
        op_joules=ops,
        page_in_seconds=storages,
        page_in_joules=storages,
        page_out_seconds=storages,
        page_out_joules=storages,
    )


@pytest.fixture(scope="module")
def joint() -> Program:
    return trace(*projection.step(), name="joint")


@pytest.fixture(scope="module")
def convolutional() -> Program:
    return trace(*resnet.step_small(), measure_workspace=False)


@pytest.fixture(scope="module")
def transformer() -> Program:
    return trace(*bert.step_tiny(), measure_workspace=False)


def named(graph: TrainingGraph, name: str) -> int:
    return next(storage.id for storage in graph.storages if storage.name == name)


def op_named(graph: TrainingGraph, name: str) -> Op:
    return next(op for op in graph.ops if op.name == name)


def test_the_joint_step_holds_what_the_paper_says(joint: Program) -> None:
    graph = joint.graph
    by_role = {
        role: sum(s.size_bytes for s in graph.storages if s.role is role and s.persistent)
        for role in Role
    }
    # Ravi 2017: 2,797,010 parameters of the trainer and 7,210 of the projection, float32
    assert by_role[Role.PARAMETER] == 4 * (2_797_010 + 7_210)
    assert by_role[Role.OPTIMIZER_STATE] == 2 * by_role[Role.PARAMETER]
    assert by_role[Role.BUFFER] == 4 * 784 * 60 * 12
    inputs = {s.name: s.size_bytes for s in graph.storages if s.role is Role.INPUT}
    assert inputs == {"batch.0": 4 * 200 * 784, "batch.1": 8 * 200}
    assert [s.size_bytes for s in graph.storages if s.result] == [4]


def test_flops_of_the_joint_step_are_its_matrix_products(joint: Program) -> None:
    layers = [(784, 1000), (1000, 1000), (1000, 1000), (1000, 10), (720, 10)]
    products = sum(2 * 200 * fan_in * fan_out for fan_in, fan_out in layers)
    # Each layer: forward, gradient of the weight, gradient of the input but for the two first
    inputs = products - 2 * 200 * (784 * 1000 + 720 * 10)
    projected = 2 * 200 * 784 * 720
    counted = sum(
        op.flops for op in joint.graph.ops if op.kind.startswith(("aten.mm", "aten.addmm"))
    )
    assert counted == 2 * products + inputs + projected


def test_a_budget_far_under_keep_everything_is_above_the_floor(joint: Program) -> None:
    base = judge_keep_everything(joint.graph, costless(joint.graph)).peak_bytes
    floor = ram_floor(joint.graph, Budget(ram_bytes=base))
    assert floor.floor_bytes < 0.4 * base
    # nothing but weight, both moments and the gradient, which is the scratch memory
    assert floor.floor_bytes <= 4 * 4 * 1000 * 1000 + 64


def test_each_update_is_where_its_gradient_is_complete(joint: Program) -> None:
    graph = joint.graph
    for op in graph.ops:
        if op.phase is not Phase.UPDATE:
            continue
        parameter = named(graph, op.name.removesuffix(".update"))
        gradient = next(s for s in op.mutates if not graph.storages[s].persistent)
        assert graph.ops[op.id - 1].writes == (gradient,)
        assert not op.recomputable
        assert op.mutates[0] == parameter
        assert not any(parameter in later.touches for later in graph.ops[op.id + 1 :])


def test_forward_then_backward_and_modules_on_both_sides(joint: Program) -> None:
    phases = [op.phase for op in joint.graph.ops if op.phase is not Phase.UPDATE]
    assert phases == sorted(phases, key=[Phase.FORWARD, Phase.BACKWARD].index)
    modules = {(op.module, op.phase) for op in joint.graph.ops}
    for module in ("trainer.0", "trainer.6", "projection.head"):
        assert {(module, phase) for phase in Phase} <= modules


@pytest.mark.parametrize("fixture", ["joint", "convolutional", "transformer"])
def test_calls_touch_exactly_what_the_graph_says(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    program: Program = request.getfixturevalue(fixture)
    for op, call in zip(program.graph.ops, program.calls, strict=True):
        operands = {spec.storage for spec in specs_in((call.args, call.kwargs))}
        assert operands == {*op.reads, *op.mutates}
        assert {spec.storage for spec in call.outputs if spec is not None} == {*op.writes}
        for spec in specs_in((call.args, call.kwargs, call.outputs)):
            reach = spec.offset + 1
            reach += sum((n - 1) * step for n, step in zip(spec.size, spec.stride, strict=True))
            size = program.graph.storages[spec.storage].size_bytes
            assert 0 in spec.size or reach * spec.dtype.itemsize <= size


@pytest.mark.parametrize("fixture", ["joint", "convolutional", "transformer"])
def test_bindings_cover_what_exists_before_the_step_once(
    fixture: str, request: pytest.FixtureRequest
) -> None:
    program: Program = request.getfixturevalue(fixture)
    graph = program.graph
    bound = [binding.spec.storage for binding in program.bindings]
    assert sorted(bound) == [s.id for s in graph.storages if graph.begins_resident(s.id)]


def test_views_are_no_ops(transformer: Program) -> None:
    kinds = {op.kind for op in transformer.graph.ops}
    views = ("view", "transpose", "expand", "detach", "permute", "slice", "select", "aten.t.")
    assert not [kind for kind in kinds if any(view in kind for view in views)]
    weight = named(transformer.graph, "layers.0.fc1.weight")
    readers = [op for op in transformer.graph.ops if weight in op.reads]
    assert [op.phase for op in readers] == [Phase.FORWARD, Phase.BACKWARD]


def test_batch_norm_statistics_are_written_once_and_last(convolutional: Program) -> None:
    graph = convolutional.graph
    buffers = [s.id for s in graph.storages if s.role is Role.BUFFER]
    backs = [op for op in graph.ops if op.kind == "poet.write_back"]
    assert [op.id for op in backs] == list(range(len(graph.ops) - len(backs), len(graph.ops)))
    assert sorted(s for op in backs for s in op.writes) == sorted(buffers)
    assert len(backs) == 3 * 20  # mean, variance and count of ResNet-18's 20 normalisations
    forward = [op for op in graph.ops if "batch_norm_legit" in op.kind]
    assert len(forward) == 20
    assert all(op.recomputable and not op.mutates for op in forward)
    assert all(not op.recomputable and not op.mutates for op in backs)


def test_dropout_is_random_and_nothing_else_is(transformer: Program) -> None:
    random = [op.kind for op in transformer.graph.ops if op.random]
    # after the embedding, and three a layer
    assert random == ["aten.native_dropout.default"] * 7
    assert transformer.graph.rng_state_bytes == 2 * torch.get_rng_state().nbytes


def test_attention_without_dropout_is_not_random() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(8, 24)

        def forward(self, inputs: Tensor) -> Tensor:
            query, key, value = self.inner(inputs).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
            return nn.functional.scaled_dot_product_attention(query, key, value)

    model = Attention()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    program = trace(
        model, nn.functional.mse_loss, optimizer, (torch.rand(2, 5, 8), torch.rand(2, 2, 5, 4))
    )
    assert any("attention" in op.kind for op in program.graph.ops)
    assert not any(op.random for op in program.graph.ops)
    assert program.graph.rng_state_bytes == 0


def test_the_document_holds_no_path_and_reads_back(joint: Program) -> None:
    text = canonical_json(graph_to_document(joint.graph))
    assert b".py" not in text
    assert str(Path(__file__).parent.parent.parent).encode() not in text
    assert b"/" not in text.replace(b"poet.graph/1", b"")
    assert graph_sha256(read_graph(text)) == graph_sha256(joint.graph)


@pytest.mark.parametrize("where", ["fake", "meta"])
def test_a_model_without_memory_gives_the_same_graph(where: str, joint: Program) -> None:
    with FakeTensorMode() if where == "fake" else torch.device("meta"):
        step = projection.step()
    program = trace(*step, name="joint")
    assert graph_sha256(program.graph) == graph_sha256(joint.graph)


def test_tracing_a_huge_model_allocates_nothing_of_its_size() -> None:
    width = 200_000  # a weight of 160 GB
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10))
        batch = (torch.empty(1000, width), torch.empty(1000, 10))
    optimizer = torch.optim.Adam(model.parameters())
    programs: list[Program] = []

    def run() -> None:
        programs.append(
            trace(model, nn.functional.mse_loss, optimizer, batch, measure_workspace=False)
        )

    assert allocator_peak(run) < 2**20
    assert max(s.size_bytes for s in programs[0].graph.storages) == 4 * width**2


def test_a_slice_of_a_large_tensor_counts_as_what_it_is() -> None:
    model = nn.Linear(4, 2)
    data = torch.rand(100, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (data[10:13], torch.rand(3, 2), None)

    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: Tensor, target: Tensor) -> Tensor:
            return nn.functional.mse_loss(self.inner(inputs), target)

    program = trace(Two(), lambda loss, _: loss, optimizer, batch)
    inputs = [b for b in program.bindings if b.owner is Owner.BATCH]
    assert [b.position for b in inputs] == [0, 1]
    assert program.graph.storages[inputs[0].spec.storage].size_bytes == 3 * 4 * 4
    assert inputs[0].spec.offset == 0


def test_dead_code_and_unused_inputs_are_left_out() -> None:
    class Wasteful(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(4, 2)

        def forward(self, inputs: Tensor, unused: Tensor) -> Tensor:
            (unused @ unused.T).exp()
            result: Tensor = self.inner(inputs)
            return result

    model = Wasteful()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.rand(3, 4), torch.rand(5, 5), torch.rand(3, 2))
    graph = trace(model, nn.functional.mse_loss, optimizer, batch).graph
    assert not any("exp" in op.kind for op in graph.ops)
    assert [s.name for s in graph.storages if s.role is Role.INPUT] == ["batch.0", "batch.2"]


@pytest.mark.parametrize(
    ("example", "parameters"),
    [
        # torchvision's counts for 1000 classes; BERT base with tied decoder and no segments
        pytest.param(resnet, 11_689_512, id="resnet18"),
        pytest.param(vgg, 138_357_544, id="vgg16"),
        pytest.param(bert, 109_512_762, id="bert-base"),
    ],
)
def test_full_size_networks_trace_without_their_weights(example: Any, parameters: int) -> None:
    with torch.device("meta"):
        step = example.step()
    programs: list[Program] = []
    peak = allocator_peak(lambda: programs.append(trace(*step, measure_workspace=False)))
    assert peak < 2**20
    storages = programs[0].graph.storages
    weights = sum(s.size_bytes for s in storages if s.role is Role.PARAMETER)
    assert weights == 4 * parameters


def test_the_floor_of_bert_is_the_backward_pass_of_its_log_softmax() -> None:
    with torch.device("meta"):
        step = bert.step()
    graph = trace(*step, measure_workspace=False).graph
    floor = ram_floor(graph, Budget(ram_bytes=2**40))
    logits = 4 * 4 * 512 * 30522
    assert floor.floor_bytes == 3 * logits
    assert "_log_softmax_backward_data" in floor.set_by
