"""`poet check` as it is typed: each exit code, each format, each mistake, and what it leaves behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from poet_cli.check import running
from poet_cli.check.planning_child import Planned
from poet_cli.check.report import Row, Verdict
from poet_cli.check.tracing import NoGraph
from poet_cli.main import run
from tests.check.projects import BROKEN, TINY, write

FITS = """
[[entry]]
step = "tiny:step"
device = "nrf52840"
ram = "64KiB"
"""


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A project whose model has been traced once: what is kept of it is there for every test."""
    folder = write(tmp_path_factory.mktemp("project"), tiny=TINY, broken=BROKEN)
    return folder, tmp_path_factory.mktemp("kept")


@pytest.fixture
def poet(kept, capsys, monkeypatch):
    """poet(check, "--only", ...) -> (exit code, stdout, stderr) with that configuration."""
    folder, cache = kept
    monkeypatch.chdir(folder)
    monkeypatch.setenv("POET_CACHE_DIR", str(cache))
    monkeypatch.delenv("POET_DEBUG", raising=False)
    for name in ("poet-check.toml", "pyproject.toml"):
        Path(name).unlink(missing_ok=True)

    def call(check, *arguments):
        if check is not None:
            write(folder, check=check)
        code = run(["check", *map(str, arguments)])
        captured = capsys.readouterr()
        if "--verbose" not in arguments:
            assert "Traceback" not in captured.out + captured.err
        return code, captured.out, captured.err

    return call


def report(poet, check, *arguments):
    code, out, _ = poet(check, "--json", *arguments)
    return code, json.loads(out)


# -- exit codes --------------------------------------------------------------------------------------


def test_0_what_fits_is_one_table(poet):
    code, out, err = poet(FITS)
    assert code == 0, out + err
    assert "fits" in out
    assert "nrf52840" in out
    assert "a model that talks" not in out + err


def test_1_what_is_proven_not_to_fit(poet):
    code, document = report(poet, FITS.replace("64KiB", "64B"))
    (row,) = document["rows"]
    assert (code, document["exit_code"], row["verdict"]) == (1, 1, "does not fit")
    assert row["code"] == "ram_below_floor"
    assert row["floor"]["bytes"] > 64
    assert any(text.startswith("Set ram = ") for text in row["advice"])


def test_2_a_model_without_a_graph(poet):
    code, document = report(poet, FITS.replace("tiny:step", "broken:raises"))
    (row,) = document["rows"]
    assert (code, row["verdict"], row["code"]) == (2, "failed", "step_failed")


def test_2_a_mistake_in_the_configuration(poet):
    code, out, err = poet(FITS.replace('"64KiB"', "64"))
    assert (code, out) == (2, "")
    assert "poet-check.toml:5: ram: expected a size with a unit" in err
    assert 'hint: ram = "64MiB" or "64B"' in err
    code, document = report(poet, FITS.replace("nrf52840", "nrf5284"))
    assert (code, document["ok"], document["error"]["code"]) == (2, False, "unknown_device")
    assert document["error"]["hint"].startswith('device = "nrf52840"')


def test_2_no_configuration(poet):
    code, _, err = poet(None)
    assert code == 2
    assert "poet check --init" in err


def test_3_undecided_and_what_an_entry_may_say_to_it(poet, monkeypatch):
    def undecided(request, *_):
        rows = (
            Row(entry=one, verdict=Verdict.UNDECIDED, reason="Not found.", code="not_found_in_time")
            for one in request.entries
        )
        return Planned(rows=tuple(rows), said=())

    monkeypatch.setattr(running, "planned", undecided)
    tight = FITS.replace("64KiB", "3KiB")
    assert report(poet, tight)[0] == 3
    code, document = report(poet, tight + 'undecided = "warn"\n')
    assert (code, document["rows"][0]["verdict"]) == (0, "undecided")


def test_4_a_fault_of_ours_counts_whatever_the_level(poet, monkeypatch):
    fault = NoGraph(code="internal", message="A fault.", hint="Report it.", internal=True)
    monkeypatch.setattr(running, "traced", lambda *_: fault)
    code, document = report(poet, FITS + 'level = "warn"\n', "--refresh")
    assert (code, document["rows"][0]["internal"]) == (4, True)


def test_a_warning_does_not_count(poet):
    code, document = report(poet, FITS.replace("64KiB", "64B") + 'level = "warn"\n')
    assert (code, document["rows"][0]["verdict"]) == (0, "does not fit")


# -- formats and files -------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["human", "json", "markdown", "junit", "sarif", "github"])
def test_every_format_is_printed_and_written(poet, kept, shape):
    below = FITS.replace("64KiB", "64B")
    code, out, _ = poet(below, "--format", shape, "--output", f"{shape}=here.txt")
    assert code == 1
    assert "tiny" in out
    assert "1.00 KiB" in out  # the floor
    written = (kept[0] / "here.txt").read_text(encoding="utf-8")
    if shape not in {"human", "json", "junit"}:  # those have a width, or the time that it took
        assert written == out
    assert written


def test_an_output_without_a_format_is_in_the_one_that_is_printed(poet, kept):
    poet(FITS, "--format", "json", "--output", "plain.json")
    assert json.loads((kept[0] / "plain.json").read_text())["schema"] == "poet.check/1"


@pytest.mark.parametrize(
    ("given", "hint"), [("markdwn=x.md", "--output markdown=x.md"), ("sarif=", "sarif=check.txt")]
)
def test_an_output_in_no_format_is_refused(poet, given, hint):
    code, _, err = poet(FITS, "--output", given)
    assert code == 2
    assert hint in err


def test_the_configuration_is_not_written_over(poet):
    code, _, err = poet(FITS, "--output", "poet-check.toml")
    assert code == 2
    assert "output_is_input" in err


def test_a_baseline_shows_what_changed(poet):
    assert poet(FITS, "--output", "json=before.json")[0] == 0
    code, out, _ = poet(FITS.replace("64KiB", "64B"), "--baseline", "before.json")
    assert code == 1
    assert "change" in out
    code, _, err = poet(FITS, "--baseline", "none.json")
    assert (code, "none.json" in err) == (2, True)


# -- options -----------------------------------------------------------------------------------------


def test_only_some_rows(poet):
    both = FITS + '[[entry]]\nstep = "broken:raises"\ndevice = "mkr1000"\n'
    code, document = report(poet, both, "--only", "*nrf52840")
    assert (code, [row["entry"]["device"] for row in document["rows"]]) == (0, ["nrf52840"])
    assert report(poet, both, "--only", "tiny:*")[0] == 0
    code, document = report(poet, both, "--only", "nothing*")
    assert (code, document["error"]["code"]) == (2, "check_nothing_selected")
    assert "tiny on nrf52840" in document["error"]["hint"]


@pytest.mark.parametrize("arguments", [["tiny:step"], ["--device", "nrf52840"]])
def test_what_is_for_a_first_configuration_says_so(poet, arguments):
    code, _, err = poet(FITS, *arguments)
    assert code == 2
    assert "poet check --init" in err


def test_what_a_model_prints_is_shown_if_asked_for(poet):
    code, out, err = poet(FITS.replace("tiny:step", "broken:prints_a_lot"), "--verbose")
    assert code == 2
    assert "broken:prints_a_lot printed:" in err
    assert "ValueError: after a lot of text" in err
    assert "Traceback" not in out


def test_another_configuration_is_read_where_it_is_named(poet, kept):
    other = kept[0] / "nightly.toml"
    other.write_text(FITS.replace("64KiB", "64B"), encoding="utf-8")
    code, document = report(poet, FITS, "--config", "nightly.toml")
    assert (code, document["config_file"]) == (1, "nightly.toml")


def test_from_a_folder_below_the_same_is_checked(poet, kept, monkeypatch):
    write(kept[0], check=FITS)
    (kept[0] / "below").mkdir(exist_ok=True)
    monkeypatch.chdir(kept[0] / "below")
    code, document = report(poet, None)
    assert (code, document["config_file"]) == (0, "../poet-check.toml")


# -- the first configuration -------------------------------------------------------------------------


def test_a_first_configuration_is_written_and_holds(poet, kept):
    code, out, _ = poet(None, "--init", "tiny:step", "--device", "nrf52840", "--device", "mkr1000")
    assert code == 0, out
    assert "2 of 2 fit" in out
    text = (kept[0] / "poet-check.toml").read_text()
    assert text.count("[[entry]]") == 2
    assert 'max_energy = "1.25x"' in text
    code, document = report(poet, None)
    assert code == 0
    assert all(0 < row["headroom_bytes"] < row["peak"]["bytes"] for row in document["rows"])
    code, _, err = poet(None, "--init", "tiny:step", "--device", "nrf52840")
    assert (code, "check_init_exists" in err) == (2, True)


def test_what_does_not_fit_is_left_out_of_a_first_configuration(poet, kept):
    code, out, _ = poet(
        None, "--init", "tiny:step", "broken:raises", "--device", "nrf52840"
    )  # fmt: skip
    assert code == 0
    assert "left out: broken:raises on nrf52840" in out
    assert "\n# broken:raises on nrf52840: " in (kept[0] / "poet-check.toml").read_text()
    (kept[0] / "poet-check.toml").unlink()
    code, _, err = poet(None, "--init", "broken:raises", "--device", "nrf52840")
    assert (code, "check_init_nothing_fits" in err) == (1, True)
    assert not (kept[0] / "poet-check.toml").exists()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--device", "nrf52840"], "check_init_what"),
        (["tiny:step"], "check_init_what"),
        (["tiny.py", "--device", "nrf52840"], "step_name_invalid"),
        (["tiny:step", "--device", "nrf5284"], "unknown_device"),
        (["tiny:step", "--device", "host"], "check_init_host"),
    ],
)
def test_a_first_configuration_of_nothing_is_refused(poet, arguments, code):
    found, _, err = poet(None, "--init", *arguments)
    assert (found, code in err) == (2, True), err


# -- processes ---------------------------------------------------------------------------------------


def environment(kept, **others):
    path = os.pathsep.join(filter(None, sys.path))
    return {**os.environ, "POET_CACHE_DIR": str(kept[1]), "PYTHONPATH": path, **others}


def test_an_unchanged_model_is_answered_without_torch_or_a_solver(poet, kept):
    assert poet(FITS)[0] == 0
    script = (
        "import sys; from poet_cli.main import run; code = run(['check', '--json', '--verbose'])\n"
        "heavy = {'torch', 'numpy', 'highspy', 'pulp', 'networkx', 'httpx'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "sys.exit(code)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script], cwd=kept[0], env=environment(kept), check=False,
        capture_output=True, timeout=120,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert b"printed:" not in ended.stderr, ended.stderr  # the model talks where it is imported
    (row,) = json.loads(ended.stdout)["rows"]
    assert row["from_cache"]


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_check_that_is_stopped_leaves_nothing(kept, tmp_path, signal_number):
    project, temporary = tmp_path / "project", tmp_path / "tmp"
    project.mkdir()
    temporary.mkdir()
    write(project, broken=BROKEN, check=FITS.replace("tiny:step", "broken:leaves_children"))
    checking = subprocess.Popen(
        [sys.executable, "-m", "poet_cli.main", "check"], cwd=project, stderr=subprocess.PIPE,
        stdout=subprocess.PIPE, env=environment(kept, TMPDIR=str(temporary)),
    )  # fmt: skip
    started = project / "child.pid"
    until(lambda: started.exists() and started.read_text())
    checking.send_signal(signal_number)
    _, err = checking.communicate(timeout=120)
    assert checking.returncode == 130, err
    assert b"Traceback" not in err
    assert list(temporary.iterdir()) == []
    until(lambda: not Path(f"/proc/{started.read_text()}/cmdline").exists()
          or not Path(f"/proc/{started.read_text()}/cmdline").read_bytes())  # fmt: skip


def until(condition, seconds=120.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends, "it did not happen"
        time.sleep(0.05)


def test_an_address_that_is_none_is_refused_before_anything_is_traced(poet):
    code, _, err = poet(FITS, "--server", "ftp://somewhere")
    assert code == 2
    assert "server_invalid" in err
