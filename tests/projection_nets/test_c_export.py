"""The C code: compiled here, the same bits, logits and classes as torch; clean under valgrind."""

import re
import shutil
import subprocess

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import NetOnBits, ProjectionNet
from projection_nets.c_export import LONGEST_TEXT, c_model, export_c
from projection_nets.data.idx import read_idx
from projection_nets.hashed import HashedProjection
from projection_nets.packing import packed_bits, unpack
from projection_nets.quantize import QuantizedNet, integer_logits, quantized
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.stored import stored
from projection_nets.text import TextFeatures

FLAGS = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Werror", "-Wconversion", "-O2"]
TEXTS = [
    "", "Wake me up at 7!", "what's the weather", "ÉTÉ à Zürich — 25°", "one", "x" * 500,
    "a b c d e f g h i j k", " ,. ", "tab\tand\nnewline\0 zero", "THE the The tHe",
]  # fmt: skip

PROGRAM = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
#if defined(MODEL_INPUTS)
#define ARGUMENTS input
#else
#define ARGUMENTS (const char *)input, length
#endif
/* stdin: a length in four bytes and an input, repeated; stdout: bits, class and logits of each */
int main(void)
{
    uint8_t size[4];
    while (fread(size, 1, 4, stdin) == 4) {
        const size_t length = (size_t)size[0] | (size_t)size[1] << 8 | (size_t)size[2] << 16;
        uint8_t *const exact = malloc(length ? length : 1);
        const void *const input = exact;
        uint8_t packed[MODEL_PACKED_BYTES];
        int64_t logits[MODEL_CLASSES];
        int class_, out;
        if (!exact || fread(exact, 1, length, stdin) != length)
            return 1;
        model_bits(ARGUMENTS, packed);
        class_ = model_classify(ARGUMENTS, logits);
        fwrite(packed, 1, sizeof packed, stdout);
        printf(" %d", class_);
        for (out = 0; out < MODEL_CLASSES; out++)
            printf(" %lld", (long long)logits[out]);
        putchar('\\n');
        free(exact);
    }
    return 0;
}
"""


@pytest.fixture(scope="module")
def compiler():
    found = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if found is None:
        pytest.skip("no C compiler on this machine")
    return found


def compiled(model, folder, compiler, flags=()):
    made = export_c(model, folder, "model")
    (folder / "main.c").write_text(PROGRAM)
    strict = [compiler, *FLAGS, *flags, "-c", "model.c"]
    subprocess.run(strict, cwd=folder, check=True, capture_output=True, text=True)
    link = [compiler, "-std=gnu99", *flags, "-O2", "main.c", "model.o", "-o", "run"]
    subprocess.run(link, cwd=folder, check=True, capture_output=True, text=True)
    return made


def answers(model, folder, inputs, before=()):
    content = b"".join(len(x).to_bytes(4, "little") + x for x in inputs)
    done = subprocess.run(
        [*before, "./run"], cwd=folder, input=content, capture_output=True, check=True
    )
    width = model.spec.packed_bytes
    packed, classes, logits = [], [], []
    rest = done.stdout
    for _ in inputs:
        packed.append(np.frombuffer(rest[:width], np.uint8))
        line, rest = rest[width:].split(b"\n", 1)
        class_, *values = map(int, line.split())
        classes.append(class_)
        logits.append(values)
    assert rest == b""
    return np.stack(packed), np.array(classes), np.array(logits)


def filled(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if hasattr(net.head, "table"):
            net.head.table[::3] = 0
    return net


IMAGES = {
    "one layer": {},
    "ternary": {"kind": ProjectionKind.TERNARY},
    "signs": {"values": BitValues.PLUS_MINUS_ONE},
    "deep": {"hidden": (16, 8)},
    "deep signs, ternary": {
        "hidden": 16, "values": BitValues.PLUS_MINUS_ONE, "kind": ProjectionKind.TERNARY,
    },
    "64-bit sums": {"hidden": (300, 300)},
    "lookup": {"lookup": True},
    "empty lookup": {"lookup": True, "classes": 2},
}  # fmt: skip


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("options", IMAGES.values(), ids=IMAGES)
def test_images_give_the_bits_and_logits_of_torch(tmp_path, compiler, options, weight_bits):
    options = {"classes": 4, **options}
    empty = options["classes"] == 2
    net = ProjectionNet(37, T=6, d=5, seed=5, **options)
    model = quantized(stored(net if empty else filled(net)), weight_bits)
    compiled(model, tmp_path, compiler)
    pixels = np.random.default_rng(0).integers(0, 256, (200, 37), dtype=np.uint8)
    pixels[::2] *= pixels[::2] > 128  # zeros, as images have
    packed, classes, logits = answers(model, tmp_path, [row.tobytes() for row in pixels])
    assert np.array_equal(packed, packed_bits(model.spec, pixels))
    expected = QuantizedNet(model)(torch.from_numpy(pixels).float())
    assert np.array_equal(logits, expected.numpy())
    assert np.array_equal(classes, expected.argmax(dim=1).numpy())
    if empty:
        assert classes.tolist() == [0] * 200  # of equal logits the first


@pytest.mark.parametrize(
    "text",
    [
        TextFeatures(),
        TextFeatures(word_ngrams=4, skips=3, shortest_characters=1, longest_characters=6),
        TextFeatures(word_ngrams=0, skips=0),
        TextFeatures(word_ngrams=1, skips=0, shortest_characters=0, longest_characters=0),
        TextFeatures(word_ngrams=0, skips=2, shortest_characters=0, longest_characters=0),
    ],
    ids=["default", "much", "characters", "words", "skip-grams"],
)
def test_texts_give_the_bits_of_python(tmp_path, compiler, text):
    spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=6, bits=7, text=text)
    model = quantized(stored(filled(NetOnBits(HashedProjection(spec), 4, hidden=5))), 8)
    compiled(model, tmp_path, compiler)
    packed, classes, logits = answers(model, tmp_path, [x.encode() for x in TEXTS])
    expected = packed_bits(spec, TEXTS)
    assert np.array_equal(packed, expected)
    numbers = integer_logits(model, unpack(expected, 42))
    assert np.array_equal(logits, numbers)
    assert np.array_equal(classes, numbers.argmax(axis=1))


def test_a_very_long_text_is_read_up_to_the_limit(tmp_path, compiler):
    spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=6, bits=7, text=TextFeatures())
    model = quantized(stored(filled(NetOnBits(HashedProjection(spec), 4))), 8)
    compiled(model, tmp_path, compiler)
    text = "wake me up " * (LONGEST_TEXT // 11 + 1)
    packed, _, _ = answers(model, tmp_path, [text.encode()])
    assert np.array_equal(packed, packed_bits(spec, [text[:LONGEST_TEXT]]))


@pytest.mark.parametrize("count", [2_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mnist_is_classified_as_in_torch(tmp_path, compiler, poet_data, count):
    path = poet_data / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not path.exists():
        pytest.skip("no mnist/ in the folder of data sets")
    pixels = read_idx(path, dimensions=3)[:count].reshape(count, 784)
    net = filled(ProjectionNet(784, 10, T=60, d=12))
    model = quantized(stored(net), 8)
    made = compiled(model, tmp_path, compiler)
    packed, classes, _ = answers(model, tmp_path, [row.tobytes() for row in pixels])
    assert np.array_equal(packed, packed_bits(model.spec, pixels))
    logits = QuantizedNet(model)(torch.tensor(pixels).float())
    assert np.array_equal(classes, logits.argmax(dim=1).numpy())
    assert made.constant_bytes == 7200 + 40


@pytest.mark.parametrize("options", [{"hidden": (200, 80)}, {"lookup": True}], ids=str)
def test_sizes_are_those_of_the_compiled_code(tmp_path, compiler, options):
    model = quantized(stored(filled(ProjectionNet(37, 4, T=6, d=5, **options))), 8)
    if "clang" in compiler:
        pytest.skip("clang has no -fstack-usage in all versions")
    made = compiled(model, tmp_path, compiler, flags=["-O0", "-fstack-usage"])
    # gcc keeps constants in .rodata, jump tables and alignment included
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("no objdump to see sections with")
    sections = subprocess.run([objdump, "-h", "model.o"], cwd=tmp_path, capture_output=True, text=True, check=True).stdout  # fmt: skip
    constants = sum(int(size, 16) for size in re.findall(r"\.rodata\S*\s+([0-9a-f]+)", sections))
    assert made.constant_bytes <= constants <= made.constant_bytes + 256
    used = (tmp_path / "model.su").read_text()
    stack = {
        line.split(":")[-1].split("\t")[0]: int(line.split("\t")[1]) for line in used.splitlines()
    }
    whole = stack["model_classify"] + max(stack["model_bits"], stack["model_classify_bits"])
    logits_bytes = 8 * model.classes  # the caller's
    red_zone = 128  # below the stack pointer, which a function that calls none may use uncounted
    assert made.working_bytes - logits_bytes - red_zone <= whole <= made.working_bytes + 400


@pytest.mark.parametrize("kind", ["image", "text"])
def test_valgrind_finds_nothing(tmp_path, compiler, kind):
    valgrind = shutil.which("valgrind")
    if valgrind is None:
        pytest.skip("valgrind is not installed")
    if kind == "image":
        model = quantized(stored(filled(ProjectionNet(37, 4, T=6, d=5, hidden=9))), 4)
        pixels = np.random.default_rng(0).integers(0, 256, (3, 37), dtype=np.uint8)
        inputs = [row.tobytes() for row in pixels]
    else:
        spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=6, bits=7, text=TextFeatures())
        model = quantized(stored(filled(NetOnBits(HashedProjection(spec), 4, lookup=True))), 8)
        inputs = [x.encode() for x in TEXTS]
    compiled(model, tmp_path, compiler, flags=["-g"])
    options = ["--error-exitcode=9", "--leak-check=full", "--quiet"]
    answers(model, tmp_path, inputs, before=[valgrind, *options])


def test_the_source_has_no_malloc_and_no_floating_point():
    for options in IMAGES.values():
        net = ProjectionNet(37, T=6, d=5, **{"classes": 4, **options})
        code = c_model(quantized(stored(filled(net)), 8), "model")
        assert not re.search(r"malloc|float|double|\d\.\d", code.source)
        assert set(re.findall(r"#include (\S+)", code.header + code.source)) == {
            "<stdint.h>",
            '"model.h"',
        }


def test_operations_are_counted():
    model = quantized(stored(filled(ProjectionNet(784, 10, T=60, d=10, hidden=128))), 8)
    counted = c_model(model, "model").operations
    assert counted.random_words == 600 * 785
    assert counted.projection_additions == 600 * 784
    assert counted.head_additions == 600 * 128
    assert counted.head_multiplications == 1280


@pytest.mark.parametrize("name", ["", "Model", "1model", "a-b", "x" * 40, "a;b"])
def test_names_that_are_no_c_names_are_refused(name):
    model = quantized(stored(ProjectionNet(4, 2, T=2, d=2)), 8)
    with pytest.raises(UsageError) as caught:
        c_model(model, name)
    assert caught.value.code == "c_name_invalid"


def test_floats_and_hashes_without_texts_are_refused():
    spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=2, bits=2)
    for model in (
        stored(ProjectionNet(4, 2, T=2, d=2)),
        quantized(stored(NetOnBits(HashedProjection(spec), 2)), 8),
    ):
        with pytest.raises(UsageError) as caught:
            c_model(model, "model")
        assert caught.value.code == "c_model_unsupported"
