"""A text as hashed features: character and word n-grams and skip-grams, one 64-bit hash each.

    "Wake me at 7"  -> bytes of UTF-8, A-Z made small -> tokens wake, me, at, 7
      words         wake  me  at  7
      word n-grams  (wake, me)  (me, at)  (at, 7)                          word_ngrams=2
      skip-grams    (wake, at)  (me, 7)                                    skips=1
      characters    <wa  wak  ake  ke>  <me  me>  <at  at>  <7>            character_ngrams=(3, 3)

A token is a run of ASCII letters, digits and bytes above 127. There is no vocabulary, no locale and
no Unicode table: a few lines of C do the same. A feature that occurs twice is there twice.

Invariant: a feature's hash depends on its bytes and its class (word, n-gram, skip-gram, characters)
alone. absorb(h, x) = mix(h + (x + 1) * gamma), SplitMix64's step, is applied once a byte, or once a
token of an n-gram, from a start value a class.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from poet_core.errors import UsageError
from projection_nets.hashing import GAMMA, MIX_FACTORS

_MASK = 2**64 - 1
_FACTOR_1, _FACTOR_2 = MIX_FACTORS

_WORD, _CHARACTERS, _NGRAM, _SKIPGRAM = 1, 2, 3, 4

LONGEST_NGRAM = 8
"""Bounds of the options: what a device holds on its stack."""

_TOKEN = re.compile(rb"[0-9a-z\x80-\xff]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class TextFeatures:
    """Which features a text has. A bound of 0 switches the class off.

    `word_ngrams`: runs of 1 to so many tokens; `skips`: pairs of tokens with 1 to so many between
    them; n-grams of `shortest_characters` to `longest_characters` bytes of each token, its ends
    marked. Raises UsageError (`text_features_invalid`).
    """

    word_ngrams: int = 1
    skips: int = 0
    shortest_characters: int = 3
    longest_characters: int = 5

    def __post_init__(self) -> None:
        sizes: dict[str, object] = {
            "word_ngrams": self.word_ngrams,
            "skips": self.skips,
            "shortest_characters": self.shortest_characters,
            "longest_characters": self.longest_characters,
        }
        for name, size in sizes.items():
            if (
                isinstance(size, bool)
                or not isinstance(size, int)
                or not 0 <= size <= LONGEST_NGRAM
            ):
                raise _invalid(f"{name} in 0..{LONGEST_NGRAM}", size)
        if self.longest_characters and not 0 < self.shortest_characters <= self.longest_characters:
            raise _invalid("1 <= shortest_characters <= longest_characters", sizes)
        if not (self.word_ngrams or self.skips or self.longest_characters):
            raise _invalid("at least one class of features", sizes)

    def hashes(self, text: str) -> npt.NDArray[np.uint64]:
        """The hash of every feature of `text`, repeated as often as it occurs."""
        tokens = tokens_of(text)
        words = [_word_hash(token) for token in tokens]
        found = list(words) if self.word_ngrams else []
        for length in range(2, self.word_ngrams + 1):
            for start in range(len(words) - length + 1):
                found.append(_absorbed(_NGRAM, words[start : start + length]))
        for gap in range(2, self.skips + 2):
            for first, second in zip(words, words[gap:], strict=False):
                found.append(_absorbed(_SKIPGRAM, (first, second)))
        if self.longest_characters:
            for token in tokens:
                found += _characters(token, self.shortest_characters, self.longest_characters)
        return np.array(found, dtype=np.uint64)


def tokens_of(text: str) -> list[bytes]:
    """The tokens of a text, in order."""
    return _TOKEN.findall(text.encode("utf-8", "surrogatepass").lower())


def _absorbed(start: int, parts: bytes | list[int] | tuple[int, ...]) -> int:
    value = start
    for part in parts:
        value = (value + (part + 1) * GAMMA) & _MASK
        value = ((value ^ (value >> 30)) * _FACTOR_1) & _MASK
        value = ((value ^ (value >> 27)) * _FACTOR_2) & _MASK
        value ^= value >> 31
    return value


# Words repeat: a set of texts has thousands of different ones and hundreds of thousands in all.
@lru_cache(maxsize=2**16)
def _word_hash(token: bytes) -> int:
    return _absorbed(_WORD, token)


@lru_cache(maxsize=2**16)
def _characters(token: bytes, shortest: int, longest: int) -> tuple[int, ...]:
    marked = b"<" + token + b">"
    return tuple(
        _absorbed(_CHARACTERS, marked[start : start + length])
        for length in range(shortest, longest + 1)
        for start in range(len(marked) - length + 1)
    )


def _invalid(expected: str, got: object) -> UsageError:
    return UsageError(
        f"Expected {expected}, got {got!r:.120}.",
        code="text_features_invalid",
        hint="TextFeatures() has settings that suit short sentences.",
    )
