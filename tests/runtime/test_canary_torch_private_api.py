"""The private parts of PyTorch that the runtime stands on. After an upgrade, look here first."""

from __future__ import annotations

import inspect

import torch
import torch.fx.traceback
from torch import nn


def test_the_version_is_the_one_that_all_of_this_was_checked_with() -> None:
    assert torch.__version__.startswith("2.13.")


def test_joint_export_and_its_descriptors() -> None:
    from torch._functorch._aot_autograd import descriptors
    from torch._functorch.aot_autograd import aot_export_joint_with_descriptors

    parameters = list(inspect.signature(aot_export_joint_with_descriptors).parameters)
    assert parameters[:3] == ["stack", "mod", "args"]
    for name in (
        "ParamAOTInput", "BufferAOTInput", "PlainAOTInput", "TangentAOTInput",
        "PlainAOTOutput", "GradAOTOutput", "InputMutationAOTOutput",
    ):  # fmt: skip
        assert inspect.isclass(getattr(descriptors, name)), name


def test_fake_tensors() -> None:
    from torch._subclasses import fake_tensor

    mode = fake_tensor.FakeTensorMode(allow_non_fake_inputs=True)
    with mode:
        base = torch.empty(4, 4)
        view = base.t()
        copy = base.clone()
    assert base.untyped_storage()._cdata == view.untyped_storage()._cdata
    assert base.untyped_storage()._cdata != copy.untyped_storage()._cdata
    with mode, fake_tensor.unset_fake_temporarily():
        assert not isinstance(torch.empty(1), fake_tensor.FakeTensor)
    assert issubclass(fake_tensor.DataDependentOutputException, Exception)
    assert issubclass(fake_tensor.DynamicOutputShapeException, Exception)


def test_module_paths_travel_in_node_metadata() -> None:
    assert callable(torch.fx.traceback.annotate)
    assert callable(torch.fx.traceback.preserve_node_meta)


def test_the_flags_behind_is_compiling() -> None:
    assert torch.compiler._is_compiling_flag is False
    assert torch.compiler._is_exporting_flag is False


def test_schemas_tell_aliases_and_mutation() -> None:
    assert torch.ops.aten.view.default._schema.returns[0].alias_info is not None
    assert torch.ops.aten.add.Tensor._schema.returns[0].alias_info is None
    assert torch.ops.aten.add_.Tensor._schema.is_mutable
    # a view that does not say so: named in poet_runtime.tracing.storages
    assert torch.ops.aten._unsafe_view.default._schema.returns[0].alias_info is None
    base = torch.rand(4)
    assert torch.ops.aten._unsafe_view(base, [2, 2]).data_ptr() == base.data_ptr()


def test_random_ops_are_tagged() -> None:
    assert torch.Tag.nondeterministic_seeded in torch.ops.aten.native_dropout.default.tags
    assert torch.Tag.nondeterministic_seeded not in torch.ops.aten.mm.default.tags


def test_the_legacy_profiler_reports_the_allocators_events() -> None:
    from torch._C._autograd import _disable_profiler_legacy, _enable_profiler_legacy
    from torch._C._profiler import ProfilerConfig, ProfilerState, _ExperimentalConfig

    config = ProfilerConfig(
        ProfilerState.CPU, False, True, False, False, False, _ExperimentalConfig()
    )
    _enable_profiler_legacy(config)
    kept = torch.empty(1000, dtype=torch.uint8)
    del kept
    records = _disable_profiler_legacy()
    sizes = [
        event.cpu_memory_usage()
        for thread in records
        for event in thread
        if event.kind() == "memory_alloc"
    ]
    assert sizes == [1000, -1000]


def test_eager_dropout_and_the_traced_one_give_the_same_bits() -> None:
    values = torch.randn(1000)
    for probability in (0.1, 0.3, 0.5):
        torch.manual_seed(3)
        eager = nn.functional.dropout(values, probability)
        torch.manual_seed(3)
        traced, _ = torch.ops.aten.native_dropout(values, probability, True)
        assert torch.equal(eager, traced)


def test_flop_counts_take_output_values() -> None:
    from torch.utils.flop_counter import flop_registry

    one, other = torch.empty(2, 3, device="meta"), torch.empty(3, 5, device="meta")
    count = flop_registry[torch.ops.aten.mm]
    assert count(one, other, out_val=one @ other) == 2 * 2 * 3 * 5


def test_memory_can_be_locked_for_a_gpu() -> None:
    from torch.cuda import _pin_memory_utils

    assert list(inspect.signature(_pin_memory_utils.pin_memory).parameters) == ["data_ptr", "size"]
    assert list(inspect.signature(_pin_memory_utils.unpin_memory).parameters) == ["data_ptr"]


def test_optimizers_default_to_the_loop_whose_arithmetic_the_rules_follow() -> None:
    from torch.optim.optimizer import _default_to_fused_or_foreach

    fused, foreach = _default_to_fused_or_foreach(
        [nn.Parameter(torch.ones(1))], differentiable=False, use_fused=False
    )
    assert (fused, foreach) == (False, False)
