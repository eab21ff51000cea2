"""The command that trains and exports, on the bundled digits and on texts."""

import re

import pytest

from examples import projection_train
from projection_nets import reader


def run(capsys, *arguments):
    code = projection_train.main([*arguments, "--threads", "1", "--quiet"])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_digits_are_trained_and_exported(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(projection_train, "_HIDDEN", (64,))
    code, out, _ = run(
        capsys,
        "--steps",
        "40",
        "--export",
        "digits.poet",
        "--weight-bits",
        "8",
        "--c-code",
        "digits",
    )
    assert code == 0
    scores = {name: float(share) for name, share in re.findall(r"(\w+) +P@1 (\S+)%", out)}
    assert min(scores["trainer"], scores["projection"]) > 60  # far above the 10 of guessing
    assert reader.load("digits.poet")["classes"] == 10
    assert (tmp_path / "digits.poet").stat().st_size <= 8192
    assert "digits_classify" in (tmp_path / "digits.h").read_text()
    assert "7240 bytes of constants" in out


def test_texts_are_trained_and_exported(capsys, tmp_path, monkeypatch, poet_data):
    if not (poet_data / "snips").is_dir():
        pytest.skip("no snips/ in the folder of data sets")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("POET_DATA", str(poet_data))
    code, out, _ = run(
        capsys,
        "--data",
        "snips",
        "--steps",
        "5",
        "--T",
        "20",
        "--d",
        "8",
        "--export",
        "intents.poet",
    )
    assert code == 0
    assert "projection" in out
    model = reader.load("intents.poet")
    assert reader.classify(model, ["play some jazz", "book a table for two"]).shape == (2,)


def test_missing_data_is_said_in_a_sentence(capsys, monkeypatch, tmp_path):
    monkeypatch.delenv("POET_DATA", raising=False)
    assert run(capsys, "--data", "mnist")[0] == 1
    monkeypatch.setenv("POET_DATA", str(tmp_path))
    code, _, err = run(capsys, "--data", "mnist")
    assert code == 1
    assert "[data_file_missing]" in err
