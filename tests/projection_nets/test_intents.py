"""Intent data: the published sets whole, and what a wrong file is told."""

import json
import shutil

import numpy as np
import pytest

from poet_core.errors import DataError
from projection_nets.data import Vocabulary, as_examples, banking77, clinc150, snips
from projection_nets.data.texts import LabelledTexts
from projection_nets.packing import packed_bits
from projection_nets.spec import ProjectionKind, ProjectionSpec
from projection_nets.text import TextFeatures

SETS = {"clinc150": clinc150, "banking77": banking77, "snips": snips}


def folder_of(poet_data, name):
    if not (poet_data / name).is_dir():
        pytest.skip(f"no {name}/ in the folder of data sets")
    return poet_data / name


@pytest.fixture
def copy(poet_data, tmp_path):
    def make(name):
        shutil.copytree(folder_of(poet_data, name), tmp_path / name)
        return tmp_path / name

    return make


def refusal(load, root):
    with pytest.raises(DataError) as caught:
        load(root)
    assert caught.value.hint
    assert str(root) in caught.value.message
    return caught.value.code


@pytest.mark.parametrize(
    ("name", "sizes", "classes"),
    [
        ("clinc150", (15_000, 3_000, 4_500), 150),
        ("banking77", (9_003, 1_000, 3_080), 77),
        ("snips", (13_084, 700, 700), 7),
    ],
)
def test_the_published_sets_are_whole(poet_data, name, sizes, classes):
    folder_of(poet_data, name)
    splits = SETS[name](poet_data)
    parts = (splits.train, splits.validation, splits.test)
    assert tuple(map(len, parts)) == sizes
    assert splits.classes == len(set(splits.class_names)) == classes
    for part in parts:
        assert set(part.labels) == set(range(classes))


def test_texts_have_their_own_intents(poet_data):
    for name in SETS:
        folder_of(poet_data, name)
    splits = clinc150(poet_data)
    text = "what expression would i use to say i love you if i were an italian"
    assert splits.class_names[splits.train.labels[splits.train.texts.index(text)]] == "translate"
    splits = banking77(poet_data)
    at = splits.test.texts.index("How do I locate my card?")
    assert splits.class_names[splits.test.labels[at]] == "card_arrival"
    test = snips(poet_data).test
    assert test.labels == tuple(np.repeat(np.arange(7), 100))


def test_out_of_scope_texts_are_one_class_more(poet_data):
    folder_of(poet_data, "clinc150")
    splits = clinc150(poet_data, out_of_scope=True)
    assert splits.class_names[150] == "oos"
    counts = [part.labels.count(150) for part in (splits.train, splits.validation, splits.test)]
    assert counts == [100, 100, 1000]


def test_held_out_texts_are_apart_and_chosen_by_the_seed(poet_data):
    folder_of(poet_data, "banking77")
    first, again, other = (banking77(poet_data, seed=seed) for seed in (0, 0, 1))
    assert first.validation == again.validation != other.validation
    everything = [*first.train.texts, *first.validation.texts]
    assert sorted(everything) == sorted([*other.train.texts, *other.validation.texts])


def test_the_file_of_snips_in_two_encodings_is_read_as_both(poet_data):
    folder_of(poet_data, "snips")
    splits = snips(poet_data)
    texts = [*splits.train.texts, *splits.validation.texts]
    beyond_ascii = {letter for text in texts for letter in text if letter > "\x7f"}
    assert any("Música Da Série De Filmes" in text for text in texts)  # of its UTF-8
    assert "í" in beyond_ascii  # its byte 0xed is latin-1
    assert not beyond_ascii & set("Ã\ufffd")
    assert not any("\ud800" <= letter <= "\udfff" for letter in beyond_ascii)


def test_missing_files_are_named(tmp_path):
    for load in SETS.values():
        assert refusal(load, tmp_path) == "data_file_missing"


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("clinc150", "data_full.json"),
        ("clinc150", "domains.json"),
        ("banking77", "categories.json"),
        ("snips", "train_GetWeather_full.json"),
    ],
)
def test_truncated_json_is_refused(copy, name, file):
    path = copy(name) / file
    path.write_bytes(path.read_bytes()[:-1])
    assert refusal(SETS[name], path.parent.parent) == "data_json"


def test_a_truncated_csv_is_refused(copy):
    path = copy("banking77") / "test.csv"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:-1]))
    assert refusal(banking77, path.parent.parent) == "data_counts_differ"
    path.write_bytes(b"".join(lines)[:-1000] + b'"open')
    assert refusal(banking77, path.parent.parent) in {"data_shape", "data_label_invalid"}
    path.write_bytes(b"".join([*lines[:-1], b"text,no_such_category\r\n"]))
    assert refusal(banking77, path.parent.parent) == "data_label_invalid"
    path.write_bytes(b"")
    assert refusal(banking77, path.parent.parent) == "data_shape"


def test_swapped_files_of_snips_are_noticed(copy):
    folder = copy("snips")
    shutil.copy(folder / "train_RateBook_full.json", folder / "train_GetWeather_full.json")
    assert refusal(snips, folder.parent) == "data_label_invalid"


def test_another_encoding_is_refused(copy):
    folder = copy("snips")
    path = folder / "train_GetWeather_full.json"
    path.write_bytes(path.read_bytes().replace(b"weather", b"w\xe9ather", 1))
    assert refusal(snips, folder.parent) == "data_encoding"


@pytest.mark.parametrize(
    "document",
    [[], {"train": 1}, {"train": [["text"]]}, {"train": [["text", 1]]}, {"train": [["a", "zzz"]]}],
)
def test_json_of_another_shape_is_refused(copy, document):
    path = copy("clinc150") / "data_full.json"
    path.write_text(json.dumps(document))
    code = refusal(clinc150, path.parent.parent)
    assert code == ("data_label_invalid" if "zzz" in str(document) else "data_shape")


def test_a_smaller_version_of_the_set_is_refused(copy):
    folder = copy("clinc150")
    shutil.copy(folder / "data_small.json", folder / "data_full.json")
    assert refusal(clinc150, folder.parent) == "data_counts_differ"


def test_the_vocabulary_numbers_tokens_by_frequency():
    vocabulary = Vocabulary.of(["b a b", "c a b", "b C"])
    assert vocabulary.numbers == {b"b": 2, b"a": 3, b"c": 4}
    assert len(vocabulary) == 5
    assert vocabulary.encoded(["a b!", "c d", "a a a a"], length=3).tolist() == [
        [3, 2, 0],
        [4, 1, 0],
        [3, 3, 3],
    ]
    assert len(Vocabulary.of(["b a b"], least_count=2)) == 3


def test_examples_hold_tokens_and_packed_bits_side_by_side():
    texts = LabelledTexts(texts=("wake me", "stop"), labels=(1, 0))
    spec = ProjectionSpec(kind=ProjectionKind.HASHED, functions=3, bits=4, text=TextFeatures())
    vocabulary = Vocabulary.of(texts.texts)
    examples = as_examples(texts, spec, vocabulary=vocabulary, length=5)
    tokens, packed, labels = examples.batch(np.array([1, 0]))
    assert tokens.tolist() == vocabulary.encoded(["stop", "wake me"], length=5).tolist()
    assert packed.tolist() == packed_bits(spec, ["stop", "wake me"]).tolist()
    assert labels.tolist() == [0, 1]
