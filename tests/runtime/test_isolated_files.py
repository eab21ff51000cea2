"""What travels to a worker: tensors and programs, there and back, and what is refused."""

from __future__ import annotations

import json
import math
import weakref
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from poet_core.baseline import keep_everything
from poet_core.errors import DataError, DocumentError, ReplayError
from poet_core.graph_document import graph_sha256
from poet_runtime.isolated.job import STEP, Job, write_job
from poet_runtime.isolated.program import (
    decoded,
    encoded,
    program_from_document,
    program_to_document,
)
from poet_runtime.isolated.tensors import Key, read_tensors, shape_of, write_tensors
from poet_runtime.program import TensorSpec
from poet_runtime.tracing.trace import trace
from tests.runtime.replay_parts import hand_made_plan
from tests.runtime.step_parts import batches, norm_and_dropout

TENSORS: dict[Key, torch.Tensor] = {
    ("model", "a.weight"): torch.arange(12, dtype=torch.float32).view(3, 4).t(),
    ("model", "nan"): torch.tensor([math.nan, -0.0, math.inf]),
    ("optimizer", "a", "step"): torch.tensor(3.0),
    ("model", "empty"): torch.empty(0, 5),
    ("model", "half"): torch.arange(3000).to(torch.bfloat16),
    ("model", "flags"): torch.tensor([True, False]),
}


def write(path: Path) -> None:
    shapes = [shape_of(key, tensor) for key, tensor in TENSORS.items()]
    write_tensors(path, shapes, TENSORS.values())


def test_tensors_come_back_with_their_bits(tmp_path: Path) -> None:
    write(tmp_path / "t")
    found = read_tensors(tmp_path / "t")
    assert found.tensors.keys() == TENSORS.keys()
    for key, tensor in TENSORS.items():
        again = found.tensors[key]
        assert (again.dtype, again.shape) == (tensor.dtype, tensor.shape)
        expected = tensor.contiguous().view(-1).view(torch.uint8)
        assert torch.equal(again.reshape(-1).view(torch.uint8), expected)


def test_a_value_is_gone_before_the_next_is_made(tmp_path: Path) -> None:
    """Two of the largest at once are more than a cap may leave."""
    made: list[weakref.ref[torch.Tensor]] = []
    large = torch.zeros(3 << 20)  # more than a piece of what is written at once

    def value(number: int) -> torch.Tensor:
        tensor = large + number
        made.append(weakref.ref(tensor))
        return tensor

    def values() -> Iterator[torch.Tensor]:
        for number in range(3):
            assert all(earlier() is None for earlier in made)
            yield value(number)

    shapes = [shape_of(("model", str(number)), large) for number in range(3)]
    write_tensors(tmp_path / "t", shapes, values())
    found = read_tensors(tmp_path / "t").tensors
    assert all(torch.equal(found["model", str(n)], large + n) for n in range(3))


def test_writing_to_a_tensor_changes_no_file(tmp_path: Path) -> None:
    write(tmp_path / "t")
    before = (tmp_path / "t").read_bytes()
    found = read_tensors(tmp_path / "t")
    found.tensors["model", "nan"].fill_(1)
    found.forget_pages()
    assert (tmp_path / "t").read_bytes() == before
    assert math.isnan(found.tensors["model", "nan"][0])  # as it is in the file


@pytest.mark.parametrize("damage", ["cut", "magic", "table", "offset", "negative"])
def test_a_file_that_is_not_whole_is_refused(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "t"
    write(path)
    data = bytearray(path.read_bytes())
    table_end = 16 + int.from_bytes(data[8:16], "little")
    if damage == "cut":
        data = data[:8192]
    elif damage == "magic":
        data[0] ^= 1
    elif damage == "table":
        data[table_end - 1] ^= 1
    else:
        old, new = (b", 4096]", b", 9096]") if damage == "offset" else (b"[3000]", b"[-300]")
        assert old in data
        data = data.replace(old, new)
    path.write_bytes(data)
    with pytest.raises(DataError) as caught:
        read_tensors(path)
    assert caught.value.code == "tensors_invalid"


@pytest.mark.parametrize(
    "value",
    [
        None, True, 7, -(2**63), 2**63 - 1, "mean", 0.1, math.inf, -0.0,
        (1, (2, 3)), [1, [2.5, None]], {"a": (1,)}, torch.float16, torch.strided,
        torch.channels_last, torch.device("cpu"),
        TensorSpec(storage=3, dtype=torch.int64, size=(2, 3), stride=(3, 1), offset=4),
    ],
)  # fmt: skip
def test_constants_come_back_as_they_were(value: object) -> None:
    again = decoded(json.loads(json.dumps(encoded(value))))
    assert again == value
    assert type(again) is type(value)
    assert math.copysign(1, again) == -1 if value == 0.0 and value is not False else True


def test_what_has_no_name_is_refused() -> None:
    program = traced()
    calls = (replace(program.calls[0], function=partial(torch.add)), *program.calls[1:])
    for odd in (
        replace(program, calls=calls),
        replace(program, calls=(replace(program.calls[0], args=(object(),)), *calls[1:])),
        replace(program, calls=(replace(program.calls[0], function=_local), *calls[1:])),
    ):
        with pytest.raises(ReplayError) as caught:
            program_to_document(odd)
        assert caught.value.code == "step_not_portable"


def _local(tensor: torch.Tensor) -> torch.Tensor:
    """A function, but none of the package's."""
    return tensor


def traced() -> Any:
    return trace(*norm_and_dropout(), batches(norm_and_dropout, 1)[0])


def test_a_program_comes_back_as_it_was() -> None:
    program = traced()
    document = json.loads(json.dumps(program_to_document(program)))
    again = program_from_document(document, program.update_rules, {})
    assert graph_sha256(again.graph) == graph_sha256(program.graph)
    assert (again.bindings, again.loss) == (program.bindings, program.loss)
    assert again.options == program.options
    assert program_to_document(again) == program_to_document(program)
    for one, other in zip(program.calls, again.calls, strict=True):
        assert (one.args, dict(one.kwargs), one.outputs) == (
            other.args, dict(other.kwargs), other.outputs,
        )  # fmt: skip


@pytest.mark.parametrize(
    "function",
    [
        {"function": ["os", "system"]},
        {"function": ["poet_runtime.flash.pager", "os"]},
        {"operator": "aten.add"},
        {"operator": "aten.nothing.default"},
        {"update": 99},
        {"eval": "1"},
    ],
)
def test_a_function_that_is_not_ours_is_not_looked_for(function: dict[str, Any]) -> None:
    document = program_to_document(traced())
    document["calls"][0][0] = function
    with pytest.raises(DocumentError) as caught:
        program_from_document(document, (), {})
    assert caught.value.code == "step_invalid"


def test_another_torch_is_refused(tmp_path: Path) -> None:
    program = traced()
    model, _, optimizer = norm_and_dropout()
    plan = hand_made_plan(program.graph, keep_everything(program.graph))
    batch = batches(norm_and_dropout, 1)[0]
    write_job(tmp_path, program, plan, model, optimizer, batch, threads=1)
    document = json.loads((tmp_path / STEP).read_text())
    (tmp_path / STEP).write_text(json.dumps(document | {"torch": "1.0"}))
    with pytest.raises(DocumentError) as caught:
        Job(tmp_path)
    assert caught.value.code == "step_other_torch"
