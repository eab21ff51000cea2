"""Reads a model file and classifies with numpy and the standard library alone.

Copy this one file to the device. It shares no code with the package that writes model files
(`model_file.py` says what is in them). Images are arrays of integers, texts strings; ValueErrors.

    model = load("digits.poet")
    classes = classify(model, images)
"""

import hashlib
import json
import re
from typing import Any

import numpy as np

GAMMA = np.uint64(0x9E3779B97F4A7C15)
FACTORS = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
MASK = 2**64 - 1
DTYPES = {"float32": "<f4", "int8": "i1", "int32": "<i4", "int64": "<i8"}


def mix(words: Any) -> Any:
    """SplitMix64's finaliser over an array of uint64."""
    words = (words ^ (words >> np.uint64(30))) * FACTORS[0]
    words = (words ^ (words >> np.uint64(27))) * FACTORS[1]
    return words ^ (words >> np.uint64(31))


def absorb(words: Any, number: Any) -> Any:
    """One step of SplitMix64 from each word, by numbers of 0 and more."""
    return mix(words + (np.asarray(number, dtype=np.uint64) + np.uint64(1)) * GAMMA)


def load(path: str) -> dict[str, Any]:
    """The model as a dict: the header's fields, with the arrays of each layer beside its sizes."""
    with open(path, "rb") as file:  # noqa: PTH123
        content = file.read()
    if content[:8] != b"POETNET\x02" or hashlib.sha256(content[:-32]).digest() != content[-32:]:
        raise ValueError("Expected an undamaged model file of version 2.")
    length = int.from_bytes(content[8:12], "little")
    model: dict[str, Any] = json.loads(content[12 : 12 + length])
    position = 12 + length
    if model["lookup"]:
        rows = model["projection"]["functions"] << model["projection"]["bits"]
        bitmap = np.frombuffer(content, np.uint8, (rows + 7) // 8, position)
        model["rows"] = np.unpackbits(bitmap, count=rows, bitorder="little").astype(bool)
        position += len(bitmap)
    for layer in model["layers"]:
        count, outputs = layer["inputs"] * layer["outputs"], layer["outputs"]
        kind = layer["weight"]
        if kind in DTYPES:
            values = np.frombuffer(content, DTYPES[kind], count, position)
            size = values.nbytes
        else:  # int4, shared2, shared4, shared8
            width, book = int(kind[-1]), (np.arange(16) ^ 8) - 8
            if kind != "int4":
                book = np.frombuffer(content, "<f4", 2**width, position)
                position += book.nbytes
            packed = np.frombuffer(content, np.uint8, (count * width + 7) // 8, position)
            codes = (packed[:, None] >> np.arange(0, 8, width)) & (2**width - 1)
            values, size = book[codes.reshape(-1)[:count]], len(packed)
        number = np.int64 if kind.startswith("int") else np.float32
        columns = outputs if model["lookup"] else layer["inputs"]
        layer["values"] = values.astype(number).reshape(-1, columns)
        biases = np.frombuffer(content, DTYPES[layer["bias"]], outputs, position + size)
        layer["biases"] = biases.astype(number)
        position += size + biases.nbytes
    return model


def matrix_of(projection: dict[str, Any]) -> Any:
    """The projection vectors of a dense input, regenerated: (T * d, in_features)."""
    columns = np.arange(projection["in_features"])
    rows = np.arange(projection["functions"] * projection["bits"])[:, None]
    keys = absorb(mix(np.array([projection["seed"]], dtype=np.uint64)), rows)
    if projection["kind"] == "gaussian":
        return np.bitwise_count(absorb(keys, columns)).astype(np.int64) - 32
    words = absorb(keys, np.arange(-(-len(columns) // 32)))[:, columns // 32]
    pairs = (words >> (2 * (columns % 32)).astype(np.uint64)) & np.uint64(3)
    return (pairs >> np.uint64(1)).astype(np.int64) - (pairs & np.uint64(1)).astype(np.int64)


def hash_of(start: int, parts: Any) -> int:
    """One feature's hash: `start` is its class, `parts` are bytes or the hashes of its words."""
    for part in parts:
        start = (start + (part + 1) * int(GAMMA)) & MASK
        start = ((start ^ (start >> 30)) * int(FACTORS[0])) & MASK
        start = ((start ^ (start >> 27)) * int(FACTORS[1])) & MASK
        start ^= start >> 31
    return start


def features_of(text: str, options: dict[str, int]) -> Any:
    """The hashes of a text's features (`text.py` says what they are)."""
    tokens = re.findall(rb"[0-9a-z\x80-\xff]+", text.encode("utf-8", "surrogatepass").lower())
    words = [hash_of(1, token) for token in tokens]
    found = list(words) if options["word_ngrams"] else []
    for n in range(2, options["word_ngrams"] + 1):
        found += [hash_of(3, words[i : i + n]) for i in range(len(words) - n + 1)]
    for gap in range(2, options["skips"] + 2):
        found += [hash_of(4, pair) for pair in zip(words, words[gap:], strict=False)]
    if options["longest_characters"]:
        for marked in (b"<" + token + b">" for token in tokens):
            for n in range(options["shortest_characters"], options["longest_characters"] + 1):
                found += [hash_of(2, marked[i : i + n]) for i in range(len(marked) - n + 1)]
    return np.array(found, dtype=np.uint64)


def sums_of_text(text: str, projection: dict[str, Any], key: Any) -> Any:
    """The T * d sums of a text's features."""
    count = projection["functions"] * projection["bits"]
    base = mix(features_of(text, projection["text"]) ^ key)[:, None]
    words = absorb(base, np.arange(-(-count // 8))).astype("<u8")
    entries = words.view(np.uint8).reshape(len(base), words.shape[1] * 8)[:, :count]
    return (2 * entries.astype(np.int64) - 255).sum(axis=0)


def bits_of(model: dict[str, Any], inputs: Any) -> Any:
    """Booleans (n, T * d): the bits of images or texts."""
    projection = model["projection"]
    if projection["kind"] == "hashed":
        key = mix(np.array([projection["seed"]], dtype=np.uint64))
        return np.array([sums_of_text(text, projection, key) > 0 for text in inputs])
    rows = np.asarray(inputs).astype(np.float64).reshape(len(inputs), -1)
    return rows @ matrix_of(projection).T.astype(np.float64) > 0  # exact: integers below 2^53


def logits_of(model: dict[str, Any], inputs: Any) -> Any:
    """(n, classes): float32, or integers of a quantized model."""
    bits, projection, layers = bits_of(model, inputs), model["projection"], model["layers"]
    if model["lookup"]:
        blocks = bits.reshape(len(bits), projection["functions"], projection["bits"])
        indices = (blocks << np.arange(projection["bits"])).sum(axis=2)
        indices += np.arange(projection["functions"]) << projection["bits"]
        table = np.zeros((len(model["rows"]), model["classes"]), layers[0]["values"].dtype)
        table[model["rows"]] = layers[0]["values"]
        return table[indices].sum(axis=1) + layers[0]["biases"]
    values = bits.astype(layers[0]["values"].dtype)
    if projection["values"] == "plus_minus_one":
        values = 2 * values - 1
    for layer in layers[:-1]:
        values = np.maximum(values @ layer["values"].T + layer["biases"], 0)
    return values @ layers[-1]["values"].T + layers[-1]["biases"]


def classify(model: dict[str, Any], inputs: Any) -> Any:
    """The class of each input; of equal logits the first."""
    return logits_of(model, inputs).argmax(axis=1)
