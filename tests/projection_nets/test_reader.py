"""The numpy-only reader, on its own, against the torch networks; and quantized arithmetic."""

import ast
import inspect
import subprocess
import sys

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import NetOnBits, ProjectionNet, reader
from projection_nets.hashed import HashedProjection
from projection_nets.model_file import read_model
from projection_nets.packing import packed_bits, unpack
from projection_nets.quantize import QuantizedNet, integer_logits, largest_sums, quantized
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.stored import stored
from projection_nets.text import TextFeatures

TEXTS = [
    "",
    "Wake me up at 7!",
    "what's the weather",
    "ÉTÉ à Zürich — 25°",
    "a b c d e f g",
    "x" * 99,
]
TEXT = ProjectionSpec(
    kind=ProjectionKind.HASHED,
    functions=6,
    bits=5,
    text=TextFeatures(word_ngrams=3, skips=2, shortest_characters=2, longest_characters=5),
)

NETS = {
    "one layer": {},
    "ternary": {"kind": ProjectionKind.TERNARY},
    "signs": {"values": BitValues.PLUS_MINUS_ONE},
    "deep": {"hidden": (16, 8)},
    "deep signs": {"hidden": 16, "values": BitValues.PLUS_MINUS_ONE},
    "lookup": {"lookup": True},
}


def filled(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if hasattr(net.head, "table"):
            net.head.table[::3] = 0  # rows that are not shipped
    return net


def image_net(**options):
    return filled(ProjectionNet(20, 4, T=6, d=5, seed=5, **options))


def text_net(**options):
    return filled(NetOnBits(HashedProjection(TEXT), 4, **options))


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (300, 20), dtype=np.uint8)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "model.poet"


def test_the_reader_is_one_short_file_of_numpy_and_the_standard_library():
    source = inspect.getsource(reader)
    assert len(source.splitlines()) < 150
    imports = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import)]
    imports += [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    named = {alias.name for node in imports for alias in node.names}
    assert named == {"hashlib", "json", "re", "numpy", "Any"}


def test_the_reader_runs_as_a_copy_elsewhere(path, tmp_path):
    image_net().export(path)
    (tmp_path / "copied.py").write_text(inspect.getsource(reader))
    program = (
        "import copied, sys; print(copied.load(sys.argv[1])['classes'], 'torch' in sys.modules)"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        cwd=tmp_path, capture_output=True, text=True, check=True, env={"PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert answer.stdout.split() == ["4", "False"]


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_floats_of_images_agree_with_torch(path, pixels, options):
    net = image_net(**options)
    net.export(path)
    model = reader.load(path)
    inputs = torch.from_numpy(pixels).float()
    assert np.array_equal(reader.bits_of(model, pixels), net.lsh(inputs).numpy() > 0)
    expected = net(inputs).detach().numpy()
    np.testing.assert_allclose(reader.logits_of(model, pixels), expected, rtol=1e-4, atol=1e-4)
    assert (reader.classify(model, pixels) == expected.argmax(axis=1)).mean() > 0.99


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_integers_of_images_agree_exactly_everywhere(path, pixels, options, weight_bits):
    net = image_net(**options)
    net.export(path, weight_bits=weight_bits)
    model = read_model(path)
    inputs = torch.from_numpy(pixels).float()
    expected = QuantizedNet(model)(inputs)
    assert torch.equal(expected, expected.round())
    assert np.array_equal(reader.logits_of(reader.load(path), pixels), expected.numpy())
    bits = unpack(packed_bits(net.lsh.spec, pixels), 30)
    assert np.array_equal(integer_logits(model, bits), expected.numpy())
    assert expected.abs().max() <= largest_sums(model)[-1]
    # and they are near the floats that they come from
    near = net(inputs).detach()
    unit = QuantizedNet(model).unit
    error = (expected * unit - near).abs().max() / near.abs().max()
    assert error < {8: 0.05, 4: 0.5}[weight_bits]


@pytest.mark.parametrize("options", [{}, {"hidden": 9}, {"lookup": True}], ids=str)
def test_texts_agree(path, options):
    net = text_net(**options)
    net.export(path)
    model = reader.load(path)
    packed = packed_bits(TEXT, TEXTS)
    bits = unpack(packed, 30)
    assert np.array_equal(reader.bits_of(model, TEXTS), bits)
    expected = net.head(torch.from_numpy(bits).float()).detach().numpy()
    np.testing.assert_allclose(reader.logits_of(model, TEXTS), expected, rtol=1e-4, atol=1e-4)
    net.export(path, weight_bits=8)
    exact = integer_logits(read_model(path), bits)
    assert np.array_equal(reader.logits_of(reader.load(path), TEXTS), exact)


def test_the_reader_refuses_a_damaged_file(path):
    image_net().export(path)
    content = bytearray(path.read_bytes())
    content[-40] ^= 1
    path.write_bytes(content)
    with pytest.raises(ValueError, match="undamaged"):
        reader.load(path)


def test_four_bits_choose_the_scale_of_least_error():
    model = stored(image_net())
    layer = quantized(model, 4).layers[0]
    widest = np.abs(model.layers[0].weight).max() / 7
    error = ((layer.weight * layer.scale - model.layers[0].weight) ** 2).sum()
    naive = np.rint(model.layers[0].weight / widest).clip(-7, 7) * widest
    assert layer.scale < widest
    assert error < ((naive - model.layers[0].weight) ** 2).sum()


@pytest.mark.parametrize("weight_bits", [3, 16, 32])
def test_other_widths_and_quantizing_twice_are_refused(weight_bits):
    model = stored(image_net())
    for again, bits in ((model, weight_bits), (quantized(model, 8), 8)):
        with pytest.raises(UsageError) as caught:
            quantized(again, bits)
        assert caught.value.code == "quantization_invalid"


def test_sums_that_float64_could_not_hold_are_refused():
    with pytest.raises(UsageError) as caught:
        quantized(stored(image_net(hidden=(64,) * 6)), 8)
    assert caught.value.code == "quantization_overflow"
