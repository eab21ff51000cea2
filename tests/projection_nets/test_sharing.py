"""Weight sharing: a codebook a layer, gradients added up per code, indices in the file."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import nn

from poet_core.errors import DataError, UsageError
from projection_nets import ProjectionNet
from projection_nets.model_file import model_bytes, read_model, write_model
from projection_nets.model_header import checked_header
from projection_nets.reader import load, logits_of
from projection_nets.sharing import SharedTraining, codebook
from projection_nets.stored import restored, stored

HEADS = [{}, {"hidden": 7}, {"lookup": True}]


def net(**options):
    torch.manual_seed(1)
    made = ProjectionNet(20, 5, T=6, d=4, seed=3, **options)
    for parameter in made.parameters():
        nn.init.normal_(parameter)
    return made


@pytest.fixture
def inputs():
    return torch.randint(0, 256, (40, 20), generator=torch.Generator().manual_seed(0)).float()


@given(
    arrays.arrays(np.float32, st.integers(1, 40), elements=st.floats(-5, 5, width=32)),
    st.sampled_from([4, 16]),
)
def test_every_weight_is_at_its_nearest_code_and_codes_beat_even_spacing(weights, entries):
    codes, places = codebook(weights, entries)
    assert codes.shape == (entries,)
    distances = np.abs(weights[:, None].astype(np.float64) - codes)
    chosen = np.take_along_axis(distances, places[:, None], axis=1)[:, 0]
    assert (chosen <= distances.min(axis=1) + 1e-5).all()
    even = np.linspace(weights.min(), weights.max(), entries)
    error = (np.abs(weights[:, None].astype(np.float64) - even).min(axis=1) ** 2).sum()
    assert (chosen**2).sum() <= error + 1e-6


def test_few_different_weights_are_kept_exactly():
    weights = np.array([[0.5, -1.0], [2.0, 0.5]], np.float32)
    codes, places = codebook(weights, 4)
    assert np.array_equal(codes[places], weights)


def test_the_gradient_of_a_code_is_the_sum_over_its_weights(inputs):
    shared = SharedTraining(net(), 2)
    plain = restored(shared.stored())
    for model in (shared, plain):
        nn.functional.cross_entropy(model(inputs), torch.zeros(40, dtype=torch.int64)).backward()
    places = shared.places[0]
    sums = torch.zeros(4).index_add(0, places.flatten(), plain.head.weight.grad.flatten())
    assert torch.allclose(shared.codes[0].grad, sums, atol=1e-6)
    assert torch.equal(shared.net.head.bias.grad, plain.head.bias.grad)


@pytest.mark.parametrize("shared_bits", [2, 4, 8])
@pytest.mark.parametrize("options", HEADS)
def test_what_is_shipped_answers_as_training_did(options, shared_bits, inputs, tmp_path):
    shared = SharedTraining(net(**options), shared_bits)
    optimizer = torch.optim.Adam([p for p in shared.parameters() if p.requires_grad], lr=0.1)
    labels = torch.arange(40) % 5
    before = nn.functional.cross_entropy(shared(inputs), labels).item()
    for _ in range(10):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(shared(inputs), labels)
        loss.backward()
        optimizer.step()
    assert loss.item() < before
    path = tmp_path / "m.poet"
    size = write_model(path, shared.stored())
    assert size == path.stat().st_size
    assert torch.allclose(restored(read_model(path))(inputs), shared(inputs), atol=1e-5)
    read = logits_of(load(str(path)), inputs.numpy().astype(np.uint8))
    assert np.allclose(read, shared(inputs).detach().numpy(), atol=1e-4)


def test_a_file_has_the_codebook_and_the_packed_indices():
    shared = SharedTraining(net(hidden=7), 4)
    content = model_bytes(shared.stored())
    length = int.from_bytes(content[8:12], "little")
    # two layers: 16 codes each, 24 x 7 and 7 x 5 indices of half a byte, biases of 7 and 5
    assert len(content) - 12 - length - 32 == 2 * 64 + 84 + 18 + 4 * (7 + 5)
    assert checked_header(content[12 : 12 + length]).layers[0].weight == "shared4"
    plain = model_bytes(stored(net(hidden=7)))
    assert len(plain) - len(content) > 4 * (24 * 7 + 7 * 5) - 2 * 64 - 102 - 16


def test_untouched_rows_of_a_lookup_are_not_shipped(inputs):
    made = net(lookup=True)
    with torch.no_grad():
        made.head.table[10:] = 0
    shared = SharedTraining(made, 2)
    assert shared.stored().rows.sum() == 10
    assert torch.allclose(restored(shared.stored())(inputs), shared(inputs), atol=1e-6)


def test_only_codes_and_biases_learn(inputs):
    shared = SharedTraining(net(hidden=7), 4)
    learns = {name for name, p in shared.named_parameters() if p.requires_grad}
    assert learns == {"codes.0", "codes.1", "net.head.0.bias", "net.head.2.bias"}


def test_other_widths_and_too_many_weights_are_refused():
    with pytest.raises(UsageError) as caught:
        SharedTraining(net(), 3)
    assert caught.value.code == "sharing_invalid"
    from dataclasses import replace

    model = stored(net())
    lying = replace(model, layers=(replace(model.layers[0], shared_bits=2),))
    with pytest.raises(DataError) as refused:
        model_bytes(lying)
    assert refused.value.code == "model_not_storable"
