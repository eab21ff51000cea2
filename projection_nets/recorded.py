"""Recording a mentor's answers to a data set, and giving them out with its batches.

    where the mentor is     record(mentoring, examples, path)
    on the device           with Recording(path) as recording:
                                step = Mentoring(mentee=..., mentor=recording, example=..., maps=...)
                                train(step, optimizer, RecordedExamples(examples, recording), ...)

Invariant: row i of the file is of example i. The file carries the SHA-256 of the inputs that were
recorded, so another data set, another order or another split is an error, not silent nonsense.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poet_core.errors import DataError
from projection_nets.data.examples import Labelled
from projection_nets.mentoring import Mentoring
from projection_nets.recording import LOGITS, Recording, write_recording
from projection_nets.recording_header import RecordingHeader

_ROWS_AT_A_TIME = 200
_FINGERPRINT_ROWS = 256  # part of what the fingerprint is: several inputs alternate at this stride


def record(
    mentoring: Mentoring,
    examples: Labelled[tuple[Tensor, ...]],
    path: str | Path,
    *,
    values: str = "float32",
    chunk_examples: int = 64,
) -> int:
    """Writes what the mentor says of each example, its logits and the mapped layers; returns bytes.

    `values`: float32, or float16 for half the file. Raises what `write_recording` does, and
    UsageError (`mentoring_invalid`) where the mentor is itself recorded.
    """
    names = [LOGITS, *(one.name for one in mentoring.maps)]
    first = next(examples.chunks(1))
    logits = mentoring.targets(first[:-1])[0]
    header = RecordingHeader(
        examples=len(examples),
        chunk_examples=chunk_examples,
        values=values,
        inputs_sha256=fingerprint(examples),
        shapes=dict(zip(names, (tuple(logits.shape[1:]), *mentoring.target_shapes), strict=True)),
    )

    def batches() -> Iterator[list[npt.NDArray[np.floating]]]:
        for *inputs, _ in examples.chunks(_ROWS_AT_A_TIME):
            yield [target.numpy() for target in mentoring.targets(inputs)]

    return write_recording(Path(path), header, batches())


def fingerprint(examples: Labelled[tuple[Tensor, ...]]) -> str:
    """The SHA-256 of the inputs of all examples in their order, their types included."""
    digest = hashlib.sha256()
    for *inputs, _ in examples.chunks(_FINGERPRINT_ROWS):
        for values in inputs:
            digest.update(f"{values.dtype} {tuple(values.shape)};".encode("ascii"))
            digest.update(values.contiguous().numpy().tobytes())
    return digest.hexdigest()


class RecordedExamples:
    """A data set whose batches are (inputs ..., mentor's logits, targets ..., labels).

    Raises DataError (`recording_differs`) where the recording is of something else.
    """

    def __init__(self, examples: Labelled[tuple[Tensor, ...]], recording: Recording) -> None:
        same_count = len(examples) == len(recording)
        if not same_count or fingerprint(examples) != recording.header.inputs_sha256:
            raise DataError(
                f"Expected a recording of these {len(examples)} examples, got one of "
                f"{len(recording)}{' others' if same_count else ''}.",
                code="recording_differs",
                hint="Pass the data set that was recorded, in the same order and split.",
            )
        self._examples = examples
        self._recording = recording

    def __len__(self) -> int:
        return len(self._examples)

    def batch(self, order: npt.NDArray[np.int64]) -> tuple[Tensor, ...]:
        """The examples at these positions, in this order."""
        *inputs, labels = self._examples.batch(order)
        return (*inputs, *map(torch.from_numpy, self._recording.rows(order)), labels)

    def chunks(self, batch_size: int) -> Iterator[tuple[Tensor, ...]]:
        """All examples in order; the last chunk can be smaller."""
        for start in range(0, len(self), batch_size):
            yield self.batch(np.arange(start, min(start + batch_size, len(self))))
