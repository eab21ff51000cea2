"""Program <-> document: a traced step as JSON, to be run where nothing can trace.

An op is a name: an operator of torch, a function of this package, the update of a numbered rule, or
one of these with its outputs copied into the traced layout, or run in the last call of a round only. Values are JSON, with objects of one
key for what JSON has not: {"spec": [...]}, {"tuple": [...]}, {"float": hex}, {"dtype": name}, ...

Invariant: reading a document calls nothing that its text names; it looks names up in torch.ops and
in this package only. What cannot be written is refused when it is written.
"""

from __future__ import annotations

import importlib
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import torch

from poet_core.errors import DocumentError, ReplayError
from poet_core.graph_document import graph_from_document, graph_to_document
from poet_core.units import LARGEST_INTEGER
from poet_runtime.isolated.rules import inner_rule, micro_batches_of
from poet_runtime.isolated.tensors import dtype_named
from poet_runtime.kernels import AsTraced
from poet_runtime.program import Binding, OpCall, Owner, Program, TensorSpec
from poet_runtime.step_options import StepOptions
from poet_runtime.tracing.micro_batches import OnLastCall

_PACKAGE = "poet_runtime."
_FIELDS = {"graph", "calls", "bindings", "loss", "update_rules", "options"}
_LEFT_OUT = {"splits"}  # a report on the calls, which are written as they are


def program_to_document(program: Program) -> dict[str, Any]:
    """The program without its update rules and the values of its constants, which are state.

    Raises ReplayError (`step_not_portable`) where a call is made of something that has no name.
    """
    if {field.name for field in fields(program)} != _FIELDS | _LEFT_OUT:
        # A worker must not train a step without a part that it does not know.
        raise _not_portable("a part that this module does not know")
    if program.device.type != "cpu":
        raise _not_portable(f"tensors on {program.device}")
    return {
        "graph": graph_to_document(program.graph),
        "calls": [
            [
                _function_out(call.function, program.update_rules),
                encoded(call.args),
                {name: encoded(value) for name, value in call.kwargs.items()},
                [encoded(spec) for spec in call.outputs],
            ]
            for call in program.calls
        ],
        "bindings": [
            [encoded(b.spec), b.owner.name, b.name, b.state_key, b.position, b.part]
            for b in program.bindings
        ],
        "loss": encoded(program.loss),
        "options": {
            field.name: encoded(getattr(program.options, field.name))
            for field in fields(program.options)
        },
    }


def program_from_document(
    document: Mapping[str, Any],
    update_rules: Sequence[Any],
    constants: Mapping[int, torch.Tensor],
) -> Program:
    """The program. `constants`: by storage. Raises DocumentError."""
    try:
        return Program(
            graph=graph_from_document(document["graph"]),
            calls=tuple(_call_in(call, update_rules) for call in document["calls"]),
            bindings=tuple(_binding_in(binding, constants) for binding in document["bindings"]),
            loss=decoded(document["loss"]),
            update_rules=tuple(update_rules),
            options=StepOptions(
                **{name: decoded(value) for name, value in document["options"].items()}
            ),
        )
    except (KeyError, ValueError, TypeError, AttributeError, IndexError, ImportError) as error:
        raise DocumentError(
            f"The document of the step cannot be read: {error!r:.200}.",
            code="step_invalid",
            hint="Write it with the same version of poet-planner and torch that reads it.",
        ) from error


def encoded(value: Any) -> Any:
    """A constant of a call as a JSON value. Raises ReplayError (`step_not_portable`)."""
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        # JSON readers keep no larger ones exactly; ATen's "to the end" is 2**63 - 1.
        return value if abs(value) <= LARGEST_INTEGER else {"int": str(value)}
    if isinstance(value, float):
        return {"float": value.hex()}
    if isinstance(value, TensorSpec):
        return {
            "spec": [value.storage, str(value.dtype), list(value.size), list(value.stride),
                     value.offset]
        }  # fmt: skip
    if isinstance(value, tuple):
        return {"tuple": [encoded(item) for item in value]}
    if isinstance(value, list):
        return [encoded(item) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: encoded(item) for key, item in value.items()}}
    for name, kind in _NAMED.items():
        if isinstance(value, kind):
            return {name: str(value).removeprefix("torch.")}
    raise _not_portable(f"a value of type {type(value).__name__}")


def decoded(value: Any) -> Any:
    """The constant that `encoded` wrote."""
    if isinstance(value, list):
        return [decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    ((name, content),) = value.items()
    return _READERS[name](content)


def _spec_in(content: Sequence[Any]) -> TensorSpec:
    storage, dtype, size, stride, offset = content
    return TensorSpec(
        storage=storage,
        dtype=dtype_named(dtype),
        size=tuple(size),
        stride=tuple(stride),
        offset=offset,
    )


def _attribute_of_torch(kind: type) -> Callable[[str], Any]:
    def read(name: str) -> Any:
        found = getattr(torch, name)
        if not isinstance(found, kind):
            raise TypeError(f"{name[:40]!r} is no {kind.__name__}")
        return found

    return read


_NAMED = {
    "dtype": torch.dtype,
    "layout": torch.layout,
    "memory_format": torch.memory_format,
    "device": torch.device,
}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float.fromhex,
    "spec": _spec_in,
    "tuple": lambda content: tuple(decoded(item) for item in content),
    "dict": lambda content: {key: decoded(item) for key, item in content.items()},
    "device": torch.device,
    **{name: _attribute_of_torch(kind) for name, kind in _NAMED.items() if name != "device"},
}


def _function_out(function: Any, rules: Sequence[Any]) -> dict[str, Any]:
    if isinstance(function, torch._ops.OpOverload):
        return {"operator": str(function)}
    if isinstance(function, AsTraced):
        outputs = [encoded(spec) for spec in function.outputs]
        return {"as_traced": [_function_out(function.function, rules), outputs]}
    if isinstance(function, OnLastCall):
        return {"on_last_call": _function_out(function.function, rules)}
    if isinstance(function, types.MethodType) and function.__name__ == "update":
        owner = function.__self__
        numbers = [number for number, rule in enumerate(rules) if inner_rule(rule) is owner]
        if numbers:
            return {"update": numbers[0]}
    module, name = getattr(function, "__module__", None), getattr(function, "__name__", "")
    if isinstance(function, types.FunctionType) and isinstance(module, str):
        ours = module.startswith(_PACKAGE)
        if ours and getattr(importlib.import_module(module), name, None) is function:
            return {"function": [module, name]}
    raise _not_portable(f"the function {function!r:.80}")


def _function_in(document: Mapping[str, Any], rules: Sequence[Any]) -> Callable[..., Any]:
    ((name, content),) = document.items()
    if name == "operator":
        library, packet, overload = content.split(".")
        operator = getattr(getattr(getattr(torch.ops, library), packet), overload)
        if not isinstance(operator, torch._ops.OpOverload):
            raise ValueError(f"{content[:60]!r} is no operator")
        return operator
    if name == "as_traced":
        inner, outputs = content
        return AsTraced(_function_in(inner, rules), tuple(map(decoded, outputs)))
    if name == "on_last_call":
        micro_batches = micro_batches_of(rules)
        if micro_batches is None:
            raise ValueError("a call waits for the last of a round that nobody counts")
        return OnLastCall(_function_in(content, rules), micro_batches)
    if name == "update":
        update: Callable[..., Any] = inner_rule(rules[content]).update
        return update
    if name == "function":
        module, attribute = content
        if module.startswith(_PACKAGE):  # before anything is imported
            function = getattr(importlib.import_module(module), attribute)
            if isinstance(function, types.FunctionType):
                return function
    raise ValueError(f"a function that is not ours: {document!r:.80}")


def _call_in(call: Sequence[Any], rules: Sequence[Any]) -> OpCall:
    function, args, kwargs, outputs = call
    return OpCall(
        function=_function_in(function, rules),
        args=decoded(args),
        kwargs={name: decoded(value) for name, value in kwargs.items()},
        outputs=tuple(map(decoded, outputs)),
    )


def _binding_in(binding: Sequence[Any], constants: Mapping[int, torch.Tensor]) -> Binding:
    spec, owner, name, state_key, position, part = binding
    where = decoded(spec)
    return Binding(
        spec=where,
        owner=Owner[owner],
        name=name,
        state_key=state_key,
        position=position,
        value=constants.get(where.storage),
        part=None if part is None else (int(part[0]), int(part[1])),
    )


def _not_portable(what: str) -> ReplayError:
    return ReplayError(
        f"The step cannot be written to a file: it has {what} in it.",
        code="step_not_portable",
        hint="Train in this process (without isolation), and report the model.",
    )
