"""The steps of `benchmarks.caps`, their caps, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples import bert, gpt2, resnet, vit
from examples.parts import Step

SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A cap, in MiB or as a share of eager's peak, and the most that a step under it may take of the
    same step without one. `hidden`: the least part of the transfers' time that it may not wait for.
    `disk_bytes_per_second`: its disk is throttled to that."""

    cap_mib: int | None = None
    share: float | None = None
    ratio: float
    hidden: float = 0.0
    disk_bytes_per_second: int | None = None

    def cap_bytes(self, eager_bytes: int) -> int:
        """The cap, given eager's peak."""
        if self.cap_mib is not None:
            return self.cap_mib * 2**20
        assert self.share is not None
        return int(self.share * eager_bytes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training step, and what is asked of it under caps."""

    title: str
    build: Callable[[], Step]
    targets: tuple[Target, ...]


def _bert_small() -> Step:
    shape = bert.BertShape(vocabulary=8000, width=256, layers=4, heads=4, feed_forward=1024)
    return bert.step(batch_size=4, length=128, shape=shape)


CASES = {
    "bert": Case(
        title="BERT-base 4 x 512, Adam",
        build=bert.step,
        targets=(
            Target(cap_mib=1024, ratio=1.08),
            Target(cap_mib=768, ratio=1.12, hidden=0.9),
            Target(cap_mib=512, ratio=1.25),
            Target(cap_mib=448, ratio=1.35),
            Target(cap_mib=768, ratio=1.40, disk_bytes_per_second=250_000_000),
        ),
    ),
    "resnet": Case(
        title="ResNet-18 32 x 224 px, SGD momentum",
        build=lambda: resnet.step(batch_size=32, image_size=224),
        targets=(Target(cap_mib=768, ratio=1.03), Target(cap_mib=480, ratio=1.15)),
    ),
    "gpt2": Case(
        title="GPT-2 small 2 x 512, AdamW",
        build=gpt2.step,
        targets=(Target(share=0.2, ratio=1.20),),
    ),
    "vit": Case(
        title="ViT-B/16 8 x 224 px, AdamW",
        build=vit.step,
        targets=(Target(share=0.2, ratio=1.20),),
    ),
    "small": Case(
        title="BERT 4 layers of 256, 4 x 128, Adam",
        build=_bert_small,
        targets=(
            Target(cap_mib=288, ratio=1.5),
            Target(cap_mib=256, ratio=2.0, disk_bytes_per_second=250_000_000),
        ),
    ),
}
"""In the order in which they are measured; `small` only when it is asked for."""
