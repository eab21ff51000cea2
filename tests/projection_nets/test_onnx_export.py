"""The ONNX file, run by onnxruntime, against torch."""

import numpy as np
import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import NetOnBits, ProjectionNet
from projection_nets.hashed import HashedProjection
from projection_nets.onnx_export import export_onnx
from projection_nets.packing import packed_bits, unpack
from projection_nets.quantize import QuantizedNet, integer_logits, quantized
from projection_nets.spec import BitValues, ProjectionKind, ProjectionSpec
from projection_nets.stored import stored
from projection_nets.text import TextFeatures

NETS = {
    "one layer": {},
    "ternary": {"kind": ProjectionKind.TERNARY},
    "deep signs": {"hidden": (16, 8), "values": BitValues.PLUS_MINUS_ONE},
    "lookup": {"lookup": True},
}


def filled(net):
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        if hasattr(net.head, "table"):
            net.head.table[::3] = 0
    return net


def run(path, name, values):
    runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {name: values.astype(np.float32)})
    return logits


@pytest.fixture
def path(tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed")
    return tmp_path / "model.onnx"


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (300, 37), dtype=np.uint8)


@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_floats_agree_with_torch(path, pixels, options):
    net = filled(ProjectionNet(37, 4, T=6, d=5, seed=5, **options))
    assert export_onnx(stored(net), path) == path.stat().st_size
    logits = run(path, "inputs", pixels)
    assert logits.dtype == np.float32
    expected = net(torch.from_numpy(pixels).float()).detach().numpy()
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("options", NETS.values(), ids=NETS)
def test_integers_agree_exactly_with_torch(path, pixels, options, weight_bits):
    model = quantized(stored(filled(ProjectionNet(37, 4, T=6, d=5, **options))), weight_bits)
    export_onnx(model, path)
    expected = QuantizedNet(model)(torch.from_numpy(pixels).float())
    assert np.array_equal(run(path, "inputs", pixels), expected.numpy())


def test_texts_enter_as_bits(path):
    spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=6, bits=5, text=TextFeatures())
    model = quantized(stored(filled(NetOnBits(HashedProjection(spec), 4, hidden=7))), 8)
    export_onnx(model, path)
    bits = unpack(packed_bits(spec, ["wake me up", "", "stop"]), 30)
    assert np.array_equal(run(path, "bits", bits), integer_logits(model, bits))


def test_the_file_holds_the_matrix_as_bytes_and_the_weights_in_their_width(path):
    net = filled(ProjectionNet(784, 10, T=60, d=12))
    matrix_bytes = 784 * 720
    assert 0 < export_onnx(stored(net), path) - matrix_bytes - 4 * 7210 < 2000
    assert 0 < export_onnx(quantized(stored(net), 8), path) - matrix_bytes - 7200 < 2000


def test_without_the_package_the_hint_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(UsageError) as caught:
        export_onnx(stored(ProjectionNet(4, 2, T=2, d=2)), tmp_path / "model.onnx")
    assert caught.value.code == "onnx_missing"
