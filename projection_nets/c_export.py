"""The quantized model as C99: one header and one source, no malloc, integers alone.

    NAME.h   sizes, NAME_bits, NAME_classify
    NAME.c   the weights as constants, the projection regenerated from its seed   (c_projection)
             sums in integers as wide as the weights demand                       (c_head)

Invariant: bits, logits and class are those of `QuantizedNet` and of the numpy reader, to the bit,
on every C99 compiler: no floating point, no undefined overflow (bounds come from the weights), no
right shift of a negative number, no byte order. Names in the source come from `name` alone, which
is checked; a model contributes numbers only.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from poet_core.errors import UsageError
from projection_nets.c_head import head_source
from projection_nets.c_projection import (
    bits_signature,
    dense_working_bytes,
    input_type,
    projection_source,
)
from projection_nets.c_text import history_length
from projection_nets.operations import Operations, operations_of
from projection_nets.quantize import largest_sums
from projection_nets.replacing import replace_file
from projection_nets.spec import ProjectionKind
from projection_nets.stored import StoredNet

_NAME = re.compile(r"[a-z][a-z0-9_]{0,30}")


@dataclass(frozen=True, slots=True, kw_only=True)
class CModel:
    """The two texts, and what they need of a device for one input.

    `constant_bytes`: weights, biases and tables in flash; code comes on top. `working_bytes`: all
    arrays on the stack together, the caller's logits included; scalars come on top.
    """

    header: str
    source: str
    constant_bytes: int
    working_bytes: int
    operations: Operations


def c_model(model: StoredNet, name: str) -> CModel:
    """The C code of a quantized model.

    Raises UsageError: `c_name_invalid`, `c_model_unsupported` (float32 weights; a hashed projection
    without text options), `quantization_overflow`.
    """
    _check(model, name)
    spec = model.spec
    sums = largest_sums(model)
    head = head_source(model, name, sums)
    source = "\n".join(
        [
            f'/* Generated: a ProjectionNet, {model.layers[0].weight_bits}-bit weights. */\n#include "{name}.h"\n',
            projection_source(spec, name),
            head.source,
        ]
    )
    if spec.text is None:
        bits_bytes = dense_working_bytes(spec)
    else:
        bits_bytes = 4 * spec.projected_bits + 8 * history_length(spec.text)
    # the projection's arrays are gone when the head begins: the larger of the two counts
    working = spec.packed_bytes + max(bits_bytes, head.working_bytes)
    return CModel(
        header=_header(model, name),
        source=source,
        constant_bytes=head.constant_bytes,
        working_bytes=working + 8 * model.classes,
        operations=operations_of(model),
    )


def export_c(model: StoredNet, folder: str | Path, name: str) -> CModel:
    """Writes NAME.h and NAME.c into `folder`; raises also DataError (`model_file_unwritable`)."""
    made = c_model(model, name)
    replace_file(Path(folder) / f"{name}.h", made.header.encode("ascii"), what="C header")
    replace_file(Path(folder) / f"{name}.c", made.source.encode("ascii"), what="C source")
    return made


def _header(model: StoredNet, name: str) -> str:
    upper = name.upper()
    spec = model.spec
    is_text = spec.kind is ProjectionKind.HASHED
    takes = "a text in UTF-8" if is_text else f"{spec.in_features} integers of 0..{spec.input_max}"
    passed = "text, length" if is_text else "input"
    stddef = "#include <stddef.h>\n" if is_text else ""
    return f"""/* Generated: a ProjectionNet in integer arithmetic. Input: {takes}. */
#ifndef {upper}_H
#define {upper}_H

{stddef}#include <stdint.h>

#define {upper}_CLASSES {model.classes}
#define {upper}_BITS {spec.projected_bits}
#define {upper}_PACKED_BYTES {spec.packed_bytes}
{_limits(model, upper)}
/* The bits of an input, eight to a byte: bit k in packed[k / 8] at k % 8. */
void {name}_bits({bits_signature(spec)}, uint8_t packed[{upper}_PACKED_BYTES]);

/* The logits of these bits; returns the class: of equal logits the first. */
int {name}_classify_bits(const uint8_t packed[{upper}_PACKED_BYTES], int64_t logits[{upper}_CLASSES]);

/* Both in one: {name}_bits({passed}, packed), then {name}_classify_bits(packed, logits). */
int {name}_classify({bits_signature(spec)}, int64_t logits[{upper}_CLASSES]);

#endif
"""


def _limits(model: StoredNet, upper: str) -> str:
    if model.spec.kind is ProjectionKind.HASHED:
        return f"/* Longer texts are read up to here. */\n#define {upper}_LONGEST_TEXT {LONGEST_TEXT}\n"
    return f"#define {upper}_INPUTS {model.spec.in_features}\ntypedef {input_type(model.spec)} {upper.lower()}_input;\n"


LONGEST_TEXT = 100_000
"""Bytes: a text has at most 16 features a byte, so every sum stays below 16 x 255 x 10^5 < 2^31."""


def _check(model: StoredNet, name: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"Expected a name of small letters, digits and _ for the C code, got {name!r:.40}.",
            code="c_name_invalid",
            hint="For instance digits.",
        )
    unsupported = None
    if not model.is_quantized:
        unsupported = "a quantized model, got float32 weights"
    elif model.spec.kind is ProjectionKind.HASHED and model.spec.text is None:
        unsupported = "text options beside hashed features, got none"
    if unsupported:
        raise UsageError(
            f"Expected {unsupported}.",
            code="c_model_unsupported",
            hint="Quantize with `quantized(stored(net), 8)`; give the spec text=TextFeatures().",
        )
