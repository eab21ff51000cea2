"""What is wrong with a model that cannot be traced, and what to write instead.

The errors of `poet_cli.loading` and of the tracer say what happened; here the mistakes that people
make most get a line that can be pasted. Invariant: an error keeps its message; only code and hint
are made more exact.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from poet_core.errors import PoetError, TraceError
from poet_core.text import printable

_NEEDS_CUDA = re.compile(
    r"not compiled with CUDA|No CUDA GPUs|NVIDIA driver|cudaGetDeviceCount|CUDA error"
    r"|torch\.cuda\.is_available\(\) is False|CUDA.*(not|un)available",
    re.IGNORECASE,
)
# A folder's listing is only looked at to name the nearest module.
_MOST_NAMES = 2000


def explained(error: BaseException, step: str, folder: Path) -> PoetError:
    """The error as it is told to the user, who runs in `folder`."""
    if isinstance(error, SystemExit):
        return TraceError(
            f"{printable(step, 60)} ended the process with sys.exit({printable(repr(error.code), 40)}).",
            code="step_exited",
            hint='Put what runs a script below: if __name__ == "__main__":',
        )
    if isinstance(error, MemoryError):
        return _out_of_memory(step)
    if not isinstance(error, PoetError):
        return PoetError(
            f"Something unexpected happened while {printable(step, 60)} was traced: "
            f"{type(error).__name__}: {printable(str(error), 300)}",
            code="internal",
            hint="Please report it, with what poet check --verbose shows.",
        )
    return _sharpened(error, step, folder)


def _sharpened(error: PoetError, step: str, folder: Path) -> PoetError:
    causes = list(_causes(error))
    no_memory = [one for one in causes if "DefaultCPUAllocator" in str(one)]
    if no_memory or any(isinstance(one, MemoryError) for one in causes):
        return _out_of_memory(step)
    missing = next((one for one in causes if isinstance(one, FileNotFoundError)), None)
    function = printable(step.partition(":")[2], 60)
    code, hint = error.code, error.hint
    if _NEEDS_CUDA.search(error.message) or any(_NEEDS_CUDA.search(str(one)) for one in causes):
        code = "step_needs_cuda"
        hint = (
            "Build model and batch on what is there: "
            'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")'
        )
    elif missing is not None and missing.filename is not None:
        code = "step_file_missing"
        name = printable(Path(str(missing.filename)).name, 80)
        hint = (
            f"{printable(str(folder), 200)} is the current folder there. "
            f'Name the file from the module\'s own: Path(__file__).parent / "{name}"'
        )
    elif code == "step_shape":
        hint = (
            f"End {function} with: return model, torch.nn.functional.cross_entropy, "
            "torch.optim.SGD(model.parameters(), lr=0.1), (inputs, target)"
        )
    elif code == "data_dependent":
        hint = (
            "Compute both ways and choose: torch.where(condition, a, b); no if, while, .item() or "
            "nonzero() on a tensor: the step must be the same for every batch."
        )
    elif code == "step_module_missing":
        near = _nearest_module(step.partition(":")[0], folder)
        hint = f"Did you mean {near}:{function}? {hint}" if near else hint
    error.code, error.hint = code, hint
    return error


def _causes(error: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    while error is not None and error not in found and len(found) < 16:
        found.append(error)
        error = error.__cause__ or error.__context__
    return found


def _out_of_memory(step: str) -> PoetError:
    return TraceError(
        f"{printable(step, 60)} needs more memory than there is to be built and traced here.",
        code="trace_out_of_memory",
        hint="Use a smaller batch_size, raise trace_memory, or check on a larger machine.",
    )


def _nearest_module(module: str, folder: Path) -> str:
    """A module in the folder with a similar name; empty where there is none."""
    parts = module.split(".")
    for depth, part in enumerate(parts):
        here = folder.joinpath(*parts[:depth])
        try:
            names = [path.stem for path, _ in zip(here.iterdir(), range(_MOST_NAMES), strict=False)]
        except OSError:
            return ""
        if part in names:
            continue
        near = get_close_matches(part[:64], [name for name in names if name.isidentifier()], n=1)
        return ".".join([*parts[:depth], near[0], *parts[depth + 1 :]]) if near else ""
    return ""
