"""A traced step does what eager PyTorch does, bit for bit: three steps, every state tensor."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from examples import bert, gpt2, lenet, lstm, mlp, mobilenet, projection, resnet, unet, vgg, vit
from poet_core.graph import Phase
from poet_runtime.tracing.trace import trace
from tests.runtime.interpreter import Interpreter, bits, eager_state, eager_step
from tests.runtime.trace_parts import STEPS, check_like_eager, small_batches, small_net


def repeated(step: Any) -> tuple[nn.Module, Any, torch.optim.Optimizer, list[tuple[Any, ...]]]:
    model, loss_fn, optimizer, batch = step
    return model, loss_fn, optimizer, [batch] * STEPS


def small_resnet_50() -> Any:
    return resnet.step(depth=50, batch_size=2, image_size=32, classes=10, width=8)


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(mlp.step, id="mlp"),
        pytest.param(vgg.step_small, id="vgg16"),
        pytest.param(resnet.step_small, id="resnet18"),
        pytest.param(small_resnet_50, id="resnet50", marks=pytest.mark.slow),
        pytest.param(lenet.step, id="lenet"),
        pytest.param(mobilenet.step_small, id="mobilenet"),
        pytest.param(unet.step_small, id="unet"),
        pytest.param(bert.step_tiny, id="bert"),
        pytest.param(gpt2.step_tiny, id="gpt2"),
        pytest.param(vit.step_tiny, id="vit"),
        pytest.param(projection.step, id="joint-adam"),
        pytest.param(projection.step_sgd, id="joint-sgd"),
    ],
)
def test_examples_train_as_in_eager_pytorch(step: Any) -> None:
    check_like_eager(*repeated(step()))


@pytest.mark.filterwarnings("ignore:TF32 acceleration on top of oneDNN")
def test_lstm_trains_as_eager_does_without_the_fused_kernel() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        check_like_eager(*repeated(lstm.step(batch_size=4, length=6, width=12)))


def test_channels_last_convolutions() -> None:
    model, loss_fn, optimizer, (images, labels) = resnet.step_small()
    model.to(memory_format=torch.channels_last)
    images = images.to(memory_format=torch.channels_last)
    check_like_eager(model, loss_fn, optimizer, [(images, labels)] * STEPS)


def test_channels_last_input_for_a_model_that_is_not() -> None:
    model, loss_fn, optimizer, (images, labels) = resnet.step_small()
    images = images.to(memory_format=torch.channels_last)
    program = check_like_eager(model, loss_fn, optimizer, [(images, labels)] * STEPS)
    assert any(op.kind == "poet.grad_layout" for op in program.graph.ops)


class Tied(nn.Module):
    """One weight as embedding, hidden layer (twice) and decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(12, 12)
        self.hidden = nn.Linear(12, 12)
        self.decoder = nn.Linear(12, 12, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        states = self.embedding(tokens)
        states = torch.tanh(self.hidden(torch.tanh(self.hidden(states))))
        logits: Tensor = self.decoder(states).flatten(0, 1)
        return logits


def test_tied_weights_are_one_parameter_and_their_gradients_add_up_in_place() -> None:
    torch.manual_seed(0)
    model = Tied()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    tokens, target = torch.randint(0, 12, (5, 3)), torch.randint(0, 12, (15,))
    program = check_like_eager(
        model, nn.functional.cross_entropy, optimizer, [(tokens, target)] * STEPS
    )
    sums = [op for op in program.graph.ops if op.kind == "aten.add_.Tensor"]
    # embedding + decoder, and twice hidden: its weight and its bias
    assert len(sums) == 3
    assert all(op.phase is Phase.BACKWARD and len(op.mutates) == 1 for op in sums)
    names = [s.name for s in program.graph.storages if s.persistent and "weight" in s.name]
    assert "embedding.weight" in names
    assert "decoder.weight" not in names


def test_autocast_in_bfloat16() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.LayerNorm(30), nn.Linear(30, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)

    class Cast(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, inputs: Tensor) -> Tensor:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                logits: Tensor = self.inner(inputs)
                return logits

    batch = (torch.randn(8, 20), torch.randint(0, 5, (8,)))
    check_like_eager(Cast(), nn.functional.cross_entropy, optimizer, [batch] * STEPS)


class Awkward(nn.Module):
    """Constants, a shared gradient, a broadcast gradient, a slice, a buffer that follows a value."""

    running: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.linspace(0.5, 1.5, 7)
        self.first = nn.Parameter(torch.randn(7))
        self.second = nn.Parameter(torch.randn(7))
        self.shift = nn.Parameter(torch.randn(7))
        self.slab = nn.Parameter(torch.randn(4, 7))
        self.register_buffer("running", torch.zeros(7))
        self.register_buffer("still", torch.ones(7))

    def forward(self, pair: dict[str, Any]) -> Tensor:
        inputs = pair["x"] * self.scale + torch.tensor([1.0, 2, 3, 4, 5, 6, 7])
        with torch.no_grad():
            self.running.lerp_(inputs.mean(0), 0.1)
        mixed = inputs + self.first + self.second
        mixed = mixed * self.slab[1:3].sum(0) + self.running
        return torch.cat([mixed, mixed.flip(0)]).chunk(2)[0] + pair["n"] * self.shift.sum()


def test_constants_nested_batches_views_and_buffers() -> None:
    torch.manual_seed(1)
    model = Awkward()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=0.1)
    batches = [({"x": torch.randn(5, 7), "n": 2}, None) for _ in range(STEPS)]
    program = check_like_eager(model, lambda out, _: out.square().mean(), optimizer, batches)
    last = program.graph.ops[-1]
    assert last.kind == "poet.write_back"
    assert not last.recomputable


def test_dropout_twice_in_a_shared_module() -> None:
    torch.manual_seed(1)
    drop = nn.Dropout(0.3)
    model = nn.Sequential(nn.Linear(7, 20), drop, nn.ReLU(), nn.Linear(20, 3), drop)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    program = check_like_eager(model, nn.functional.mse_loss, optimizer, small_batches())
    assert [op.kind for op in program.graph.ops if op.random] == ["aten.native_dropout.default"] * 2
    assert program.graph.rng_state_bytes == 2 * torch.get_rng_state().nbytes


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("rate", [0.1, 0.15, 0.3, 0.5, 1.0])
def test_dropout_rounds_as_eager_does(rate: float, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(7, 40), nn.Dropout(rate), nn.Linear(40, 3)).to(dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(x.to(dtype), y.to(dtype)) for x, y in small_batches()]
    check_like_eager(model, nn.functional.mse_loss, optimizer, batches)


def test_dropout_of_values_that_do_not_lie_in_order() -> None:
    class Turned(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(7, 6)

        def forward(self, inputs: Tensor) -> Tensor:
            hidden = nn.functional.dropout(self.inner(inputs).t(), 0.15)
            return hidden.t().contiguous() * hidden.sum(1)

    torch.manual_seed(1)
    model = Turned()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batches = [(torch.randn(6, 7), torch.randn(6, 6)) for _ in range(STEPS)]
    check_like_eager(model, nn.functional.mse_loss, optimizer, batches)


def test_evaluation_mode_leaves_statistics_alone() -> None:
    model, loss_fn, optimizer, batch = resnet.step_small()
    model.eval()
    program = check_like_eager(model, loss_fn, optimizer, [batch] * 2)
    assert not any(op.kind == "poet.write_back" for op in program.graph.ops)


def test_gradient_checkpointing_in_the_model_is_traced_as_it_runs() -> None:
    from torch.utils.checkpoint import checkpoint

    class Checkpointed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = small_net()

        def forward(self, inputs: Tensor) -> Tensor:
            result: Tensor = checkpoint(self.inner, inputs, use_reentrant=False)
            return result

    model = Checkpointed()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    check_like_eager(model, nn.functional.mse_loss, optimizer, small_batches())


def test_attention_of_torch_itself() -> None:
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=0.01)
    batches = [(torch.randn(3, 8, 16), torch.randn(3, 8, 16)) for _ in range(STEPS)]
    check_like_eager(layer, nn.functional.mse_loss, optimizer, batches)
    assert copy.deepcopy(layer) is not layer  # no hook of the tracer is left to forbid it
    assert not layer._forward_hooks
    assert not layer._forward_pre_hooks


def test_tracing_under_autocast_is_training_under_autocast() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 30), nn.GELU(), nn.LayerNorm(30), nn.Linear(30, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.randn(8, 20), torch.randint(0, 5, (8,)))
    loss_fn = nn.functional.cross_entropy
    with torch.autocast("cpu", dtype=torch.bfloat16):
        program = trace(model, loss_fn, optimizer, batch)
    assert any("_to_copy" in op.kind for op in program.graph.ops)
    interpreter = Interpreter(program, model, optimizer)
    for _ in range(STEPS):
        traced = interpreter.run(batch)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = eager_step(model, loss_fn, optimizer, batch)
        assert bits(loss) == bits(traced)
    found = interpreter.state()
    for name, value in eager_state(model, optimizer).items():
        assert bits(value) == bits(found[name]), name
