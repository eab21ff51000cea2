"""What leaves the machine: weights of few bits, in real bytes, and the C code's answers and speed.

    quantized   float32, int8 and int4 after and during training, shared weights; the file's bytes
    c-code      [60,12] at int8: compiled with every warning an error, run on the whole test part

A file holds everything that the device needs: the projection is its spec, regenerated there.
"""

from __future__ import annotations

import copy
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.projection_data import Splits
from benchmarks.projection_fit import Row, fit, percents
from benchmarks.projection_place import Place
from benchmarks.projection_recipes import of_size
from benchmarks.projection_taught import taught
from poet_core.errors import UsageError
from projection_nets import NetOnBits
from projection_nets.c_export import export_c
from projection_nets.data.examples import LabelledExamples
from projection_nets.metrics import evaluate
from projection_nets.model_file import model_bytes
from projection_nets.packing import unpack
from projection_nets.quantize import integer_logits, quantized
from projection_nets.quantized_training import QuantizedTraining
from projection_nets.sharing import SharedTraining
from projection_nets.stored import StoredNet, stored
from projection_nets.training import IMAGE_BATCH

_FLAGS = ("-std=c99", "-pedantic", "-O3", "-Wall", "-Wextra", "-Werror")
_TUNING_SHARE = 0.2
_TUNING_RATE = 3e-4
_REFRESHES = 5

QUANTIZED_SIZES = (of_size("60,12"), of_size("60,12+FC256"))


def quantized_rows(place: Place, data: str, seed: int) -> list[Row]:
    """Every way to fewer bits from one trained network, so that they are pairs."""
    known = taught(place, data, seed)
    rows: list[Row] = []
    for recipe in QUANTIZED_SIZES:
        splits = only_bits(known.splits, "bits")
        net = known.student(recipe, seed)
        label = f"quantized {data} seed {seed}, {recipe.name}"

        def tuned(model: nn.Module, told: str, splits: Splits = splits, label: str = label) -> Any:
            _tune(place, model, splits.train, seed, f"{label} {told}")
            return model

        rows += [{"network": recipe.name, **row} for row in _variants(net, splits, tuned)]
    return rows


def _variants(net: NetOnBits, splits: Splits, tuned: Callable[[nn.Module, str], Any]) -> list[Row]:
    plain = stored(net)
    made: list[tuple[str, StoredNet]] = [
        ("float32", plain),
        ("int8 after training", quantized(plain, 8)),
        ("int4 after training", quantized(plain, 4)),
        # as many more steps as the others have, so that these are not what helps
        ("float32, trained on", stored(tuned(copy.deepcopy(net), "float32"))),
    ]
    for bits in (8, 4):
        careful = tuned(QuantizedTraining(copy.deepcopy(net), bits), f"int{bits}")
        made.append((f"int{bits} during training", careful.stored()))
    for bits in (8, 4, 2):
        shared = tuned(SharedTraining(copy.deepcopy(net), bits), f"{2**bits} values")
        made.append((f"{2**bits} shared values", shared.stored()))
    return [
        {
            "row": name,
            "bytes": len(model_bytes(model)),
            "parameters": model.parameters,
            "test": percents(evaluate(_Answers(model), splits.test)),
        }
        for name, model in made
    ]


def _tune(place: Place, model: nn.Module, examples: Any, seed: int, label: str) -> None:
    steps = place.share(_TUNING_SHARE)
    every = max(1, steps // _REFRESHES)

    def refresh(number: int) -> None:
        # not at the very end: the scales of the last steps are those that are shipped
        if isinstance(model, QuantizedTraining) and number % every == 0 and number < steps:
            model.refresh_scales()

    fit(
        place, model, examples, label=label, steps=steps, seed=seed, batch_size=IMAGE_BATCH,
        loss=nn.functional.cross_entropy, rates={"": _TUNING_RATE}, on_step=refresh,
    )  # fmt: skip


class _Answers(nn.Module):
    """A shipped network on packed bits: integers as the device has them, floats in float32."""

    def __init__(self, model: StoredNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, packed: Tensor) -> Tensor:
        width = self.model.spec.packed_bytes
        bits = unpack(packed.numpy()[:, :width], self.model.spec.projected_bits)
        if self.model.is_quantized:
            return torch.from_numpy(integer_logits(self.model, bits))
        return torch.from_numpy(_float_logits(self.model, bits))


def _float_logits(model: StoredNet, bits: Any) -> Any:
    if model.rows is not None:
        spec = model.spec
        blocks = bits.astype(np.int64).reshape(len(bits), spec.functions, spec.bits)
        places = (blocks << np.arange(spec.bits)).sum(axis=2)
        places += np.arange(spec.functions) << spec.bits
        table = np.zeros((len(model.rows), model.classes), np.float32)
        table[model.rows] = model.layers[0].weight
        return table[places].sum(axis=1) + model.layers[0].bias
    values = bits.astype(np.float32)
    if model.spec.values == "plus_minus_one":
        values = 2 * values - 1
    for number, layer in enumerate(model.layers):
        values = np.maximum(values, 0) if number else values
        values = values @ layer.weight.T + layer.bias
    return values


def only_bits(splits: Splits, name: str) -> Splits:
    """The splits with one input: these bits."""
    place = splits.input_of(name)

    def kept(part: LabelledExamples) -> LabelledExamples:
        return LabelledExamples(inputs=(part.inputs[place],), labels=part.labels)

    return replace(
        splits, inputs=(name,), train=kept(splits.train),
        validation=kept(splits.validation), test=kept(splits.test),
    )  # fmt: skip


# -- C ----------------------------------------------------------------------------------------


def c_code_rows(place: Place, data: str, seed: int) -> list[Row]:
    """[60,12] at int8 as C: sizes, whether it answers as Python does, images a second on one core."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return [{"row": "60,12 in C", "skipped": "no C compiler on this machine"}]
    known = taught(place, data, seed)
    recipe = of_size("60,12")
    model = quantized(stored(known.student(recipe, seed)), 8)
    splits = known.splits
    pixels = splits.test.inputs[splits.input_of("pixels")].numpy()
    packed = splits.test.inputs[splits.input_of("bits")]
    answers = _Answers(model)(packed).argmax(dim=1).numpy()
    with tempfile.TemporaryDirectory() as folder:
        made = export_c(model, folder, "model")
        seconds, classes = _run_c(Path(folder), compiler, pixels)
    right = classes == splits.test.labels.numpy()
    return [
        {
            "row": "60,12 in C",
            "bytes": len(model_bytes(model)),
            "constant_bytes": made.constant_bytes,
            "working_bytes": made.working_bytes,
            "head_additions": made.operations.head_additions,
            "projection_additions": made.operations.projection_additions,
            "random_words": made.operations.random_words,
            "images": len(pixels),
            "answers_as_python": bool(np.array_equal(classes, answers)),
            "test": {"1": round(100 * float(right.mean()), 4)},
            "images_a_second": round(len(pixels) / seconds, 1),
            "flags": " ".join(_FLAGS),
        }
    ]


def _run_c(folder: Path, compiler: str, pixels: Any) -> tuple[float, Any]:
    """CPU seconds for all images, and their classes."""
    (folder / "main.c").write_text(_PROGRAM, encoding="ascii")
    built = subprocess.run(
        [compiler, *_FLAGS, "main.c", "model.c", "-o", "classify"],
        cwd=folder, check=False, capture_output=True, text=True,
    )  # fmt: skip
    if built.returncode:
        raise UsageError(
            f"The C code did not compile: {built.stderr.strip()[:400]}",
            code="c_code_failed",
            hint="Compile benchmarks' model.c by hand with the flags in projection_devices.",
        )
    done = subprocess.run(
        [str(folder / "classify")], input=np.ascontiguousarray(pixels).tobytes(), check=True,
        capture_output=True,
    )  # fmt: skip
    first, _, classes = done.stdout.partition(b"\n")
    return float(first), np.array(classes.split(), dtype=np.int64)


_PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "model.h"

/* stdin: images of bytes; stdout: seconds of processor time, then a class a line */
int main(void)
{
    size_t room = 1u << 26, count, image;
    uint8_t *const pixels = malloc(room);
    int *classes;
    int64_t logits[MODEL_CLASSES];
    clock_t began;
    if (!pixels)
        return 1;
    count = fread(pixels, 1, room, stdin) / MODEL_INPUTS;
    classes = malloc((count ? count : 1) * sizeof *classes);
    if (!classes)
        return 1;
    began = clock();
    for (image = 0; image < count; image++)
        classes[image] = model_classify(pixels + image * MODEL_INPUTS, logits);
    printf("%.9f\\n", (double)(clock() - began) / CLOCKS_PER_SEC);
    for (image = 0; image < count; image++)
        printf("%d\\n", classes[image]);
    free(classes);
    free(pixels);
    return 0;
}
"""
