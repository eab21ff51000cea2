"""MODULE:FUNCTION: the user's own training step.

The function takes no arguments, or a batch size, and returns (model, loss_fn, optimizer, batch), where
loss = loss_fn(model(*batch[:-1]), batch[-1]): the batch's last element is the target. The current
folder is importable. What goes wrong in the user's code is shown with the user's file and line.
"""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from poet_core.errors import PoetError, UsageError
from poet_core.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

    import torch

    Step = tuple[torch.nn.Module, Callable[..., Any], torch.optim.Optimizer, tuple[Any, ...]]

_SHAPE = "(model, loss_fn, optimizer, batch)"


def require_torch() -> None:
    """Raises UsageError (`torch_missing`) where PyTorch is not installed."""
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise UsageError(
            "Tracing and training need PyTorch, which is not installed.",
            code="torch_missing",
            hint="pip install 'poet-planner[train]'",
        )


def load_step(name: str, *, batch_size: int | None = None) -> Step:
    """What the function called `name` returns, its shape checked. `batch_size` is given to it as
    `batch_size=`, or as `batch=` where it calls it so. Raises UsageError."""
    require_torch()
    factory = _factory(name)
    arguments = {} if batch_size is None else {_size_name(factory, name): batch_size}
    try:
        made = factory(**arguments)
    except PoetError:
        raise
    except Exception as error:  # noqa: BLE001  The user's code may raise anything.
        _refuse_failure(f"{printable(name)}()", error)
    return checked_step(made, name)


def _factory(name: str) -> Callable[..., Any]:
    module_name, _, function = name.partition(":")
    of_file = module_name.endswith(".py") and (Path(module_name).is_file() or "/" in module_name)
    if of_file or not re.fullmatch(r"\w+(\.\w+)*", module_name) or not function.isidentifier():
        raise UsageError(
            f"Expected MODULE:FUNCTION such as examples.mlp:step, got {printable(name, 60)!r}.",
            code="step_name_invalid",
            hint=_as_module(module_name, function),
        )
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UsageError(
                f"There is no module {printable(error.name)!r} here.",
                code="step_module_missing",
                hint="Run from the folder that holds it, or install it.",
            ) from error
        _refuse_failure(f"importing {module_name}", error)
    except PoetError:
        raise
    except Exception as error:  # noqa: BLE001  As above.
        _refuse_failure(f"importing {module_name}", error)
    made = getattr(module, function, None)
    if not callable(made):
        raise UsageError(
            f"Module {module_name} has no function {printable(function, 60)!r}.",
            code="step_function_missing",
            hint=f"{_nearest(module, function)}It should return {_SHAPE}.",
        )
    return made  # type: ignore[no-any-return]


def _as_module(module_name: str, function: str) -> str:
    """What to write, as far as what was written says."""
    parts = re.findall(r"\w+", module_name.removesuffix(".py"))
    if not parts or len(module_name) > 200:
        return "Name a module that can be imported from here, not a file."
    meant = f"{'.'.join(parts)}:{function if function.isidentifier() else 'step'}"
    return f"Name a module that can be imported from here, not a file: {meant}"


@contextmanager
def advised(name: str) -> Iterator[None]:
    """What goes wrong with the step `name` in this block is told with what to write instead."""
    try:
        yield
    except PoetError as error:
        from poet_cli.check.trace_advice import explained

        told = explained(error, name, Path.cwd())
        if told is error:
            raise
        raise told from error


def _nearest(module: ModuleType, function: str) -> str:
    """Asks whether one of the module's own functions with a similar name was meant."""
    from difflib import get_close_matches

    known = [name for name, one in vars(module).items() if callable(one) and name[0] != "_"]
    near = get_close_matches(function[:64], known, n=1, cutoff=0.5)
    return f"Did you mean {module.__name__}:{near[0]}? " if near else ""


def _size_name(factory: Callable[..., Any], name: str) -> str:
    """What the function calls its batch size."""
    import inspect

    try:
        parameters = list(inspect.signature(factory).parameters.values())
    except (TypeError, ValueError):  # some written in C say nothing of themselves
        parameters = []
    for wanted in ("batch_size", "batch"):
        if any(one.name == wanted and one.kind is not one.POSITIONAL_ONLY for one in parameters):
            return wanted
    if any(one.kind is one.VAR_KEYWORD for one in parameters):
        return "batch_size"
    function = printable(name.partition(":")[2], 60)
    raise UsageError(
        f"Expected {printable(name, 60)} to take batch_size, which a batch size is given by.",
        code="step_batch_size",
        hint=f"Write def {function}(batch_size=8): and make the batch that large.",
    )


def checked_step(made: Any, name: str) -> Step:
    """`made` where it is what a step's function called `name` should return. Raises UsageError."""
    import torch

    if not isinstance(made, tuple) or len(made) != 4:
        got = f"a tuple of {len(made)}" if isinstance(made, tuple) else type(made).__name__
        _refuse_shape(name, f"a tuple {_SHAPE}", got)
    model, loss_fn, optimizer, batch = made
    if not isinstance(model, torch.nn.Module):
        _refuse_shape(name, "a torch.nn.Module first", type(model).__name__)
    if not callable(loss_fn):
        _refuse_shape(name, "a callable loss second", type(loss_fn).__name__)
    if not isinstance(optimizer, torch.optim.Optimizer):
        _refuse_shape(name, "a torch.optim.Optimizer third", type(optimizer).__name__)
    if not isinstance(batch, tuple) or len(batch) < 2:
        got = f"a tuple of {len(batch)}" if isinstance(batch, tuple) else type(batch).__name__
        _refuse_shape(name, "a tuple (input, ..., target) last", got)
    return model, loss_fn, optimizer, batch


def _refuse_shape(name: str, expected: str, got: str) -> NoReturn:
    raise UsageError(
        f"Expected {printable(name, 60)} to return {expected}, got {printable(got, 60)}.",
        code="step_shape",
        hint=f"Return {_SHAPE}; the batch's last element is the target.",
    )


def _refuse_failure(what: str, error: Exception) -> NoReturn:
    own = str(Path(__file__).parent)
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<frozen"))
    ]
    place = f" at {frames[-1].filename}:{frames[-1].lineno}" if frames else ""
    raise UsageError(
        f"Failed while {printable(what)}: {type(error).__name__}: "
        f"{printable(str(error), 300)}{printable(place, 300)}.",
        code="step_failed",
        hint="Set POET_DEBUG=1 to see the traceback.",
    ) from error
