"""MODULE:FUNCTION: loading the user's step, tracing it, training with a plan."""

import subprocess
import sys
import textwrap

import pytest

GOOD = """
import torch

def step():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 64), torch.nn.ReLU(),
        torch.nn.Linear(64, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return model, torch.nn.functional.cross_entropy, optimizer, (
        torch.randn(128, 64), torch.randint(0, 4, (128,)))
"""
WRONG = {
    "raises": ("raise ValueError('no data \\x1b[31m')", "step_failed"),
    "returns nothing": ("pass", "step_shape"),
    "returns three": ("return good()[:3]", "step_shape"),
    "returns a list": ("return list(good())", "step_shape"),
    "returns the model last": ("return good()[::-1]", "step_shape"),
    "has no loss": ("m, l, o, b = good(); return m, 5, o, b", "step_shape"),
    "has no optimizer": ("m, l, o, b = good(); return m, l, m, b", "step_shape"),
    "has a tensor as batch": ("m, l, o, b = good(); return m, l, o, b[0]", "step_shape"),
    "has a batch of one": ("m, l, o, b = good(); return m, l, o, b[:1]", "step_shape"),
}


@pytest.fixture
def module(tmp_path, request):
    """A module in the current folder, under a name of its own for each test."""
    name = f"user_step_{abs(hash(request.node.name))}"

    def write(text):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    yield write
    sys.modules.pop(name, None)
    sys.path[:] = [folder for folder in sys.path if folder != str(tmp_path)]


@pytest.mark.parametrize("name", WRONG)
def test_a_step_of_the_wrong_shape(poet, module, name):
    body, code = WRONG[name]
    wrong = GOOD.replace("def step", "def good") + f"\ndef step():\n    {body}\n"
    result = poet("trace", f"{module(wrong)}:step", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)
    assert "\x1b" not in result.out
    if code == "step_failed":
        assert "user_step_" in result.json["error"]["detail"]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        ("examples", "step_name_invalid"),
        ("examples/mlp.py:step", "step_name_invalid"),
        ("os;import sys:path", "step_name_invalid"),
        ("no_such_module:step", "step_module_missing"),
        ("no_such.module:step", "step_module_missing"),
        ("json:step", "step_function_missing"),
        ("json:__doc__", "step_function_missing"),
    ],
)
def test_a_step_that_cannot_be_found(poet, step, code):
    result = poet("trace", step, "--json")
    assert (result.code, result.json["error"]["code"]) == (2, code)


def test_a_module_that_does_not_compile(poet, module):
    result = poet("trace", f"{module('def step(:')}:step", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "step_failed")


def test_a_module_that_imports_what_is_missing(poet, module):
    result = poet("trace", f"{module('import no_such_dependency')}:step", "--json")
    assert (result.code, result.json["error"]["code"]) == (2, "step_failed")
    assert "no_such_dependency" in result.json["error"]["detail"]


def test_without_torch_there_is_one_sentence(tmp_path):
    code = (
        "import sys, importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'torch' else find(name, *more)\n"
        "from poet_cli.main import run\n"
        "sys.exit(run(sys.argv[1:]))\n"
    )
    for command in (("trace", "x:y"), ("train", "x:y", "--device", "host", "--ram", "1MiB")):
        result = subprocess.run(
            [sys.executable, "-c", code, *command],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert result.returncode == 2
        assert "[torch_missing]" in result.stderr
        assert "pip install 'poet-planner[train]'" in result.stderr


def test_from_a_users_module_to_training_inside_the_budget(poet, module):
    step = f"{module(GOOD)}:step"
    traced = poet("trace", step, "-o", "graph.json", "--threads", "1", "--json")
    assert traced.code == 0
    assert traced.json["ops"] > 10
    ram = traced.json["floor_bytes"] * 3 // 4 + traced.json["keep_everything_bytes"] // 4
    planned = poet(
        "plan", "graph.json", "--device", "raspberry-pi-4b", "--ram", f"{ram + 2048}B", "--json"
    )
    assert planned.code == 0, planned.out
    trained = poet(
        "train", step, "--plan", "plan.json", "--steps", "4", "--threads", "1", "--json",
    )  # fmt: skip
    assert trained.code == 0, trained.out
    result = trained.json
    assert result["measured_peak_bytes"] <= result["planned_peak_bytes"] <= result["ram_bytes"]
    assert result["ram_bytes"] < result["keep_everything_bytes"]
    assert result["last_loss"] < result["first_loss"]


def test_the_size_above_which_ops_are_split_reaches_the_tracer(poet, module, monkeypatch):
    from poet_runtime.tracing import trace as tracer

    asked, trace = [], tracer.trace

    def remember(*arguments, options, **others):
        asked.append(options.split_above_bytes)
        return trace(*arguments, options=options, **others)

    monkeypatch.setattr(tracer, "trace", remember)
    step = f"{module(GOOD)}:step"
    for size in ((), ("--split-above", "30KiB")):
        assert poet("trace", step, "-o", "graph.json", "--json", *size).code == 0
    assert asked == [None, 30 * 1024]
    wrong = poet("trace", step, "--split-above", "30", "--json")
    assert (wrong.code, wrong.json["error"]["code"]) == (2, "size_invalid")


@pytest.mark.parametrize("device", ["raspberry-pi-4b", "host"])
def test_planning_and_training_at_once(poet, module, device):
    result = poet(
        "train", f"{module(GOOD)}:step", "--device", device, "--ram", "160KiB", "--steps", "3",
        "--threads", "1", "--json",
    )  # fmt: skip
    assert result.code == 0, result.out
    answer = result.json
    assert answer["measured_peak_bytes"] <= 160 * 1024 < answer["keep_everything_bytes"]
    assert answer["steps"] == 3


def test_a_paging_directory_that_is_not_there(poet, module):
    result = poet(
        "train", f"{module(GOOD)}:step", "--device", "raspberry-pi-4b", "--ram", "160KiB",
        "--paging-directory", "nowhere", "--json",
    )  # fmt: skip
    assert (result.code, result.json["error"]["code"]) == (2, "paging_directory_missing")


def test_training_below_the_floor(poet, module):
    result = poet("train", f"{module(GOOD)}:step", "--device", "host", "--ram", "10KiB", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "ram_below_floor")


def test_a_plan_for_another_step_is_refused(poet, module, documents):
    result = poet("train", f"{module(GOOD)}:step", "--plan", "plan.json", "--json")
    assert (result.code, result.json["error"]["code"]) == (1, "plan_for_other_graph")


def test_training_needs_one_kind_of_plan(poet, documents):
    both = poet("train", "x:y", "--plan", "plan.json", "--device", "host", "--json")
    assert (both.code, both.json["error"]["code"]) == (2, "plan_and_device")
    none = poet("train", "x:y", "--json")
    assert (none.code, none.json["error"]["code"]) == (2, "device_missing")
