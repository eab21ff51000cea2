"""Folders with models, as a user has them; none of the broken ones needs torch to be imported."""

from __future__ import annotations

import textwrap
from pathlib import Path

BROKEN = """
import os, signal, subprocess, sys, time
from pathlib import Path

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def is_killed():
    os.kill(os.getpid(), signal.SIGKILL)

def exits():
    sys.exit(3)

def ends():
    os._exit(7)

def hangs():
    print("waiting for a key", flush=True)
    time.sleep(1000)

def leaves_children():
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"])
    Path("child.pid").write_text(str(child.pid))
    time.sleep(1000)

def needs_a_file():
    return open("weights.bin")

def raises():
    raise ValueError("no such \\x1b[31mlayer")

def is_too_large():
    raise MemoryError

def allocates():
    return bytearray(1 << 34)

def wants_cuda():
    raise AssertionError("Torch not compiled with CUDA enabled")

def reads_input():
    return input("which model? ")

def prints_a_lot():
    sys.stdout.write("x" * 1_000_000 + "the end\\n")
    raise ValueError("after a lot of text")

def writes_an_answer():
    for name in sys.argv[1:2]:
        Path(name).with_name("answer.json").write_text("{not json")
    os._exit(0)
"""

TINY = """
import torch

print("a model that talks")


def step(batch_size=4):
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    batch = (torch.zeros(batch_size, 8), torch.zeros(batch_size, dtype=torch.long))
    return model, torch.nn.functional.cross_entropy, optimizer, batch
"""


def write(folder: Path, **files: str) -> Path:
    """Writes `name`.py for each; `check` is the configuration."""
    for name, text in files.items():
        file = "poet-check.toml" if name == "check" else f"{name}.py"
        (folder / file).write_text(textwrap.dedent(text), encoding="utf-8")
    return folder
