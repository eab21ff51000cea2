"""The steps of `benchmarks.replay`, in full and small, and where their blocks are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from examples import bert, gpt2, resnet
from examples.parts import Step

SEED = 1
"""Of the generator, before the first step; the weights have a seed of their own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A training step. `blocks`: the model's attribute that holds what checkpointing cuts apart.
    `small`: the same kind of step, for trying this program out."""

    title: str
    blocks: str
    full: Callable[[], Step]
    small: Callable[[], Step]

    def build(self, *, small: bool) -> Step:
        """The step."""
        return self.small() if small else self.full()


def _bert_small() -> Step:
    shape = bert.BertShape(vocabulary=4000, width=256, layers=4, heads=4, feed_forward=1024)
    return bert.step(batch_size=4, length=128, shape=shape)


def _gpt2_small() -> Step:
    shape = gpt2.Gpt2Shape(vocabulary=4000, width=256, layers=4, heads=4)
    return gpt2.step(batch_size=4, length=128, shape=shape)


SUBJECTS = {
    "resnet": Subject(
        title="ResNet-18 32 x 224 px, SGD momentum",
        blocks="blocks",
        full=lambda: resnet.step(batch_size=32, image_size=224),
        small=lambda: resnet.step(batch_size=8, image_size=112),
    ),
    "gpt2": Subject(
        title="GPT-2 small 2 x 512, AdamW", blocks="layers", full=gpt2.step, small=_gpt2_small
    ),
    "bert": Subject(
        title="BERT-base 4 x 512, Adam", blocks="layers", full=bert.step, small=_bert_small
    ),
}
"""In the order in which they are measured: what is quick first."""
