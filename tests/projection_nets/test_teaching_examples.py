"""The two commands of mentors and graphs, on the bundled digits; what they print and refuse."""

import re

import pytest

from examples import mentor_mentee, projection_graph

TINY = ("--mentor-steps", "2", "--steps", "3", "--width", "2", "--images", "100", "--batch", "50")


@pytest.fixture
def run(capsys, monkeypatch):
    monkeypatch.delenv("POET_DATA", raising=False)

    def call(example, *arguments):
        code = example.main([*arguments, "--threads", "1", "--quiet"])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_a_mentee_learns_beside_its_mentor_and_goes_on_alone(run):
    code, out, _ = run(mentor_mentee, *TINY, "--new-steps", "2")
    assert code == 0
    assert re.findall(r"^(.+?)  +\d+ parameters  P@1 [\d.]+%", out, re.M) == [
        "mentor", "mentee, labels alone", "mentee, with its mentor", "mentee, gone on alone",
    ]  # fmt: skip


def test_a_mentee_learns_from_a_file(run, tmp_path):
    path = tmp_path / "mentor.rec"
    code, out, _ = run(
        mentor_mentee, *TINY, "--record", str(path), "--values", "float16", "--adapter", "fixed"
    )
    assert code == 0
    assert f"{path.stat().st_size} bytes for 100 images" in out


def test_few_labels_and_the_graph(run):
    code, out, _ = run(projection_graph, "--steps", "100", "--batch", "50")
    assert code == 0
    scores = [float(share) for share in re.findall(r"P@1 ([\d.]+)%", out)]
    alone, _near, flowed = scores
    assert alone > 50  # far above the 10 of guessing
    assert flowed > alone + 2
    assert "0 buckets cut" in out


def test_a_trainer_can_learn_beside(run):
    code, out, _ = run(
        projection_graph, "--steps", "3", "--images", "300", "--labels-per-class", "2", "--trainer"
    )
    assert code == 0
    assert out.count("trainer ") == out.count("projection ") - 1 == 3  # and the nodes' line


@pytest.mark.parametrize(
    ("example", "arguments", "code"),
    [
        (mentor_mentee, ("--data", "mnist"), "data_file_missing"),
        (projection_graph, ("--data", "snips"), "data_file_missing"),
        (mentor_mentee, ("--images", "0"), "examples_missing"),
        (mentor_mentee, (*TINY, "--images", "1400", "--new-steps", "1"), "examples_missing"),
        (mentor_mentee, (*TINY, "--layer", "block9"), "layer_unknown"),
        (mentor_mentee, (*TINY, "--layer", "classifier"), "map_invalid"),
        (projection_graph, ("--images", "0"), "examples_missing"),
        (projection_graph, ("--labels-per-class", "500"), "examples_missing"),
        (projection_graph, ("--radius", "12"), "graph_options_invalid"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(run, example, arguments, code):
    result, _, err = run(example, *arguments)
    assert result == 1
    assert f"[{code}]" in err
