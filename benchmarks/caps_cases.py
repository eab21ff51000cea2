"""The steps of `benchmarks.caps`, their caps, and what is asked of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from examples import bert, gpt2, resnet, vit
from examples.parts import Step

SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A training step. `targets`: for each cap in MiB the most that a step may take of the same
    step without a cap; `share_target`: the same for a cap that is this share of eager's peak.
    `disk_bytes_per_second`: the disk is throttled to it."""

    title: str
    build: Callable[[], Step]
    targets: dict[int, float] = field(default_factory=dict)
    share_target: tuple[float, float] | None = None
    disk_bytes_per_second: int | None = None


def _bert_small() -> Step:
    shape = bert.BertShape(vocabulary=8000, width=256, layers=4, heads=4, feed_forward=1024)
    return bert.step(batch=4, length=128, shape=shape)


CASES = {
    "bert": Case(
        title="BERT-base 4 x 512, Adam",
        build=bert.step,
        targets={1024: 1.08, 768: 1.12, 512: 1.25, 448: 1.35},
    ),
    "resnet": Case(
        title="ResNet-18 32 x 224 px, SGD momentum",
        build=lambda: resnet.step(batch=32, image_size=224),
        targets={768: 1.03, 480: 1.15},
    ),
    "gpt2": Case(
        title="GPT-2 small 2 x 512, AdamW",
        build=gpt2.step,
        share_target=(0.2, 1.20),
    ),
    "vit": Case(
        title="ViT-B/16 8 x 224 px, AdamW",
        build=vit.step,
        share_target=(0.2, 1.20),
    ),
    "throttled": Case(
        title="BERT-base 4 x 512, Adam, disk throttled to 250 MB/s",
        build=bert.step,
        targets={768: 1.40},
        disk_bytes_per_second=250_000_000,
    ),
    "small": Case(
        title="BERT 4 layers of 256, 4 x 128, Adam",
        build=_bert_small,
        targets={288: 1.5, 256: 2.0},
    ),
}
"""In the order in which they are measured; `small` only when it is asked for."""
