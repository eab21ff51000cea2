"""The C that cuts a text into features and adds each to T * d sums: no list of features, no vocabulary.

Invariant: the features are `text.TextFeatures.hashes`' and their entries `hashed.hashed_entries`',
and what no option asks for is not in the source, so that a compiler has nothing to warn of.
"""

from __future__ import annotations

from projection_nets.spec import ProjectionSpec
from projection_nets.text import TextFeatures


def history_length(options: TextFeatures) -> int:
    """Hashes of a text's latest words that the C code keeps; 0 where no feature has two."""
    if options.word_ngrams == 0 and options.skips == 0:
        return 0
    return max(options.word_ngrams, options.skips + 2)


def text_source(spec: ProjectionSpec, options: TextFeatures, name: str, key: int) -> str:
    """Everything between `mix` and NAME_classify_bits, NAME_bits included; `key`: the mixed seed."""
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
        "@SEED@": f"UINT64_C({key:#x})",
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
