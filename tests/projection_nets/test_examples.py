"""The example steps: published sizes, runnable, reproducible, and free to construct when faked."""

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode

from examples import bert, gpt2, lstm, mlp, parts, projection, resnet, vgg, vit
from poet_core.errors import UsageError

FULL_STEPS = {
    projection.step: 2_797_010 + 7_210,
    projection.step_sgd: 2_797_010 + 7_210,
    mlp.step: 784 * 256 + 256 + 256 * 256 + 256 + 2570,
    vgg.step: 138_357_544,  # torchvision's VGG-16
    resnet.step: 11_689_512,  # torchvision's ResNet-18
    lstm.step: 5000 * 100 + 2 * (4 * 100 * 200 + 8 * 100) + 2020,
    # transformers' BertForMaskedLM of bert-base-uncased, less its 2 x 768 segment embeddings
    bert.step: 109_514_298 - 2 * 768,
    gpt2.step: 124_439_808,  # transformers' GPT2LMHeadModel of gpt2
    vit.step: 86_567_656,  # torchvision's vit_b_16
}
SMALL_STEPS = [
    projection.step,
    mlp.step,
    vgg.step_small,
    resnet.step_small,
    lstm.step,
    bert.step_tiny,
    gpt2.step_tiny,
    vit.step_tiny,
]


def name_of(step):
    return f"{step.__module__}.{step.__name__}"


def loss_of(model, loss_fn, batch):
    return loss_fn(model(*batch[:-1]), batch[-1])


@pytest.mark.parametrize("step", FULL_STEPS, ids=name_of)
def test_faked_construction_has_the_published_size_and_trains(step):
    with FakeTensorMode():
        model, loss_fn, optimizer, batch = step()
        loss = loss_of(model, loss_fn, batch)
        loss.backward()
        optimizer.step()
    assert sum(parameter.numel() for parameter in model.parameters()) == FULL_STEPS[step]
    assert loss.shape == ()
    held = [*model.parameters(), *model.buffers(), *batch]
    assert all(isinstance(tensor, FakeTensor) for tensor in held)


@pytest.mark.parametrize("step", FULL_STEPS, ids=name_of)
def test_construction_on_the_meta_device_allocates_nothing(step):
    with torch.device("meta"):
        model, _, _, batch = step()
    assert all(t.is_meta for t in [*model.parameters(), *model.buffers(), *batch])


@pytest.mark.parametrize("step", SMALL_STEPS, ids=name_of)
def test_steps_train(step):
    model, loss_fn, optimizer, batch = step()
    assert model.training
    losses = []
    for _ in range(8):
        optimizer.zero_grad()
        loss = loss_of(model, loss_fn, batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert min(losses[4:]) < losses[0]


@pytest.mark.parametrize("step", SMALL_STEPS, ids=name_of)
def test_a_factory_gives_the_same_step_each_time_and_spares_the_callers_generator(step):
    before = torch.get_rng_state()
    first, _, _, first_batch = step()
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(3)
    second, _, _, second_batch = step()
    assert all(map(torch.equal, first.parameters(), second.parameters()))
    assert all(map(torch.equal, first_batch, second_batch))


def test_the_projection_batch_is_raw_pixels():
    pixels = projection.step()[3][0]
    assert pixels.shape == (200, 784)
    assert torch.equal(pixels, pixels.round().clamp(0, 255))
    assert pixels.max() == 255


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam", "adamw"])
def test_optimizers_hold_all_parameters(name):
    model = torch.nn.Linear(2, 3)
    optimizer = parts.optimizer_named(name, model)
    assert [id(p) for p in optimizer.param_groups[0]["params"]] == [
        id(p) for p in model.parameters()
    ]


def test_an_unknown_optimizer_is_refused():
    with pytest.raises(UsageError) as caught:
        mlp.step(optimizer="lion")
    assert caught.value.code == "optimizer_unknown"


def test_bert_agrees_with_pytorchs_own_encoder_layer():
    shape = bert.BertShape(vocabulary=9, positions=8, width=16, heads=4, feed_forward=24, dropout=0)
    layer = bert.EncoderLayer(shape)
    attention = layer.attention
    own = torch.nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0, activation="gelu", layer_norm_eps=1e-12, batch_first=True
    )
    with torch.no_grad():
        parts_of_input = (attention.query, attention.key, attention.value)
        own.self_attn.in_proj_weight.copy_(torch.cat([p.weight for p in parts_of_input]))
        own.self_attn.in_proj_bias.copy_(torch.cat([p.bias for p in parts_of_input]))
        own.self_attn.out_proj.load_state_dict(attention.output.state_dict())
        own.linear1.load_state_dict(layer.fc1.state_dict())
        own.linear2.load_state_dict(layer.fc2.state_dict())
    states = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(states), own(states))


def test_vit_agrees_with_pytorchs_own_encoder_layer():
    shape = vit.VitShape(width=16, heads=4, feed_forward=24, dropout=0)
    layer = vit.EncoderLayer(shape)
    own = torch.nn.TransformerEncoderLayer(
        16, 4, 24, dropout=0, activation="gelu", layer_norm_eps=1e-6, batch_first=True,
        norm_first=True,
    )  # fmt: skip
    with torch.no_grad():
        own.self_attn.in_proj_weight.copy_(layer.attention.joint.weight)
        own.self_attn.in_proj_bias.copy_(layer.attention.joint.bias)
        own.self_attn.out_proj.load_state_dict(layer.attention.output.state_dict())
        own.linear1.load_state_dict(layer.fc1.state_dict())
        own.linear2.load_state_dict(layer.fc2.state_dict())
    states = torch.randn(3, 8, 16, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(layer(states), own(states))


def test_gpt2_agrees_with_the_published_program():
    transformers = pytest.importorskip(
        "transformers", reason="Hugging Face transformers is missing"
    )

    shape = gpt2.Gpt2Shape(vocabulary=30, positions=8, width=16, layers=2, heads=4, dropout=0)
    model = gpt2.Gpt2(shape)
    published = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(vocab_size=30, n_positions=8, n_embd=16, n_layer=2, n_head=4)
    ).eval()
    with torch.no_grad():
        body = published.transformer
        body.wte.weight.copy_(model.words.weight)
        body.wpe.weight.copy_(model.positions.weight)
        for layer, block in zip(model.layers, body.h, strict=True):
            for own, theirs in (
                (layer.attention.joint, block.attn.c_attn),
                (layer.attention.output, block.attn.c_proj),
                (layer.fc1, block.mlp.c_fc),
                (layer.fc2, block.mlp.c_proj),
            ):
                theirs.weight.copy_(own.weight.T)  # it stores them the other way round
                theirs.bias.copy_(own.bias)
    tokens = torch.tensor([[1, 5, 29, 0, 7], [2, 2, 3, 4, 5]])
    torch.testing.assert_close(model(tokens), published(tokens).logits)


def test_gpt2_sees_nothing_of_what_comes_after():
    model, _, _, (tokens, _) = gpt2.step_tiny()
    model.eval()
    changed = tokens.clone()
    changed[:, 9] = (changed[:, 9] + 1) % gpt2.TINY.vocabulary
    before, after = model(tokens), model(changed)
    assert torch.equal(before[:, :9], after[:, :9])
    assert not torch.equal(before[:, 9:], after[:, 9:])


def test_masked_token_loss_counts_only_masked_positions():
    logits = torch.randn(2, 3, 5)
    target = torch.full((2, 3), bert.NOT_MASKED)
    target[1, 2] = 4
    expected = -logits[1, 2].log_softmax(dim=0)[4]
    torch.testing.assert_close(bert.masked_token_loss(logits, target), expected)
