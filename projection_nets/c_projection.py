"""The C of a projection: the bits of an input, its vectors regenerated from the seed.

Dense: eight inner products at a time, zeros of the input skipped, in int32 (the spec's bound is
2^24).
Text: every feature adds to T * d sums of int32; no list of features, no vocabulary.
"""

from __future__ import annotations

import numpy as np

from projection_nets.hashing import GAMMA, MIX_FACTORS, mix
from projection_nets.spec import ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures

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
        return _MIX + _text_source(spec, spec.text, name)
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
#define SEED_KEY UINT64_C({_seed_key(spec):#x})

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


def history_length(options: TextFeatures) -> int:
    """Hashes of a text's latest words that the C code keeps; 0 where no feature has two."""
    if options.word_ngrams == 0 and options.skips == 0:
        return 0
    return max(options.word_ngrams, options.skips + 2)


def _text_source(spec: ProjectionSpec, options: TextFeatures, name: str) -> str:
    parts = [_TEXT_START]
    history, grams, characters = "", "", ""
    if history_length(options):
        history = "uint64_t history[HISTORY];\n    size_t number = 0;"
        grams = """history[number % HISTORY] = hash;
        add_grams(sums, history, number);
        number++;"""
        parts.append(_grams(options))
    if options.longest_characters:
        characters = "add_characters(sums, text + start, end - start);"
        parts.append(_characters(options))
    source = "".join([*parts, _TEXT_END])
    for place, text in {
        "@HISTORY_ARRAY@": history,
        "@GRAMS@": grams or "(void)hash;",
        "@CHARACTERS@": characters,
        "@SEED@": f"UINT64_C({_seed_key(spec):#x})",
        "@HISTORY@": str(history_length(options)),
        "@BITS@": str(spec.projected_bits),
        "@PACKED@": str(spec.packed_bytes),
        "@NAME@": name,
        "@UPPER@": name.upper(),
    }.items():
        source = source.replace(place, text)
    return source


def _grams(options: TextFeatures) -> str:
    word = "history[number % HISTORY]"
    lines = [f"add_feature(sums, {word});"] if options.word_ngrams else []
    for length in range(2, options.word_ngrams + 1):
        lines.append(f"if (number >= {length - 1}u)")
        lines.append(f"    add_feature(sums, ngram(history, number, {length}u));")
    for gap in range(2, options.skips + 2):
        before = f"absorb(4u, history[(number - {gap}u) % HISTORY])"
        lines.append(f"if (number >= {gap}u)")
        lines.append(f"    add_feature(sums, absorb({before}, {word}));")
    body = "\n    ".join(lines)
    return f"""
#define HISTORY @HISTORY@u
{_NGRAM if options.word_ngrams > 1 else ""}
static void add_grams(int32_t *sums, const uint64_t *history, size_t number)
{{
    {body}
}}
"""


def _characters(options: TextFeatures) -> str:
    return f"""
static uint64_t marked(const char *token, size_t length, size_t position)
{{
    if (position == 0)
        return '<';
    return position > length ? '>' : small(token[position - 1]);
}}

static void add_characters(int32_t *sums, const char *token, size_t length)
{{
    size_t size, start, offset;
    for (size = {options.shortest_characters}u; size <= {options.longest_characters}u; size++)
        for (start = 0; start + size <= length + 2u; start++) {{
            uint64_t hash = 2u;
            for (offset = 0; offset < size; offset++)
                hash = absorb(hash, marked(token, length, start + offset));
            add_feature(sums, hash);
        }}
}}
"""


_TEXT_START = """
#define SEED_KEY @SEED@

static uint64_t absorb(uint64_t hash, uint64_t part)
{
    return mix(hash + (part + 1u) * GAMMA);
}

static uint8_t small(char letter)
{
    const uint8_t byte = (uint8_t)letter;
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32u) : byte;
}

static int in_token(char letter)
{
    const uint8_t byte = small(letter);
    return (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'z') || byte >= 128u;
}

static void add_feature(int32_t *sums, uint64_t hash)
{
    const uint64_t base = mix(hash ^ SEED_KEY);
    uint32_t bit = 0, number;
    for (number = 1; bit < @BITS@u; number++) {
        uint64_t word = mix(base + number * GAMMA);
        uint32_t byte;
        for (byte = 0; byte < 8u && bit < @BITS@u; byte++, bit++, word >>= 8)
            sums[bit] += 2 * (int32_t)(word & 255u) - 255;
    }
}
"""

_NGRAM = """
static uint64_t ngram(const uint64_t *history, size_t number, size_t size)
{
    uint64_t hash = 3u;
    size_t word;
    for (word = number + 1u - size; word <= number; word++)
        hash = absorb(hash, history[word % HISTORY]);
    return hash;
}
"""

_TEXT_END = """
void @NAME@_bits(const char *text, size_t length, uint8_t packed[@PACKED@])
{
    int32_t sums[@BITS@];
    size_t start = 0, end;
    @HISTORY_ARRAY@
    uint32_t bit;
    for (bit = 0; bit < @BITS@u; bit++)
        sums[bit] = 0;
    if (length > @UPPER@_LONGEST_TEXT)
        length = @UPPER@_LONGEST_TEXT;
    while (start < length) {
        uint64_t hash = 1u;
        if (!in_token(text[start])) {
            start++;
            continue;
        }
        for (end = start; end < length && in_token(text[end]); end++)
            hash = absorb(hash, small(text[end]));
        @GRAMS@
        @CHARACTERS@
        start = end;
    }
    for (bit = 0; bit < @PACKED@u; bit++)
        packed[bit] = 0;
    for (bit = 0; bit < @BITS@u; bit++)
        if (sums[bit] > 0)
            packed[bit / 8u] = (uint8_t)(packed[bit / 8u] | (1u << (bit % 8u)));
}
"""


def _seed_key(spec: ProjectionSpec) -> int:
    return int(mix(np.array([spec.seed], dtype=np.uint64))[0])
