"""Minibatches as a pure function of (images, batch size, seed, step): no hidden state to save.

Invariant: every epoch is a fresh order of all images, from (seed, epoch) alone, and every batch has
exactly `batch_size` images. The rest of an epoch that fills no batch is dropped, because a traced
step has one fixed batch size; another epoch's order drops other images.
"""

from __future__ import annotations

from collections.abc import Iterator

from poet_core.errors import UsageError
from projection_nets.data.examples import BatchT, Labelled
from projection_nets.hashing import permutation


def minibatches(
    images: Labelled[BatchT],
    *,
    seed: int,
    steps: int,
    batch_size: int = 200,
    first_step: int = 0,
) -> Iterator[BatchT]:
    """`steps` batches, of images (float pixels 0..255, labels), over as many epochs as that takes.

    `first_step` resumes: the batches are those that an uninterrupted run would have seen from
    there. Raises UsageError (`batch_size_invalid`) where no batch can be filled.
    """
    batches_per_epoch = len(images) // batch_size if batch_size > 0 else 0
    if batches_per_epoch == 0:
        raise UsageError(
            f"Expected a batch size of 1..{len(images)} for {len(images)} images, "
            f"got {batch_size}.",
            code="batch_size_invalid",
            hint="A partial batch is never given out; choose a smaller batch.",
        )
    return _generated(images, seed, batch_size, range(first_step, first_step + steps))


def _generated(
    images: Labelled[BatchT], seed: int, batch_size: int, steps: range
) -> Iterator[BatchT]:
    batches_per_epoch = len(images) // batch_size
    epoch_of_order, order = -1, permutation(0, seed, 0)
    for step in steps:
        epoch, position = divmod(step, batches_per_epoch)
        if epoch != epoch_of_order:
            epoch_of_order, order = epoch, permutation(len(images), seed, epoch)
        start = position * batch_size
        yield images.batch(order[start : start + batch_size])
