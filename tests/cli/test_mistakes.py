"""A new user's mistakes: one clear message each, with what to write instead, by the real command."""

import sys

import pytest

from tests.cli.test_steps import GOOD

MODEL = (
    GOOD
    + """
def wrong_order():
    m, l, o, b = step()
    return m, o, l, b

def three():
    return step()[:3]

def on_a_gpu():
    torch.nn.Linear(4, 4).to("cuda")
    return step()

class Depends(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(64, 4)
    def forward(self, x):
        y = self.layer(x)
        return 2 * y if y.sum() > 0 else y

def dynamic():
    m, l, o, b = step()
    m = Depends()
    return m, l, torch.optim.SGD(m.parameters(), lr=0.1), b

def no_file():
    torch.load("weights.bin")
"""
)


@pytest.fixture
def here(documents):
    (documents / "mistaken.py").write_text(MODEL)
    yield documents
    sys.modules.pop("mistaken", None)
    sys.path[:] = [folder for folder in sys.path if folder != str(documents)]


MISTAKES = {
    "a misspelt device": ("plan graph.json --device mkr100", "unknown_device", "mkr1000"),
    "no unit": ("plan graph.json --device mkr1000 --ram 32", "size_invalid", "32MiB or 32B"),
    "no device": ("plan graph.json", "device_missing", "--device raspberry-pi-4b"),
    "three, not four": ("trace mistaken:three", "step_shape", "return model, "),
    "the wrong order": ("trace mistaken:wrong_order", "step_shape", "return model, "),
    "the values of tensors": ("trace mistaken:dynamic", "data_dependent", "torch.where("),
    "a file that is not there": ("trace mistaken:no_file", "step_file_missing", "Path(__file__)"),
    "no such graph": ("plan new.graph.json --device mkr1000", "file_unreadable",
                      "poet trace MODULE:FUNCTION -o new.graph.json"),
    "a misspelt file": ("show grahp.json plan.json", "file_unreadable", "Did you mean graph.json?"),
    "a folder that is not there": ("show no/graph.json plan.json", "file_unreadable", "no folder"),
    "graph and plan swapped": ("show plan.json graph.json", "unknown_field", "a graph is expected"),
    "a misspelt function": ("trace mistaken:stpe", "step_function_missing", "mistaken:step?"),
    "a misspelt module": ("trace mistake:step", "step_module_missing", "mistaken:step?"),
    "a file for a module": ("trace mistaken.py:step", "step_name_invalid", ": mistaken:step"),
    "no function": ("trace mistaken", "step_name_invalid", ": mistaken:step"),
    "a misspelt command": ("plna graph.json", "command_unknown", "`poet plan`"),
    "a misspelt option": ("plan graph.json --devcie x", "option_unknown", "--device"),
    "a ratio without x": ("plan graph.json --device mkr1000 --time fast", "limit_invalid", "1.2x"),
    "a batch size that is not taken": ("max-batch mistaken:step --device mkr1000",
                                       "step_batch_size", "def step(batch_size=8):"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_has_one_message_and_what_to_write(poet, here, name):
    words, code, fix = MISTAKES[name]
    result = poet(*words.split())
    assert result.code == 2
    lines = result.err.splitlines()
    assert [line.split(":")[0].strip() for line in lines] == ["error", "hint"], lines
    assert f"[{code}]" in lines[0]
    assert fix in lines[1]


def test_a_model_for_a_gpu_where_there_is_none(poet, here):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    result = poet("trace", "mistaken:on_a_gpu")
    assert result.code == 2
    assert "[step_needs_cuda]" in result.err
    assert 'torch.device("cuda" if torch.cuda.is_available() else "cpu")' in result.err
