"""The small model as ONNX, for runtimes that take nothing else (needs the `onnx` package).

    inputs (batch, in_features) float32 of raw integers, or of a hashed projection the bits
    (batch, T * d) float32 of 0 and 1: ONNX has no operator that hashes a text
      -> MatMul with the projection matrix, > 0 -> head -> logits (batch, classes)

ONNX cannot regenerate a matrix, so this file holds it, as int8: T * d * in_features bytes that the
other exports do without. int8 weights are stored as such and int4 weights as int8; a quantized
network computes in float64, where its integers are exact, so its logits are `QuantizedNet`'s. Of a
lookup the shipped rows are stored once, beside a map from each row's number to its place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.matrices import exact_matrix
from projection_nets.replacing import replace_file
from projection_nets.spec import BitValues, ProjectionKind
from projection_nets.stored import StoredNet

_OPSET = 17
_IR_VERSION = 8  # of opset 17's time, so that older runtimes read it too


def export_onnx(model: StoredNet, path: str | Path) -> int:
    """Writes the model; returns its bytes. Raises UsageError (`onnx_missing`) without the package."""
    content = onnx_bytes(model)
    replace_file(Path(path), content, what="ONNX model")
    return len(content)


def onnx_bytes(model: StoredNet) -> bytes:
    """The content of the file, checked by the package's own checker."""
    try:
        import onnx
    except ImportError as error:
        raise UsageError(
            "Expected the onnx package to write ONNX, got none.",
            code="onnx_missing",
            hint="pip install 'poet-planner[onnx]'",
        ) from error
    graph = _Graph(onnx)
    spec = model.spec
    hashed = spec.kind is ProjectionKind.HASHED
    if hashed:
        bits, width = "bits", spec.projected_bits
    else:
        bits, width = _projected(graph, model), spec.in_features
    logits = _lookup(graph, model, bits) if model.rows is not None else _dense(graph, model, bits)
    graph.add("Identity", [logits], "logits")
    number = graph.number_type(model.is_quantized)
    float32 = onnx.TensorProto.FLOAT
    described = onnx.helper.make_graph(
        graph.nodes,
        "projection_net",
        [onnx.helper.make_tensor_value_info("bits" if hashed else "inputs", float32, ["batch", width])],
        [onnx.helper.make_tensor_value_info("logits", number, ["batch", model.classes])],
        graph.constants,
    )  # fmt: skip
    whole = onnx.helper.make_model(
        described, opset_imports=[onnx.helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
    )
    onnx.checker.check_model(whole, full_check=True)
    content: bytes = whole.SerializeToString()
    return content


class _Graph:
    """Nodes and constants in the order in which they are added; each node has one output."""

    def __init__(self, onnx: Any) -> None:
        self._onnx = onnx
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def constant(self, values: npt.NDArray[Any]) -> str:
        name = f"constant{len(self.constants)}"
        self.constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        output = output or f"value{len(self.nodes)}"
        self.nodes.append(self._onnx.helper.make_node(kind, inputs, [output], **attributes))
        return output

    def number_type(self, is_quantized: bool) -> int:
        types = self._onnx.TensorProto
        return int(types.DOUBLE if is_quantized else types.FLOAT)

    def integer_type(self) -> int:
        return int(self._onnx.TensorProto.INT64)

    def cast(self, value: str, to: int) -> str:
        return self.add("Cast", [value], to=to)

    def numbers(self, values: npt.NDArray[Any], is_quantized: bool) -> str:
        """A constant in the arithmetic of the head; integers of 8 bits are cast as it runs."""
        name = self.constant(values)
        return self.cast(name, self.number_type(True)) if is_quantized else name


def _projected(graph: _Graph, model: StoredNet) -> str:
    """Bits as float32 0 and 1; the products are integers below 2^24, exact in float32."""
    matrix = graph.constant(np.ascontiguousarray(exact_matrix(model.spec).T))
    floats = graph.cast(matrix, graph.number_type(False))
    products = graph.add("MatMul", ["inputs", floats])
    above = graph.add("Greater", [products, graph.constant(np.array([0], np.float32))])
    return graph.cast(above, graph.number_type(False))


def _dense(graph: _Graph, model: StoredNet, bits: str) -> str:
    values = bits
    if model.spec.values is BitValues.PLUS_MINUS_ONE:
        doubled = graph.add("Add", [values, values])
        values = graph.add("Sub", [doubled, graph.constant(np.array([1], np.float32))])
    values = graph.cast(values, graph.number_type(model.is_quantized))
    for number, layer in enumerate(model.layers):
        if number:
            values = graph.add("Relu", [values])
        weight = graph.numbers(np.ascontiguousarray(layer.weight.T), model.is_quantized)
        bias = graph.numbers(layer.bias, model.is_quantized)
        values = graph.add("Add", [graph.add("MatMul", [values, weight]), bias])
    return values


def _lookup(graph: _Graph, model: StoredNet, bits: str) -> str:
    spec, layer = model.spec, model.layers[0]
    assert model.rows is not None  # decided by the caller
    blocks = graph.add(
        "Reshape", [bits, graph.constant(np.array([-1, spec.functions, spec.bits], np.int64))]
    )
    # a row's number is below 2^26, exact in float32 where it is below 2^24: so in float64
    powers = graph.constant(2.0 ** np.arange(spec.bits, dtype=np.float64))
    doubles = graph.cast(blocks, graph.number_type(True))
    indices = graph.add("MatMul", [doubles, powers])
    firsts = graph.constant((np.arange(spec.functions) << spec.bits).astype(np.float64))
    rows = graph.cast(graph.add("Add", [indices, firsts]), graph.integer_type())
    places = np.where(model.rows, np.cumsum(model.rows), 0).astype(np.int32)  # 0: the row of zeros
    found = graph.add("Gather", [graph.constant(places), rows])
    zeros = np.zeros((1, model.classes), layer.weight.dtype)
    table = graph.constant(np.concatenate([zeros, layer.weight]))
    named = graph.cast(graph.add("Gather", [table, found]), graph.number_type(model.is_quantized))
    axis = graph.constant(np.array([1], np.int64))
    summed = graph.add("ReduceSum", [named, axis], keepdims=0)
    return graph.add("Add", [summed, graph.numbers(layer.bias, model.is_quantized)])
