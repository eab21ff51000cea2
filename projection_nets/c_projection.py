"""The C of a projection: the bits of an input, its vectors regenerated from the seed.

Dense: eight inner products at a time, zeros of the input skipped, in int32 (the spec's bound is
2^24). Texts are in c_text.
"""

from __future__ import annotations

import numpy as np

from projection_nets.c_text import text_source
from projection_nets.hashing import GAMMA, MIX_FACTORS, mix
from projection_nets.spec import ProjectionKind, ProjectionSpec

_LARGEST_BYTE = 255
_LARGEST_SHORT = 65535


def input_type(spec: ProjectionSpec) -> str:
    """The C type of one input number."""
    if spec.input_max <= _LARGEST_BYTE:
        return "uint8_t"
    return "uint16_t" if spec.input_max <= _LARGEST_SHORT else "uint32_t"


def bits_signature(spec: ProjectionSpec) -> str:
    """The C parameters of an input."""
    if spec.kind is ProjectionKind.HASHED:
        return "const char *text, size_t length"
    return f"const {input_type(spec)} input[{spec.in_features}]"


def projection_source(spec: ProjectionSpec, name: str) -> str:
    """Everything up to and including NAME_bits."""
    if spec.kind is ProjectionKind.HASHED:
        assert spec.text is not None  # checked by c_model
        return _MIX + text_source(spec, spec.text, name, seed_key(spec))
    return _MIX + _dense_source(spec, name)


_MIX = f"""#define GAMMA UINT64_C({GAMMA:#x})

/* SplitMix64's finaliser. */
static uint64_t mix(uint64_t word)
{{
    word = (word ^ (word >> 30)) * UINT64_C({MIX_FACTORS[0]:#x});
    word = (word ^ (word >> 27)) * UINT64_C({MIX_FACTORS[1]:#x});
    return word ^ (word >> 31);
}}
"""


def _dense_source(spec: ProjectionSpec, name: str) -> str:
    body = _GAUSSIAN if spec.kind is ProjectionKind.GAUSSIAN else _TERNARY
    popcount = _POPCOUNT if spec.kind is ProjectionKind.GAUSSIAN else ""
    return f"""{popcount}
#define SEED_KEY UINT64_C({seed_key(spec):#x})

/* Eight inner products at a time, which are one byte of bits. */
void {name}_bits({bits_signature(spec)}, uint8_t packed[{spec.packed_bytes}])
{{
    uint64_t keys[8];
    int32_t sums[8];
    uint32_t byte, row, column;
    for (byte = 0; byte < {spec.packed_bytes}u; byte++) {{
        uint32_t bits = 0;
        for (row = 0; row < 8u; row++) {{
            keys[row] = mix(SEED_KEY + ((uint64_t)byte * 8u + row + 1u) * GAMMA);
            sums[row] = 0;
        }}
{body.replace("INPUTS", str(spec.in_features))}
        for (row = 0; row < 8u && byte * 8u + row < {spec.projected_bits}u; row++)
            if (sums[row] > 0)
                bits |= 1u << row;
        packed[byte] = (uint8_t)bits;
    }}
}}
"""


def dense_working_bytes(spec: ProjectionSpec) -> int:
    """Bytes of the arrays that NAME_bits of a dense input has: keys and sums, and ternary words."""
    return 8 * (8 + 4) + (8 * 8 if spec.kind is ProjectionKind.TERNARY else 0)


_POPCOUNT = """
static int32_t popcount(uint64_t word)
{
    word -= (word >> 1) & UINT64_C(0x5555555555555555);
    word = (word & UINT64_C(0x3333333333333333)) + ((word >> 2) & UINT64_C(0x3333333333333333));
    word = (word + (word >> 4)) & UINT64_C(0x0f0f0f0f0f0f0f0f);
    return (int32_t)((word * UINT64_C(0x0101010101010101)) >> 56);
}
"""

_GAUSSIAN = """        for (column = 0; column < INPUTSu; column++) {
            const int32_t value = (int32_t)input[column];
            const uint64_t step = ((uint64_t)column + 1u) * GAMMA;
            if (value == 0)
                continue;
            for (row = 0; row < 8u; row++)
                sums[row] += value * (popcount(mix(keys[row] + step)) - 32);
        }"""

# Two bits an entry: 10 is +1, 01 is -1.
_TERNARY = """        for (column = 0; column < INPUTSu;) {
            const uint64_t step = ((uint64_t)(column / 32u) + 1u) * GAMMA;
            uint64_t words[8];
            uint32_t shift;
            for (row = 0; row < 8u; row++)
                words[row] = mix(keys[row] + step);
            for (shift = 0; shift < 64u && column < INPUTSu; shift += 2u, column++) {
                const int32_t value = (int32_t)input[column];
                if (value == 0)
                    continue;
                for (row = 0; row < 8u; row++) {
                    const uint32_t pair = (uint32_t)(words[row] >> shift) & 3u;
                    sums[row] += value * ((int32_t)(pair >> 1) - (int32_t)(pair & 1u));
                }
            }
        }"""


def seed_key(spec: ProjectionSpec) -> int:
    """What the seed becomes once, before it runs."""
    return int(mix(np.array([spec.seed], dtype=np.uint64))[0])
