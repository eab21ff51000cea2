"""The mark and the fixture in a suite of their own, run by a pytest inside this one."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from poet_cli.check import deciding
from poet_cli.check.report import Verdict
from poet_runtime.tracing.trace import trace

pytest_plugins = ["pytester"]

HEAD = """
import pytest
import torch

def step():
    model = torch.nn.Sequential(torch.nn.Linear(16, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.zeros(8, 16), torch.zeros(8, 4))
    return model, torch.nn.functional.mse_loss, optimizer, batch
"""
PLUGIN = "poet_cli.check.pytest_plugin"
FLAGS = [
    "-p", PLUGIN, "--strict-markers", "-p", "no:cacheprovider", "-W", "error",
    # Where poet is installed, the outer run has imported the plugin before this one could rewrite it.
    "-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning",
]  # fmt: skip


@pytest.fixture(autouse=True)
def nothing_but_the_plugin(monkeypatch):
    """Named above, whether poet is installed (then by its entry point too) or not."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


@pytest.fixture(scope="module", autouse=True)
def imported_here():
    """The inner runs forget what they imported, and neither torch nor a solver can come twice."""
    import highspy  # noqa: F401
    import pulp  # noqa: F401

    import poet_cli.check.advice  # noqa: F401
    import poet_solvers.portfolio  # noqa: F401

    assert trace is not None
    threads = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == threads


@pytest.fixture
def suite(pytester):
    """Runs a file of tests with warnings as errors; returns the result and its text."""

    def run(text, *arguments):
        pytester.makepyfile(test_it=HEAD + text)
        result = pytester.runpytest_inprocess(*FLAGS, *arguments)
        return result, result.stdout.str()

    return run


def test_a_step_that_fits(suite):
    result, _ = suite("""
@pytest.mark.fits_device("jetson-tx2", ram="512MiB", max_energy="1.05x", max_time="1.2x")
def test_trains():
    return step()
""")
    result.assert_outcomes(passed=1)


def test_a_step_that_cannot_fit(suite):
    result, said = suite("""
@pytest.mark.fits_device("mkr1000", ram="2KiB")
def test_trains():
    return step()
""")
    result.assert_outcomes(failed=1)
    assert "Every plan needs at least" in said
    assert "the budget of 2.00 KiB" in said
    assert "[ram_below_floor]" in said
    assert "In RAM there: 0.weight" in said
    assert re.search(r'Fix: ram="\d+(KiB|B)" in @pytest.mark.fits_device', said)
    assert "FAILED test_it.py::test_trains - Failed: does not fit on mkr1000" in said
    assert "pytest_judging.py" not in said
    assert "torch.__trace" not in said


def test_every_mark_is_a_device(suite):
    result, said = suite("""
@pytest.mark.fits_device("jetson-tx2")
@pytest.mark.fits_device("mkr1000", ram="2KiB")
@pytest.mark.fits_device("raspberry-pi-4b")
def test_trains():
    return step()
""")
    result.assert_outcomes(failed=1)
    assert "does not fit on mkr1000" in said


def test_marks_of_a_class_and_parameters(suite):
    result, said = suite("""
@pytest.mark.fits_device("jetson-tx2")
class TestBoard:
    @pytest.mark.parametrize("ram", ["a", "b"])
    def test_trains(self, ram):
        return step()

    @pytest.mark.fits_device("mkr1000", ram="2KiB")
    def test_trains_on_less(self):
        return step()
""")
    result.assert_outcomes(passed=2, failed=1)
    assert "does not fit on mkr1000" in said


def test_the_fixture_gives_the_row(suite):
    result, _ = suite("""
@pytest.mark.fits_device("jetson-tx2", ram="512MiB")
def test_marked(fits_device):
    row = fits_device(step())
    assert row.verdict == "fits"
    assert 0 < row.floor_bytes <= row.peak_bytes <= 512 * 2**20
    assert row.joules == row.base_joules

def test_told(fits_device):
    assert fits_device(step(), "mkr1000", ram="20KiB").headroom_bytes >= 0
    with pytest.raises(pytest.fail.Exception, match="Every plan needs at least"):
        fits_device(step(), "mkr1000", ram="2KiB")
""")
    result.assert_outcomes(passed=2)


def test_a_test_that_returns_nothing_is_not_judged_by_silence(suite):
    result, said = suite("""
@pytest.mark.fits_device("jetson-tx2")
def test_trains():
    step()

@pytest.mark.fits_device("jetson-tx2")
def test_asks_for_it_only(fits_device):
    step()
""")
    result.assert_outcomes(failed=2)
    assert "Expected test_trains to return a tuple (model, loss_fn, optimizer, batch)" in said


def test_what_breaks_in_the_test_is_the_tests(suite):
    result, said = suite("""
@pytest.mark.fits_device("jetson-tx2")
def test_trains():
    assert 1 == 2, "of the test itself"
""")
    result.assert_outcomes(failed=1)
    assert "of the test itself" in said


@pytest.mark.parametrize(
    ("mark", "said"),
    [
        ('"jetson-tx"', "jetson-tx2"),
        ('"mkr1000", ram=512', '"512MiB" or "512B"'),
        ('"mkr1000", ram="512"', '"512MiB" or "512B"'),
        ('"mkr1000", ram="1GiB"', "within the RAM of mkr1000"),
        ('"mkr1000", rum="1KiB"', "Did you mean ram?"),
        ('"mkr1000", max_time="1.2"', "a ratio such as"),
        ('"mkr1000", undecided="never"', '"error", "warn" or "skip"'),
        ('"mkr1000", "jetson-tx2"', "a mark for each"),
        ('ram="1KiB"', "device: expected a text"),
        ('"host"', "a budget within the RAM of host"),
    ],
)
def test_a_mark_that_makes_no_sense(suite, mark, said):
    result, out = suite(f"""
@pytest.mark.fits_device({mark})
def test_trains():
    return step()
""")
    result.assert_outcomes(failed=1)
    assert said in out
    assert "Traceback" not in out


def test_the_fixture_without_a_device(suite):
    result, said = suite("""
def test_trains(fits_device):
    fits_device(step())
""")
    result.assert_outcomes(failed=1)
    assert 'fits_device(step, "jetson-tx2", ram="512MiB")' in said


def test_a_model_that_cannot_be_traced(suite):
    result, said = suite("""
class Moody(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(16, 4)
    def forward(self, x):
        return self.layer(x) if x.sum() > 0 else -self.layer(x)

@pytest.mark.fits_device("jetson-tx2")
def test_trains():
    _, loss, _, batch = step()
    model = Moody()
    return model, loss, torch.optim.SGD(model.parameters(), lr=0.1), batch
""")
    result.assert_outcomes(failed=1)
    assert "torch.where" in said
    assert "data_dependent" in said


def test_the_mark_where_nothing_would_judge_it(suite):
    result, said = suite("""
import unittest

class OldTest(unittest.TestCase):
    @pytest.mark.fits_device("jetson-tx2")
    def test_old(self):
        pass

@pytest.mark.fits_device("jetson-tx2")
async def test_later():
    return step()
""")
    assert "this is a method of a unittest.TestCase" in said
    assert "this is a coroutine" in said
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert "passed" not in said


@pytest.mark.parametrize(
    ("undecided", "outcome"),
    [
        ("", {"failed": 1}),
        (', undecided="error"', {"failed": 1}),
        (', undecided="skip"', {"skipped": 1}),
    ],
)
def test_undecided(suite, monkeypatch, undecided, outcome):
    _nothing_is_decided(monkeypatch)
    result, said = suite(
        f"""
@pytest.mark.fits_device("jetson-tx2", ram="512MiB"{undecided})
def test_trains():
    return step()
""",
        "-rs",
    )
    result.assert_outcomes(**outcome)
    assert "The time is up." in said


def test_undecided_as_a_warning(suite, monkeypatch):
    _nothing_is_decided(monkeypatch)
    result, said = suite(
        """
@pytest.mark.fits_device("jetson-tx2", ram="512MiB", undecided="warn")
def test_trains():
    return step()
""",
        "-W",
        "default::pytest.PytestWarning",
    )
    result.assert_outcomes(passed=1)
    assert "warnings summary" in said
    assert "The time is up." in said


def test_a_skip_does_not_hide_a_failure(suite, monkeypatch):
    _nothing_is_decided(monkeypatch, on="jetson-tx2")
    result, said = suite("""
@pytest.mark.fits_device("mkr1000", ram="2KiB")
@pytest.mark.fits_device("jetson-tx2", undecided="skip")
def test_trains():
    return step()
""")
    result.assert_outcomes(failed=1)
    assert "on mkr1000" in said


def _nothing_is_decided(monkeypatch, on=""):
    """As if the planner's time had ended."""
    decide = deciding.decide

    def undecided(case, planner):
        row, plan = decide(case, planner)
        if on and case.entry.device != on:
            return row, plan
        return replace(row, verdict=Verdict.UNDECIDED, reason="The time is up."), None

    monkeypatch.setattr(deciding, "decide", undecided)


def test_the_documented_tests_pass(pytester):
    page = (Path(__file__).parents[2] / "docs" / "check.md").read_text(encoding="utf-8")
    files = re.findall(r"```python\n# (\w+)\.py\n(.*?)```", page, re.DOTALL)
    assert [name for name, _ in files] == ["nets", "test_nets"]
    pytester.makepyfile(**dict(files))
    pytester.syspathinsert()
    pytester.runpytest_inprocess(*FLAGS).assert_outcomes(passed=2)


def test_the_mark_is_listed(suite):
    _, said = suite("", "--markers")
    assert "@pytest.mark.fits_device(device, ram=..." in said


def test_a_suite_without_it_imports_nothing_of_it(tmp_path):
    (tmp_path / "test_plain.py").write_text("""
import sys

def test_plain():
    heavy = {"torch", "numpy", "poet_solvers", "highspy", "pulp", "click", "rich", "poet_core"}
    assert heavy & sys.modules.keys() == set()
    assert "poet_cli.check.pytest_plugin" in sys.modules
    assert "poet_cli.check.pytest_judging" not in sys.modules
""")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *FLAGS, "-q", "test_plain.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stdout
