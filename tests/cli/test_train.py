"""`poet train` in a process of its own: caps, checkpoints, flash, what is shown, and Ctrl-C."""

import os
import pty
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from poet_cli import planning
from poet_cli.caps import can_enforce

STEP = """
import torch

def step():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Dropout(0.1),
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 4))
    optimizer = torch.optim.Adam(model.parameters())
    torch.manual_seed(1)
    return model, torch.nn.functional.cross_entropy, optimizer, (
        torch.randn(128, 64), torch.randint(0, 4, (128,)))
"""
BUDGET = ("--device", "host", "--ram", "200KiB", "--threads", "1", "--seconds", "1")
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def module(tmp_path, request):
    """The step's module in the current folder, under a name of its own for each test."""
    name = f"worker_step_{abs(hash(request.node.name))}"
    (tmp_path / f"{name}.py").write_text(textwrap.dedent(STEP))
    yield f"{name}:step"
    sys.modules.pop(name, None)
    sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path)]


@pytest.fixture
def group():
    """Skips where the kernel's limit cannot be set."""
    reason = can_enforce()
    if reason:
        pytest.skip(reason)


def test_a_worker_trains_inside_a_plan(poet, module, tmp_path):
    result = poet(
        "train", module, "--isolated", *BUDGET, "--steps", "3", "--json",
        "--paging-file", "page.bin", "--checksums", "crc", "--endurance", "1GB",
    )  # fmt: skip
    assert result.code == 0, result.out
    found = result.json
    assert found["steps"] == 3
    assert found["planned_peak_bytes"] <= found["ram_bytes"] == 200 * 1024
    assert found["planned_peak_bytes"] < found["keep_everything_bytes"]
    if found["arena_peak_bytes"] is not None:
        assert found["arena_peak_bytes"] <= found["planned_peak_bytes"] + 64 * 1024
    assert 0 < found["flash_written_per_step_bytes"] < found["flash_written_bytes"]
    assert 0 < found["life_used"] < 1
    assert found["last_loss"] < found["first_loss"]
    assert not (tmp_path / "page.bin").exists()


@pytest.mark.slow
def test_the_same_losses_as_in_this_process(poet, module):
    here = poet("train", module, *BUDGET, "--steps", "4", "--json").json
    there = poet("train", module, *BUDGET, "--steps", "4", "--isolated", "--json").json
    assert (here["first_loss"], here["last_loss"]) == (there["first_loss"], there["last_loss"])


@pytest.mark.slow
def test_what_is_resumed_ends_as_if_it_had_gone_on(poet, module):
    whole = poet("train", module, "--isolated", *BUDGET, "--steps", "5", "--json").json
    options = (*BUDGET, "--isolated", "--checkpoint", "run", "--json")
    begun = poet("train", module, *options, "--steps", "3", "--checkpoint-every", "2")
    assert begun.code == 0, begun.out
    again = poet("train", module, *options, "--steps", "5")
    assert (again.code, again.json["error"]["code"]) == (2, "checkpoint_exists")
    resumed = poet("train", module, *options, "--steps", "5", "--resume")
    assert resumed.code == 0, resumed.out
    found = resumed.json
    assert (found["resumed_steps"], found["steps"]) == (3, 5)
    assert found["last_loss"] == whole["last_loss"]


def test_a_cap_alone_gets_a_plan_that_fits_it_and_the_least_one_works(poet, module, group):
    """Too small says by how much, and what it says is true."""
    options = ("--threads", "1", "--seconds", "1", "--steps", "2", "--json")
    refused = poet("train", module, "--cap", "90MiB", *options)
    error = refused.json["error"]
    assert (refused.code, error["code"]) == (1, "cap_too_small")
    assert error["floor_bytes"] > 0
    assert error["set_by"].startswith("op ")
    assert error["set_by"] in error["detail"]
    least = error["least_cap_bytes"]
    assert f"{least >> 20}MiB" in error["hint"]
    fits = poet("train", module, "--cap", f"{least}B", *options)
    assert fits.code == 0, fits.out
    assert fits.json["process_peak_bytes"] <= fits.json["cap_bytes"] == least
    assert fits.json["not_bound"] == []


def test_a_plan_that_does_not_fit_the_cap(poet, module, group):
    assert poet("trace", module, "-o", "g.json", "--threads", "1").code == 0
    planned = poet(
        "plan",
        "g.json",
        "--device",
        "jetson-tx2",
        "--ram",
        "1GiB",
        "--seconds",
        "1",
        "-o",
        "p.json",
    )
    assert planned.code == 0, planned.out
    result = poet("train", module, "--plan", "p.json", "--cap", "90MiB", "--threads", "1", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "cap_too_small")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("x:y", "--device", "host", "--checkpoint", "run"), "isolated_only"),
        (("x:y", "--device", "host", "--endurance", "1GB"), "isolated_only"),
        (("x:y", "--isolated", "--device", "host", "--resume"), "checkpoint_missing"),
        (("x:y", "--isolated"), "device_missing"),
        (("x:y", "--small"), "step_missing"),
        ((), "step_missing"),
        (("x:y", "--demo", "mlp"), "demo_alone"),
        (("--demo", "mlp", "--ram", "1GiB"), "demo_alone"),
        (("--demo", "gpt"), "usage"),
        (("x:y", "--cap", "512"), "size_invalid"),
    ],
)
def test_options_that_do_not_go_together(poet, arguments, code):
    result = poet("train", *arguments, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


def test_every_option_is_documented(poet):
    text = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z][a-z-]+", poet("train", "--help").out.split("Examples:")[0]))
    assert len(known) > 15
    assert [option for option in known - {"--help"} if option not in text] == []


def test_a_plan_that_was_interrupted_is_not_used(monkeypatch):
    """The solvers end first; what they have found by then is no plan that anybody waits for."""
    ended = []

    def interrupted_once(work, _stopping):
        return work(threading.Event()), True

    monkeypatch.setattr(planning, "interruptible", interrupted_once)
    with pytest.raises(KeyboardInterrupt):
        planning.interrupted(lambda _cancel: ended.append("solvers"))
    assert ended == ["solvers"]


def command(module, *options):
    return [sys.executable, "-m", "poet_cli.main", "train", module, "--isolated", *BUDGET, *options]


def environment(**more):
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])} | more


def workers_in(folder):
    """Processes whose command names the folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes()
        except OSError:
            continue
        if str(folder).encode() in line and b"poet_runtime.isolated.worker" in line:
            found.append(line)
    return found


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_ends_the_worker_and_takes_its_files(module, tmp_path):
    place = tmp_path / "paging"
    place.mkdir()
    process = subprocess.Popen(
        command(module, "--steps", "1000000", "--paging-directory", str(place)),
        cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    seen = ""
    for line in process.stderr:
        seen += line
        if re.match(r"step \d+/1000000 ", line):
            break
    assert workers_in(place)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, (seen, err)
    assert "Interrupted." in err
    assert "Traceback" not in seen + err + out
    assert not workers_in(place)
    assert list(place.iterdir()) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_worker_whose_command_was_killed_ends_and_takes_its_files(module, tmp_path):
    place = tmp_path / "paging"
    place.mkdir()
    process = subprocess.Popen(
        command(module, "--steps", "1000000", "--paging-directory", str(place)),
        cwd=tmp_path, env=environment(), text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    for line in process.stderr:
        if line.startswith("step "):
            break
    process.kill()
    process.communicate(timeout=60)
    until = time.monotonic() + 30
    while (workers_in(place) or list(place.iterdir())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not workers_in(place)
    assert list(place.iterdir()) == []


@pytest.mark.slow
def test_on_a_terminal_one_line_renews_itself_without_colour(module, tmp_path):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        command(module, "--steps", "3"), cwd=tmp_path, stdout=subprocess.PIPE, stderr=theirs,
        env=environment(NO_COLOR="1", TERM="xterm", COLUMNS="160"),
    ) as process:  # fmt: skip
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 65536):
                shown += part
        except OSError:  # the other end is closed
            pass
        out = process.stdout.read().decode()
    os.close(ours)
    text = shown.decode(errors="replace")
    assert process.returncode == 0, text
    assert "step 3/3  loss" in text
    assert not re.search(r"\x1b\[(?:[0-9]+;)*(?:3[0-7]|9[0-7])m", text)
    assert "3 steps," in out
    assert "planned peak" in out
