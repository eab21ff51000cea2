"""What `poet train --demo` trains: a model, an optimizer and batches, the same in every process.

    bert      masked words of a text, BERT base; tokens are words, hashed to numbers
    resnet    ResNet-18 on random images
    mlp       a wide multilayer perceptron on random vectors

Text is tiny Shakespeare where POET_DATA has it, random numbers else, and `data` says which. The
models are those of `examples`, which are in the repository. Invariant: a demo made twice has the
same weights and batches, so that eager code in another process trains on what the plan trains on.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poet_core.errors import UsageError

if TYPE_CHECKING:
    import torch

NAMES = ("bert", "resnet", "mlp")
_ROOT = Path(__file__).resolve().parent.parent
_TEXTS = ("input.txt", "tinyshakespeare.txt", "train.txt", "train.csv")
_MASK = 0  # the number of a masked word: none is hashed to it
_MASKED_SHARE = 0.15  # Devlin et al. 2018, section 3.1
_BERT_RATE = 1e-4  # of the same, appendix A.2


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoStep:
    """A step to train. `what`: the model and its batch; `data`: what it is trained on; `batch_of`:
    the batch of a step, from 0."""

    what: str
    data: str
    model: Any
    loss_fn: Any
    optimizer: Any
    batch_of: Callable[[int], tuple[Any, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a demo is run with unless told otherwise, and about how long it takes on one thread of a
    laptop, planning included."""

    cap_mib: int
    seconds: float
    planning_seconds: float


def terms(name: str, *, small: bool) -> Terms:
    """The terms of a demo."""
    found = {
        ("bert", False): (512, 240.0, 45.0),
        ("bert", True): (320, 50.0, 6.0),
        ("resnet", False): (768, 75.0, 20.0),
        ("resnet", True): (264, 40.0, 6.0),
        ("mlp", False): (288, 45.0, 8.0),
        ("mlp", True): (204, 30.0, 4.0),
    }[name, small]
    return Terms(cap_mib=found[0], seconds=found[1], planning_seconds=found[2])


def build(name: str, *, small: bool) -> DemoStep:
    """The demo of a name. Raises UsageError (`demo_missing`) where there are no examples."""
    return {"bert": _bert, "resnet": _resnet, "mlp": _mlp}[name](small=small)


def _example(name: str) -> Any:
    """A module of the repository's examples, found by name as a user's step is: an installed package
    has none. Raises UsageError (`demo_missing`)."""
    if str(_ROOT) not in sys.path:
        sys.path.append(str(_ROOT))
    try:
        return importlib.import_module(f"examples.{name}")
    except ModuleNotFoundError as error:
        raise UsageError(
            "The demos are in the repository's examples, which are not here.",
            code="demo_missing",
            hint="Run from a checkout of the repository.",
        ) from error


def _bert(*, small: bool) -> DemoStep:
    import torch

    bert = _example("bert")
    shape = bert.BertShape()
    rows, length = 4, 512
    if small:
        shape = bert.BertShape(
            vocabulary=8192, positions=128, width=256, layers=4, heads=4, feed_forward=1024
        )
        rows, length = 16, 128
    model, loss_fn, optimizer, _ = bert.step(batch_size=rows, length=length, shape=shape)
    for group in optimizer.param_groups:
        group["lr"] = _BERT_RATE
    words, data = _words(shape.vocabulary, rows * length)

    def batch_of(number: int) -> tuple[torch.Tensor, ...]:
        chance = torch.Generator().manual_seed(number)
        begins = torch.randint(0, len(words) - length, (rows,), generator=chance)
        tokens = torch.stack([words[begin : begin + length] for begin in begins.tolist()])
        masked = torch.rand(rows, length, generator=chance) < _MASKED_SHARE
        return tokens.masked_fill(masked, _MASK), tokens.masked_fill(~masked, bert.NOT_MASKED)

    what = f"{'a small BERT' if small else 'BERT base'} ({shape.layers} layers of {shape.width})"
    return DemoStep(
        what=f"{what}, Adam, {rows} x {length} tokens a step",
        data=data,
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        batch_of=batch_of,
    )


def _resnet(*, small: bool) -> DemoStep:
    import torch

    resnet = _example("resnet")
    images, pixels = (8, 112) if small else (32, 224)
    model, loss_fn, optimizer, _ = resnet.step(batch_size=images, image_size=pixels)

    def batch_of(number: int) -> tuple[torch.Tensor, ...]:
        chance = torch.Generator().manual_seed(number)
        labels = torch.randint(0, 1000, (images,), generator=chance)
        return torch.randn(images, 3, pixels, pixels, generator=chance), labels

    return DemoStep(
        what=f"ResNet-18, SGD with momentum, {images} images of {pixels} x {pixels} a step",
        data="random images (no data set of that size is shipped)",
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        batch_of=batch_of,
    )


def _mlp(*, small: bool) -> DemoStep:
    import torch

    mlp, parts = _example("mlp"), _example("parts")
    width, depth, rows = (1024, 4, 128) if small else (2048, 5, 256)
    with parts.seeded(0):
        model, loss_fn, _, _ = mlp.step(batch_size=1, hidden=(width,) * depth)
    optimizer = parts.optimizer_named("adam", model)

    def batch_of(number: int) -> tuple[torch.Tensor, ...]:
        chance = torch.Generator().manual_seed(number)
        labels = torch.randint(0, 10, (rows,), generator=chance)
        return torch.rand(rows, 784, generator=chance), labels

    return DemoStep(
        what=f"a multilayer perceptron ({depth} layers of {width}), Adam, {rows} vectors a step",
        data="random vectors",
        model=model,
        loss_fn=loss_fn,
        optimizer=optimizer,
        batch_of=batch_of,
    )


def _words(vocabulary: int, least: int) -> tuple[torch.Tensor, str]:
    """The words of a text as numbers from 1 on, and what they are."""
    import torch

    text = _text()
    found = re.findall(r"[A-Za-z']+|[.,:;!?]", text)
    if len(found) > least:
        numbers = [1 + zlib.crc32(word.lower().encode()) % (vocabulary - 1) for word in found]
        return torch.tensor(numbers), f"tiny Shakespeare: {len(found):,} words, hashed to numbers"
    chance = torch.Generator().manual_seed(0)
    words = torch.randint(1, vocabulary, (8 * least,), generator=chance)
    return (
        words,
        "random numbers for words (no text: POET_DATA names a folder with tinyshakespeare)",
    )


def _text() -> str:
    folder = Path(os.environ.get("POET_DATA") or _ROOT.parent / "shared" / "data")
    for name in _TEXTS:
        path = folder / "tinyshakespeare" / name
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return ""
