"""Models as people write them: outputs and batches of every form, autocast, frozen parts, modes.

Each is trained by a TrainStep that pages everything and by eager PyTorch, and compared in all bits.
"""

from __future__ import annotations

from collections import OrderedDict, UserDict
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from poet_core.errors import ReplayError, TraceError, UsageError
from poet_core.graph import Phase
from poet_runtime import TrainStep
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.trace import trace
from tests.runtime.step_parts import Outcome, outcome, paged

STEPS = 4
ROWS = 6


def labels(count: int = STEPS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(7)
    return list(torch.randint(0, 5, (count, ROWS), generator=generator))


def inputs(count: int = STEPS) -> list[Tensor]:
    generator = torch.Generator().manual_seed(6)
    return list(torch.randn(count, ROWS, 8, generator=generator))


def eager_outcome(
    build: Callable[[], Any],
    data: list[Any],
    loss_of: Callable[[nn.Module, Any], Tensor],
    around: Callable[[], Any] = nullcontext,
) -> Outcome:
    model, _, optimizer = build()
    torch.manual_seed(1)
    losses = []
    for batch in data:
        optimizer.zero_grad()
        with around():
            loss = loss_of(model, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item().hex())
    return outcome(model, optimizer, losses)


def paged_outcome(
    build: Callable[[], Any], data: list[Any], folder: Path, **options: Any
) -> Outcome:
    step, model, optimizer = paged(build, data[0], folder, StepOptions(**options))
    with step:
        calls = [(batch,) if isinstance(batch, Mapping) else batch for batch in data]
        return outcome(model, optimizer, [step(*call).item().hex() for call in calls])


class WithLoss(nn.Module):
    """Computes its loss itself and returns it in one of the forms that are in use."""

    def __init__(self, form: str) -> None:
        super().__init__()
        self.form = form
        self.body = nn.Sequential(nn.Linear(8, 12), nn.Dropout(0.2), nn.ReLU(), nn.Linear(12, 5))

    def forward(self, values: Tensor, labels: Tensor, scale: float = 1.0) -> Any:
        logits = self.body(values) * scale
        loss = nn.functional.cross_entropy(logits, labels)
        return {
            "tensor": loss,
            "tuple": (loss, logits),
            "dictionary": {"logits": logits, "loss": loss},
            "attribute": SimpleNamespace(loss=loss, logits=logits),
        }[self.form]


def with_loss(form: str) -> Callable[[], tuple[nn.Module, None, torch.optim.Optimizer]]:
    def build() -> tuple[nn.Module, None, torch.optim.Optimizer]:
        torch.manual_seed(0)
        model = WithLoss(form)
        return model, None, torch.optim.Adam(model.parameters(), lr=0.01)

    return build


@pytest.mark.parametrize("form", ["tensor", "tuple", "dictionary", "attribute"])
def test_a_model_that_returns_its_loss(form: str, tmp_path: Path) -> None:
    data = list(zip(inputs(), labels(), strict=True))
    found = paged_outcome(with_loss(form), data, tmp_path)
    assert found == eager_outcome(with_loss("tensor"), data, lambda model, batch: model(*batch))


@pytest.mark.parametrize("kind", [dict, OrderedDict, UserDict])
def test_a_mapping_is_the_models_keyword_arguments(kind: Any, tmp_path: Path) -> None:
    pairs = zip(inputs(), labels(), strict=True)
    data = [kind({"labels": y, "values": x, "scale": 0.5}) for x, y in pairs]
    found = paged_outcome(with_loss("attribute"), data, tmp_path)
    data = [dict(reversed(list(batch.items()))) for batch in data]
    expected = eager_outcome(with_loss("tensor"), data, lambda model, batch: model(**batch))
    assert found == expected
    assert paged_outcome(with_loss("tuple"), data, tmp_path) == expected


def test_a_mapping_with_a_loss_function(tmp_path: Path) -> None:
    def loss_fn(output: Any, batch: Any) -> Any:
        return output["loss"] + batch["values"].square().mean() * output["logits"].mean()

    def build() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
        model, _, optimizer = with_loss("dictionary")()
        return model, loss_fn, optimizer

    data = [{"values": x, "labels": y} for x, y in zip(inputs(), labels(), strict=True)]
    found = paged_outcome(build, data, tmp_path)
    assert found == eager_outcome(build, data, lambda model, b: loss_fn(model(**b), b))


def test_other_mappings_are_refused_before_anything_happens(tmp_path: Path) -> None:
    x, y = inputs(1)[0], labels(1)[0]
    step, _, _ = paged(with_loss("tensor"), {"values": x, "labels": y}, tmp_path)
    with step:
        for call in [(x, y), ({"values": x},), ({"values": x, "labels": y, "more": y},), ()]:
            with pytest.raises(UsageError) as caught:
                step(*call)
            assert caught.value.code == "batch_mismatch"
            assert "labels" in caught.value.message
        step({"labels": y, "values": x})


def test_a_model_without_a_loss_in_what_it_returns() -> None:
    model = nn.Linear(8, 5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    class Other(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = model

        def forward(self, values: Tensor) -> Any:
            return {"logits": self.inner(values)}

    with pytest.raises(TraceError) as caught:
        trace(Other(), None, optimizer, (inputs(1)[0],))
    assert caught.value.code == "loss_not_found"
    with pytest.raises(TraceError) as caught:
        trace(model, None, optimizer, ())
    assert caught.value.code == "batch_not_tuple"


class Parts(nn.Module):
    """Tuples in, a dictionary out; normalisation that trains and normalisation that is frozen; a
    frozen submodule in the middle; a tied weight; buffers."""

    counter: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(8, 8)
        self.norm = nn.BatchNorm1d(8)
        self.fixed = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Tanh())
        self.drop = nn.Dropout(0.3)
        self.last = nn.Linear(8, 8)
        self.last.weight = self.first.weight
        self.head = nn.Linear(8, 5)
        self.register_buffer("counter", torch.zeros(()))
        self.fixed.eval().requires_grad_(False)

    def forward(self, pair: tuple[Tensor, dict[str, Tensor]]) -> dict[str, Tensor]:
        values, more = pair
        with torch.no_grad():
            self.counter.add_(more["weight"].mean())
        hidden = self.fixed(torch.relu(self.norm(self.first(values))))
        hidden = self.last(self.drop(hidden)) * more["weight"]
        return {"logits": self.head(hidden), "hidden": hidden}


def parts_loss(output: dict[str, Tensor], target: dict[str, Tensor]) -> Tensor:
    loss = nn.functional.cross_entropy(output["logits"], target["labels"])
    return loss + 0.1 * output["hidden"].square().mean()


def parts() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = Parts()
    return model, parts_loss, torch.optim.AdamW(model.parameters(), lr=0.01)


def parts_data() -> list[Any]:
    pairs = zip(inputs(), labels(), strict=True)
    return [((x, {"weight": x[:, :1].exp()}), {"labels": y}) for x, y in pairs]


@pytest.mark.parametrize("autocast", [None, torch.bfloat16])
def test_frozen_tied_normalised_and_nested(autocast: torch.dtype | None, tmp_path: Path) -> None:
    def around() -> Any:
        return (
            torch.autocast("cpu", dtype=autocast, cache_enabled=False)
            if autocast
            else nullcontext()
        )

    found = paged_outcome(parts, parts_data(), tmp_path, autocast=autocast)
    assert found == eager_outcome(
        parts, parts_data(), lambda model, batch: parts_loss(model(batch[0]), batch[1]), around
    )


def test_frozen_parts_get_no_gradient_no_update_and_no_state() -> None:
    program = trace(*parts(), parts_data()[0])
    updated = {op.name for op in program.graph.ops if op.phase is Phase.UPDATE}
    assert not [name for name in updated if name.startswith("fixed")]
    assert not [s.name for s in program.graph.storages if "exp_avg" in s.name and "fixed" in s.name]
    assert {"norm.running_mean.write_back", "counter.write_back"} <= updated


class CastOnce(nn.Module):
    """What autocast does to a language model: an embedding in float32, tied to a decoder in half
    precision, attention, and a norm in float32."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(20, 16)
        self.layer = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.1, batch_first=True)
        self.decoder = nn.Linear(16, 20, bias=False)
        self.decoder.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.layer(self.embed(tokens)))
        return logits


def cast_once() -> tuple[nn.Module, Any, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = CastOnce()
    return model, token_loss, torch.optim.Adam(model.parameters(), lr=0.01)


def token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), tokens.flatten())


def test_autocast_around_forward_and_loss_as_its_manual_says(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(3)
    tokens = torch.randint(0, 20, (STEPS, 3, 7), generator=generator)
    data = [(one, one) for one in tokens]

    def loss(model: nn.Module, batch: Any) -> Tensor:
        return token_loss(model(batch[0]), batch[1])

    def around() -> Any:
        return torch.autocast("cpu", dtype=torch.bfloat16)

    found = paged_outcome(cast_once, data, tmp_path, autocast=torch.bfloat16)
    assert found == eager_outcome(cast_once, data, loss, around)
    assert found != eager_outcome(cast_once, data, loss)
    model, loss_fn, optimizer = cast_once()
    with TrainStep(model, loss_fn, optimizer, data[0], autocast=torch.bfloat16) as step:
        torch.manual_seed(1)
        assert outcome(model, optimizer, [step(*b).item().hex() for b in data]) == found


def test_autocast_to_something_else_is_refused() -> None:
    with pytest.raises(UsageError) as caught:
        StepOptions(autocast=torch.int8)
    assert caught.value.code == "autocast_invalid"


def test_a_mode_that_changes_between_steps_is_refused_and_can_be_set_back(tmp_path: Path) -> None:
    data = parts_data()
    step, model, optimizer = paged(parts, data[0], tmp_path)
    assert isinstance(model, Parts)
    with step:
        losses = [step(*data[0]).item().hex()]
        model.drop.eval()
        with pytest.raises(ReplayError, match=r"'drop' in train\(\) mode") as caught:
            step(*data[1])
        assert caught.value.code == "mode_changed"
        model.drop.train()
        model.head.bias.requires_grad_(False)
        with pytest.raises(ReplayError, match=r"'head\.bias' with requires_grad=True"):
            step(*data[1])
        model.head.bias.requires_grad_(True)
        losses += [step(*batch).item().hex() for batch in data[1:]]
        assert outcome(model, optimizer, losses) == eager_outcome(
            parts, data, lambda model, batch: parts_loss(model(batch[0]), batch[1])
        )
