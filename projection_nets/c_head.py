"""The C of a head: sums of weights where bits are set, hidden layers, or rows of lookup tables.

The first layer's weights lie input by input, so that a set bit adds one row of neighbours. A sum is
int32 where the weights cannot carry it further, int64 otherwise (`largest_sums`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from projection_nets.c_projection import bits_signature
from projection_nets.model_file import packed_halves
from projection_nets.spec import BitValues, ProjectionKind
from projection_nets.stored import StoredLayer, StoredNet

_INT32 = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """C text, the bytes of its constants, and of its arrays on the stack."""

    source: str
    constant_bytes: int
    working_bytes: int


def head_source(model: StoredNet, name: str, sums: list[int]) -> Head:
    """NAME_classify_bits and NAME_classify, with what they need before them."""
    made = _lookup(model, name) if model.rows is not None else _dense(model, name, sums)
    passed = "text, length" if model.spec.kind is ProjectionKind.HASHED else "input"
    whole = f"""
int {name}_classify({bits_signature(model.spec)}, int64_t logits[{model.classes}])
{{
    uint8_t packed[{model.spec.packed_bytes}];
    {name}_bits({passed}, packed);
    return {name}_classify_bits(packed, logits);
}}
"""
    return Head(
        source=made.source + whole,
        constant_bytes=made.constant_bytes,
        working_bytes=made.working_bytes,
    )


def _dense(model: StoredNet, name: str, sums: list[int]) -> Head:
    constants = []
    for number, layer in enumerate(model.layers):
        turned = layer.weight.T if number == 0 else layer.weight
        constants += [
            _weights(layer, np.ascontiguousarray(turned), f"weight{number}"),
            _array(_sum_type(sums[number]), f"bias{number}", layer.bias),
        ]
    steps = [_first_layer(model)]
    steps += [_next_layer(model, number, sums) for number in range(1, len(model.layers))]
    widths = [len(layer.bias) for layer in model.layers]
    arrays = "".join(
        f"    {_sum_type(most)} sums{number}[{width}];\n"
        for number, (width, most) in enumerate(zip(widths, sums, strict=True))
    )
    source = f"""
{"".join(text for text, _ in constants)}{_HALF if model.layers[0].weight_bits == 4 else ""}
int {name}_classify_bits(const uint8_t packed[{model.spec.packed_bytes}], int64_t logits[{model.classes}])
{{
{arrays}    uint32_t in, out;
    int best = 0;
{"".join(steps)}    for (out = 0; out < {model.classes}u; out++) {{
        logits[out] = sums{len(widths) - 1}[out];
        if (logits[out] > logits[best])
            best = (int)out;
    }}
    return best;
}}
"""
    working = sum(width * _size(most) for width, most in zip(widths, sums, strict=True))
    return Head(
        source=source, constant_bytes=sum(size for _, size in constants), working_bytes=working
    )


def _first_layer(model: StoredNet) -> str:
    width = len(model.layers[0].bias)
    weight = _element(model.layers[0], "weight0", f"in * {width}u + out")
    clear = ""
    if model.spec.values is BitValues.PLUS_MINUS_ONE:
        clear = f"""
        else
            for (out = 0; out < {width}u; out++)
                sums0[out] -= {weight};"""
    return f"""    for (out = 0; out < {width}u; out++)
        sums0[out] = bias0[out];
    for (in = 0; in < {model.spec.projected_bits}u; in++) {{
        if (packed[in / 8u] >> (in % 8u) & 1u)
            for (out = 0; out < {width}u; out++)
                sums0[out] += {weight};{clear}
    }}
"""


def _next_layer(model: StoredNet, number: int, sums: list[int]) -> str:
    layer = model.layers[number]
    outputs, inputs = layer.weight.shape
    before, kind = number - 1, _sum_type(sums[number])
    weight = _element(layer, f"weight{number}", f"out * {inputs}u + in")
    return f"""    for (out = 0; out < {outputs}u; out++) {{
        {kind} sum = bias{number}[out];
        for (in = 0; in < {inputs}u; in++)
            if (sums{before}[in] > 0)
                sum += ({kind})sums{before}[in] * {weight};
        sums{number}[out] = sum;
    }}
"""


def _lookup(model: StoredNet, name: str) -> Head:
    spec, layer = model.spec, model.layers[0]
    assert model.rows is not None  # decided by head_source
    rows = max(len(layer.weight), 1)  # C has no array of length 0
    shipped = np.zeros((rows, model.classes), dtype=np.int8)
    shipped[: len(layer.weight)] = layer.weight
    by_table = model.rows.reshape(spec.functions, -1)
    bitmap = np.packbits(by_table, axis=1, bitorder="little")
    firsts = np.concatenate([[0], np.cumsum(by_table.sum(axis=1))[:-1]])
    constants = [
        _weights(layer, shipped, "rows"),
        _array("int64_t", "bias", layer.bias),
        _array("uint8_t", "shipped", bitmap),
        _array("uint32_t", "firsts", firsts),
    ]
    width = bitmap.shape[1]
    source = f"""
{"".join(text for text, _ in constants)}{_HALF if layer.weight_bits == 4 else ""}
int {name}_classify_bits(const uint8_t packed[{spec.packed_bytes}], int64_t logits[{model.classes}])
{{
    uint32_t table, bit, byte, out;
    int best = 0;
    for (out = 0; out < {model.classes}u; out++)
        logits[out] = bias[out];
    for (table = 0; table < {spec.functions}u; table++) {{
        const uint8_t *const bitmap = shipped + table * {width}u;
        uint32_t index = 0, row = firsts[table];
        for (bit = 0; bit < {spec.bits}u; bit++) {{
            const uint32_t position = table * {spec.bits}u + bit;
            index |= (uint32_t)(packed[position / 8u] >> (position % 8u) & 1u) << bit;
        }}
        if (!(bitmap[index / 8u] >> (index % 8u) & 1u))
            continue;
        for (byte = 0; byte < index / 8u; byte++)
            row += ones(bitmap[byte]);
        row += ones((uint8_t)(bitmap[index / 8u] & ((1u << (index % 8u)) - 1u)));
        for (out = 0; out < {model.classes}u; out++)
            logits[out] += {_element(layer, "rows", f"row * {model.classes}u + out")};
    }}
    for (out = 1; out < {model.classes}u; out++)
        if (logits[out] > logits[best])
            best = (int)out;
    return best;
}}
"""
    size = sum(size for _, size in constants)
    return Head(source=_ONES + source, constant_bytes=size, working_bytes=0)


_ONES = """
static uint32_t ones(uint8_t byte)
{
    uint32_t count = 0;
    for (; byte; byte = (uint8_t)(byte & (byte - 1u)))
        count++;
    return count;
}
"""

# Two to a byte, the first in the low half, in two's complement.
_HALF = """
static int8_t half(const uint8_t *pairs, uint32_t index)
{
    const uint8_t value = index % 2u ? pairs[index / 2u] >> 4 : pairs[index / 2u] & 15u;
    return (int8_t)((int)(value ^ 8u) - 8);
}
"""


def _element(layer: StoredLayer, name: str, index: str) -> str:
    return f"{name}[{index}]" if layer.weight_bits == 8 else f"half({name}, {index})"


def _weights(layer: StoredLayer, weight: npt.NDArray[Any], name: str) -> tuple[str, int]:
    if layer.weight_bits == 8:
        return _array("int8_t", name, weight)
    return _array("uint8_t", name, np.frombuffer(packed_halves(weight), np.uint8))


def _array(kind: str, name: str, values: npt.NDArray[Any]) -> tuple[str, int]:
    flat = values.reshape(-1)
    lines = _lines([_literal(kind, int(value)) for value in flat])
    size = flat.size * {"int8_t": 1, "uint8_t": 1, "int32_t": 4, "uint32_t": 4, "int64_t": 8}[kind]
    return f"static const {kind} {name}[{flat.size}] = {{\n{lines}\n}};\n", size


def _literal(kind: str, value: int) -> str:
    return f"INT64_C({value})" if kind == "int64_t" else str(value)


def _lines(words: Iterable[str]) -> str:
    words = list(words)
    return "\n".join(", ".join(words[at : at + 16]) + "," for at in range(0, len(words), 16))


def _sum_type(most: int) -> str:
    return "int32_t" if most < _INT32 else "int64_t"


def _size(most: int) -> int:
    return 4 if most < _INT32 else 8
