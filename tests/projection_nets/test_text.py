"""Features of texts: the documented hashes, and which features there are."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from poet_core.errors import UsageError
from projection_nets.text import TextFeatures, tokens_of
from tests.projection_nets.test_hashing import GAMMA, MASK, python_mix

NONE = {"word_ngrams": 0, "skips": 0, "shortest_characters": 0, "longest_characters": 0}


def absorbed(start, parts):
    for part in parts:
        start = python_mix((start + (part + 1) * GAMMA) & MASK)
    return start


def word(token):
    return absorbed(1, token)


def hashes(text, **options):
    return sorted(TextFeatures(**{**NONE, **options}).hashes(text).tolist())


def test_tokens_are_runs_of_letters_digits_and_bytes_above_127():
    assert tokens_of("Wake me, at 7:30!") == [b"wake", b"me", b"at", b"7", b"30"]
    assert tokens_of("Don't  ÉTÉ_x") == [b"don", b"t", "ÉtÉ".encode(), b"x"]
    assert tokens_of(" ,.\0\n") == []


def test_words_and_their_ngrams():
    a, b, c = (word(token) for token in (b"a", b"b", b"c"))
    assert hashes("a b c a", word_ngrams=1) == sorted([a, b, c, a])
    pairs = [absorbed(3, pair) for pair in ((a, b), (b, c))]
    assert hashes("a b c", word_ngrams=2) == sorted([a, b, c, *pairs])
    assert hashes("a b c", word_ngrams=3) == sorted([a, b, c, *pairs, absorbed(3, (a, b, c))])


def test_skip_grams_are_pairs_with_tokens_between():
    a, b, c, d = (word(token) for token in (b"a", b"b", b"c", b"d"))
    over_one = [absorbed(4, (a, c)), absorbed(4, (b, d))]
    assert hashes("a b c d", skips=1) == sorted(over_one)
    assert hashes("a b c d", skips=2) == sorted([*over_one, absorbed(4, (a, d))])


def test_character_ngrams_know_the_ends_of_a_token():
    expected = [absorbed(2, part) for part in (b"<ab", b"abc", b"bc>", b"<abc", b"abc>")]
    options = {"shortest_characters": 3, "longest_characters": 4}
    assert hashes("ABC", **options) == sorted(expected)
    assert hashes("a", shortest_characters=4, longest_characters=6) == []


def test_classes_of_features_do_not_meet():
    everything = TextFeatures(word_ngrams=3, skips=2, shortest_characters=1, longest_characters=5)
    text = "please wake me up at seven tomorrow not eight"  # no feature occurs twice but < and >
    found = everything.hashes(text)
    single = {absorbed(2, part) for part in (b"<", b">")} | {
        absorbed(2, bytes([x])) for x in range(128)
    }
    rest = [h for h in found.tolist() if h not in single]
    repeated = {absorbed(2, b) for b in (b"<e", b"t>", b"e>")}
    rest = [h for h in rest if h not in repeated]
    assert len(set(rest)) > 0.9 * len(rest)
    assert found.dtype == np.uint64


@given(text=st.text())
def test_any_text_has_features_that_case_does_not_change(text):
    features = TextFeatures()
    assert np.array_equal(features.hashes(text), features.hashes(text))
    ascii_lower = "".join(c.lower() if c.isascii() else c for c in text)
    assert np.array_equal(features.hashes(text), features.hashes(ascii_lower))


@pytest.mark.parametrize(
    "wrong",
    [
        {"word_ngrams": -1},
        {"skips": 9},
        {"word_ngrams": 1.0},
        {"shortest_characters": 5, "longest_characters": 4},
        {"shortest_characters": 0, "longest_characters": 4},
        NONE,
    ],
)
def test_senseless_options_are_refused(wrong):
    with pytest.raises(UsageError) as caught:
        TextFeatures(**wrong)
    assert caught.value.code == "text_features_invalid"
