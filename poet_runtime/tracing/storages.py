"""From nodes to storages: which tensors share memory, and what each op reads and writes.

Views are not ops: a view is a TensorSpec (size, stride, offset) on the storage of its base. The
exported program does not keep aliasing in its metadata, so it is run once more, node by node, on
fake tensors. An output is a view where the op's schema allows it (`alias_info`) *and* the fake
output shares its input's storage; so `reshape` is a view or a copy, whichever happens. Invariant:
every other tensor output owns a storage of its own, which `measure` checks on real tensors.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx.node import map_aggregate
from torch.utils import _pytree as pytree

from poet_core.errors import TraceError
from poet_core.graph import Phase, Role
from poet_runtime.kernels import runnable, true_output
from poet_runtime.program import TensorSpec
from poet_runtime.torch_device import CPU, devices_mixed
from poet_runtime.tracing.aten_export import JointProgram
from poet_runtime.tracing.drafts import Block, Draft
from poet_runtime.tracing.flops import flops_of
from poet_runtime.tracing.subject import MODULE_KEY

# Views without alias information in their schema: "unsafe" tells autograd not to track the view.
_UNDECLARED_VIEWS = frozenset({"aten._unsafe_view"})


@dataclass(slots=True, kw_only=True)
class Lowered:
    """The program as drafts. The mappings are by the model's names."""

    device: torch.device = CPU
    blocks: list[Block] = field(default_factory=list)
    drafts: list[Draft] = field(default_factory=list)
    parameters: dict[str, TensorSpec] = field(default_factory=dict)
    buffers: dict[str, TensorSpec] = field(default_factory=dict)
    batch: list[TensorSpec] = field(default_factory=list)
    constants: list[tuple[TensorSpec, Tensor | None]] = field(default_factory=list)
    gradients: dict[str, TensorSpec] = field(default_factory=dict)
    new_buffers: dict[str, TensorSpec] = field(default_factory=dict)
    loss: TensorSpec | None = None  # until the walk has reached it

    def add_block(self, block: Block) -> int:
        """Takes up a storage; returns its provisional number."""
        self.blocks.append(block)
        return len(self.blocks) - 1


def lower(joint: JointProgram) -> Lowered:
    """Turn the exported program into drafts. Raises TraceError."""
    return _Lowering(joint).run()


class _Lowering:
    """One walk over the nodes. `_values[node]` is its fake value, `_specs[node]` where that lies."""

    def __init__(self, joint: JointProgram) -> None:
        self._joint = joint
        self._device = joint.device
        self._result = Lowered(device=joint.device)
        self._values: dict[torch.fx.Node, Any] = {}
        self._specs: dict[torch.fx.Node, Any] = {}
        self._block_at: dict[int, int] = {}
        self._constants: dict[str, torch.fx.Node] = {}

    def run(self) -> Lowered:
        joint, result = self._joint, self._result
        for name, node in joint.parameters.items():
            result.parameters[name] = self._begin(node, name, Role.PARAMETER)
        for name, node in joint.buffers.items():
            result.buffers[name] = self._begin(node, name, Role.BUFFER)
        for position, node in enumerate(joint.batch):
            result.batch.append(self._begin(node, f"batch.{position}", Role.INPUT))
        with joint.mode:
            for node in joint.module.graph.nodes:
                self._visit(node)
        # Outside of the mode: inside, every operation on a real tensor gives a fake one.
        result.constants = [
            (spec, None if value is None else value.detach()) for spec, value in result.constants
        ]
        result.gradients = {name: self._specs[node] for name, node in joint.gradients.items()}
        result.new_buffers = {
            name: self._apart(self._specs[node], f"{name}.new")
            for name, node in joint.new_buffers.items()
        }
        result.loss = self._apart(self._specs[joint.loss], "loss")
        # The exported program lists the seed of the backward pass among its inputs.
        result.drafts.sort(key=lambda draft: draft.phase is Phase.BACKWARD)
        return result

    def _begin(self, node: torch.fx.Node, name: str, role: Role) -> TensorSpec:
        """A tensor that exists before the step."""
        fake = node.meta["val"]
        self._values[node] = fake
        spec = self._fresh(fake, name, role, persistent=role is not Role.INPUT)
        self._specs[node] = spec
        return spec

    def _fresh(
        self, fake: Tensor, name: str, role: Role, *, persistent: bool = False
    ) -> TensorSpec:
        if fake.device != self._device:
            raise devices_mixed(f"{name} on {fake.device} in a step on {self._device}")
        storage = fake.untyped_storage()
        block = Block(name=name, size_bytes=storage.nbytes(), role=role, persistent=persistent)
        number = self._block_at[storage._cdata] = self._result.add_block(block)
        return _spec(fake, number)

    def _visit(self, node: torch.fx.Node) -> None:
        if node in self._values or node.op == "output":
            return
        if node is self._joint.tangent:
            self._seed(node)
        elif node.op == "get_attr":
            self._constant(node)
        elif node.target is operator.getitem:
            source, index = node.args
            assert isinstance(source, torch.fx.Node)
            self._values[node] = self._values[source][index]
            self._specs[node] = self._specs[source][index]
        elif node.op == "call_function" and isinstance(node.target, torch._ops.OpOverload):
            self._call(node, node.target)
        else:
            raise _unsupported(node, "is not an ATen operator")

    def _seed(self, node: torch.fx.Node) -> None:
        """The gradient of the loss with respect to itself is one, as backward() has it."""
        fake = self._values[node] = node.meta["val"]
        spec = self._specs[node] = self._fresh(fake, node.name, Role.GRADIENT)
        op = torch.ops.aten.full.default
        draft = Draft(
            name=node.name,
            kind=_kind(op),
            phase=Phase.BACKWARD,
            function=op,
            args=(list(fake.shape), 1.0),
            kwargs={"dtype": fake.dtype, "device": self._device},
            outputs=(spec,),
            flops=fake.numel(),
        )
        self._result.drafts.append(draft)

    def _constant(self, node: torch.fx.Node) -> None:
        """A tensor that the model holds without having registered it."""
        target = str(node.target)
        if target in self._constants:
            known = self._constants[target]
            self._values[node], self._specs[node] = self._values[known], self._specs[known]
            return
        self._constants[target] = node
        value = operator.attrgetter(target)(self._joint.module)
        if not isinstance(value, Tensor):
            raise _unsupported(node, f"holds a {type(value).__name__}")
        if value.device != self._device and not value.is_meta:
            raise devices_mixed(f"a constant of the model, {target}, on {value.device}")
        # A storage of its own: the constant may be a slice of something large.
        fake = torch.empty_strided(
            value.size(), value.stride(), dtype=value.dtype, device=self._device
        )
        self._values[node] = fake
        name = f"constant.{len(self._result.constants)}"
        spec = self._specs[node] = self._fresh(fake, name, Role.BUFFER, persistent=True)
        without_value = isinstance(value, FakeTensor) or value.is_meta
        self._result.constants.append((spec, None if without_value else value))

    def _call(self, node: torch.fx.Node, op: torch._ops.OpOverload) -> None:
        if op._schema.is_mutable:
            raise _unsupported(node, "changes its arguments")
        args: Any = map_aggregate(node.args, self._value)
        kwargs: Any = map_aggregate(node.kwargs, self._value)
        output = op(*args, **kwargs)
        if self._device.type == "cpu":
            output = true_output(op, args, output)
        declared = str(op.overloadpacket) in _UNDECLARED_VIEWS or any(
            value.alias_info is not None for value in op._schema.returns
        )
        leaves = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, Tensor)]
        if any(leaf.is_complex() for leaf in leaves):
            raise _unsupported(node, "gives complex numbers")
        known = [leaf.untyped_storage()._cdata in self._block_at for leaf in leaves]
        if declared and leaves and all(known):
            self._values[node] = output
            self._specs[node] = pytree.tree_map_only(Tensor, self._viewed, output)
            return
        if declared and any(known):
            raise _unsupported(node, "returns views beside new tensors")
        output = pytree.tree_map_only(Tensor, self._owned, output)
        self._values[node] = output
        self._specs[node] = self._fill(node, output)
        self._result.drafts.append(self._draft(node, op, output, args, kwargs))

    def _value(self, item: Any) -> Any:
        return self._values[item] if isinstance(item, torch.fx.Node) else item

    def _place(self, item: Any) -> Any:
        return self._specs[item] if isinstance(item, torch.fx.Node) else item

    def _viewed(self, fake: Tensor) -> TensorSpec:
        return _spec(fake, self._block_at[fake.untyped_storage()._cdata])

    def _owned(self, fake: Tensor) -> Tensor:
        """Where a fake kernel returns its input and the real one a copy: a storage of its own."""
        if fake.untyped_storage()._cdata not in self._block_at:
            return fake
        return torch.empty_strided(
            fake.size(), fake.stride(), dtype=fake.dtype, device=self._device
        )

    def _fill(self, node: torch.fx.Node, output: Any) -> Any:
        role = Role.GRADIENT if _phase(node) is Phase.BACKWARD else Role.ACTIVATION
        if isinstance(output, Tensor):
            return self._fresh(output, node.name, role)
        if not isinstance(output, tuple | list):
            raise _unsupported(node, f"gives a {type(output).__name__}")
        specs: list[TensorSpec | None] = []
        for position, item in enumerate(output):
            if item is not None and not isinstance(item, Tensor):
                raise _unsupported(node, f"gives a {type(item).__name__}")
            fresh = item is not None and self._fresh(item, f"{node.name}.{position}", role)
            specs.append(fresh or None)
        return specs

    def _draft(
        self,
        node: torch.fx.Node,
        op: torch._ops.OpOverload,
        output: Any,
        args: Any,
        kwargs: Mapping[str, Any],
    ) -> Draft:
        specs = self._specs[node]
        called_args, called_kwargs = (
            _plain(map_aggregate(item, self._place)) for item in (node.args, node.kwargs)
        )
        outputs = (specs,) if isinstance(specs, TensorSpec) else tuple(specs)
        return Draft(
            name=node.name,
            kind=_kind(op),
            phase=_phase(node),
            module=str(node.meta.get("custom", {}).get(MODULE_KEY, "")),
            function=runnable(op, outputs),
            args=tuple(called_args),
            kwargs=called_kwargs,
            outputs=outputs,
            flops=flops_of(op, args, kwargs, output),
            random=_draws_random_numbers(op, args, kwargs),
        )

    def _apart(self, spec: TensorSpec, name: str) -> TensorSpec:
        """`spec`, or a copy of it where its storage exists before the step: others change that."""
        if self._result.blocks[spec.storage].transient:
            return spec
        fake = torch.empty_strided(spec.size, spec.stride, dtype=spec.dtype, device="meta")
        storage = self._result.add_block(
            Block(name=name, size_bytes=fake.untyped_storage().nbytes(), role=Role.ACTIVATION)
        )
        copy = TensorSpec(storage=storage, dtype=spec.dtype, size=spec.size, stride=spec.stride)
        op = torch.ops.aten.clone.default
        self._result.drafts.append(
            Draft(name=name, kind=_kind(op), phase=Phase.FORWARD, function=op, args=(spec,),
                  outputs=(copy,), flops=fake.numel())
        )  # fmt: skip
        return copy


def _spec(tensor: Tensor, storage: int) -> TensorSpec:
    return TensorSpec(
        storage=storage,
        dtype=tensor.dtype,
        size=tuple(tensor.shape),
        stride=tuple(tensor.stride()),
        offset=int(tensor.storage_offset()),
    )


def _kind(op: torch._ops.OpOverload) -> str:
    return str(op)


def _phase(node: torch.fx.Node) -> Phase:
    backward = node.meta.get("partitioner_tag") == "is_backward"
    return Phase.BACKWARD if backward else Phase.FORWARD


def _draws_random_numbers(
    op: torch._ops.OpOverload, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> bool:
    """Whether the call uses the generator. Attention is tagged for its dropout even without."""
    if torch.Tag.nondeterministic_seeded not in op.tags:
        return False
    for position, argument in enumerate(op._schema.arguments):
        if argument.name == "dropout_p":
            given = args[position] if position < len(args) else kwargs.get("dropout_p")
            return bool(argument.default_value if given is None else given)
    return True


def _plain(value: Any) -> Any:
    """fx's immutable lists and dicts as ordinary ones."""
    if isinstance(value, TensorSpec):
        return value
    if isinstance(value, tuple):
        return tuple(_plain(item) for item in value)
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _unsupported(node: torch.fx.Node, why: str) -> TraceError:
    return TraceError(
        f"Expected functional ATen operators, got {node.target!s:.100}, which {why}.",
        code="op_unsupported",
        hint="Write this part of the model with ordinary tensor operations.",
        details={"op": str(node.target)[:100]},
    )
