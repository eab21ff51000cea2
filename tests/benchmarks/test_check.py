"""benchmarks/check.py: its configuration is one, its models exist, and its text says what was met."""

import importlib
import inspect

from benchmarks import check
from poet_cli.check.settings import load_settings
from poet_core.devices import device_names


def test_the_configuration_is_ten_models_on_five_devices(tmp_path):
    (tmp_path / "poet-check.toml").write_text(check.configuration(list(check.MODELS)))
    settings = load_settings(tmp_path / "poet-check.toml")
    assert len(settings.entries) == 50
    assert {entry.device for entry in settings.entries} == set(check.DEVICES) <= set(device_names())


def test_every_model_is_a_function_of_the_examples():
    for step, _ in check.MODELS.values():
        module, _, function = step.partition(":")
        found = getattr(importlib.import_module(module), function)
        assert "batch_size" in inspect.signature(found).parameters


def test_the_text_says_whether_targets_are_met():
    measured = [
        check.Timed(name="a", seconds=(1.0, 2.0, 9.0), target_seconds=3.0),
        check.Timed(name="b", seconds=(4.0,), target_seconds=3.0),
        check.Timed(name="c", seconds=(4.0,)),
    ]
    rows = [{"verdict": "fits"}, {"verdict": "fits"}, {"verdict": "undecided"}]
    text = check.table(measured, {"rows": rows, "planning_seconds": 1.0})
    assert "| a | 2.00 | 3 | 3 | met |" in text
    assert "| b | 4.00 | 1 | 3 | missed |" in text
    assert "| c | 4.00 | 1 |  |  |" in text
    assert "3 rows: 2 fits, 1 undecided." in text
