"""Quantization-aware training: the forward pass of training is that of the exported integers."""

import numpy as np
import pytest
import torch
from torch import nn

from poet_core.errors import DataError, UsageError
from projection_nets import NetOnBits, ProjectionNet
from projection_nets.model_file import read_model, write_model
from projection_nets.packing import PackedBits
from projection_nets.quantize import QuantizedNet, integer_logits, quantized
from projection_nets.quantized_training import QuantizedTraining
from projection_nets.spec import ProjectionSpec
from projection_nets.stored import stored

SPEC = ProjectionSpec(in_features=20, functions=6, bits=4, seed=3)
HEADS = [{}, {"hidden": 7}, {"hidden": (9, 5)}, {"lookup": True}]


def net(**options):
    torch.manual_seed(1)
    made = NetOnBits(PackedBits(SPEC), 5, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


def examples(count=60):
    generator = torch.Generator().manual_seed(0)
    packed = torch.randint(
        0, 256, (count, SPEC.packed_bytes), dtype=torch.uint8, generator=generator
    )
    return packed, torch.randint(0, 5, (count,), generator=generator)


def trained(careful, steps=20, rate=0.05):
    packed, labels = examples()
    optimizer = torch.optim.Adam(careful.parameters(), lr=rate)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(careful(packed), labels)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def bits_of(packed):
    return np.unpackbits(packed.numpy(), axis=1, count=SPEC.projected_bits, bitorder="little")


@pytest.mark.parametrize("weight_bits", [8, 4])
@pytest.mark.parametrize("options", HEADS)
def test_the_forward_of_training_is_that_of_the_exported_integers(options, weight_bits):
    careful = QuantizedTraining(net(**options), weight_bits)
    trained(careful)
    packed, _ = examples()
    model = careful.stored()
    integers = integer_logits(model, bits_of(packed))
    unit = careful.scales.prod().item()
    assert torch.equal(careful(packed), (torch.from_numpy(integers).double() * unit).float())
    assert np.unique(integers).size > 20  # not all zero


def test_training_lowers_the_loss_through_the_rounding():
    losses = trained(QuantizedTraining(net(hidden=16), 4), steps=60)
    assert losses[-1] < losses[0] / 3


def test_scales_stay_until_they_are_refreshed_and_then_are_the_exports():
    careful = QuantizedTraining(net(), 8)
    before = careful.scales.clone()
    trained(careful)
    assert torch.equal(careful.scales, before)
    careful.refresh_scales()
    assert not torch.equal(careful.scales, before)
    after = [layer.scale for layer in quantized(stored(careful.net), 8).layers]
    assert careful.scales.tolist() == after


def test_a_weight_beyond_the_range_gets_no_gradient_and_the_largest_integer():
    careful = QuantizedTraining(net(), 8)
    with torch.no_grad():
        careful.net.head.weight[0, 0] = 10 * 127 * careful.scales[0]
    packed, labels = examples()
    nn.functional.cross_entropy(careful(packed), labels).backward()
    gradient = careful.net.head.weight.grad
    assert gradient[0, 0] == 0
    assert (gradient[:, 1:] != 0).any()
    assert careful.stored().layers[0].weight[0, 0] == 127


def test_rows_that_nothing_touches_stay_zero():
    made = net(lookup=True)
    with torch.no_grad():
        made.head.table[::2] = 0
    packed, _ = examples(4)
    careful = QuantizedTraining(made, 8)
    optimizer = torch.optim.Adam(careful.parameters(), lr=0.1)
    careful(packed).square().sum().backward()
    optimizer.step()
    named = set(made.head.rows(made.lsh(packed)).unique().tolist())
    moved = set(made.head.touched().nonzero()[:, 0].tolist())
    assert moved <= named | set(range(1, len(made.head.table), 2))


def test_the_exported_file_is_the_quantized_net(tmp_path):
    torch.manual_seed(0)
    small = ProjectionNet(20, 5, T=6, d=4, hidden=7)
    careful = QuantizedTraining(small, 4)
    inputs = torch.randint(0, 256, (30, 20)).float()
    write_model(tmp_path / "m.poet", careful.stored())
    again = QuantizedNet(read_model(tmp_path / "m.poet"))
    unit = careful.scales.prod()
    assert torch.equal((again(inputs) * unit).float(), careful(inputs))


def test_what_cannot_be_quantized_is_refused():
    with pytest.raises(UsageError) as caught:
        QuantizedTraining(net(), 3)
    assert caught.value.code == "quantization_invalid"
    with pytest.raises(DataError) as refused:
        QuantizedTraining(ProjectionNet(4, 2, T=2, d=2, encoder=nn.Linear(4, 4)), 8)
    assert refused.value.code == "model_not_storable"
