"""The example models are the published ones, and each step takes a batch size."""

import inspect

import pytest
import torch
from torch import nn

from examples import (
    bert,
    gpt2,
    lenet,
    lstm,
    mlp,
    mobilenet,
    projection,
    resnet,
    unet,
    vgg,
    vit,
)

# Parameters as published, or as the papers' layers add up to.
PARAMETERS = {
    "LeNet-5": (lenet.LeNet5, 61_706),
    "MobileNetV2": (mobilenet.MobileNetV2, 3_504_872),
    "MobileNetV2, 0.5": (lambda: mobilenet.MobileNetV2(width=0.5), 1_968_680),
    "ResNet-18": (resnet.ResNet, 11_689_512),
    "ResNet-50": (lambda: resnet.ResNet(depth=50), 25_557_032),
    "U-Net": (unet.UNet, 31_030_658),
    "VGG-16": (vgg.VGG16, 138_357_544),
}
STEPS = [
    mlp.step, lenet.step, lstm.step, projection.step, projection.step_sgd, bert.step, bert.step_tiny,
    gpt2.step, gpt2.step_tiny, vit.step, vit.step_tiny, resnet.step, resnet.step_small,
    resnet.step_50, vgg.step, vgg.step_small, mobilenet.step, mobilenet.step_small, unet.step,
    unet.step_small,
]  # fmt: skip
SMALL = [
    mlp.step, lenet.step, lstm.step, bert.step_tiny, gpt2.step_tiny, vit.step_tiny,
    resnet.step_small, vgg.step_small, mobilenet.step_small, unet.step_small,
]  # fmt: skip


def named(step):
    return f"{step.__module__.removeprefix('examples.')}-{step.__name__}"


@pytest.mark.parametrize("name", PARAMETERS)
def test_a_model_has_its_published_parameters(name):
    build, count = PARAMETERS[name]
    with torch.device("meta"):
        assert sum(one.numel() for one in build().parameters()) == count


@pytest.mark.parametrize("step", STEPS, ids=named)
def test_every_step_runs_as_it_is_and_takes_a_batch_size(step):
    parameters = inspect.signature(step).parameters.values()
    assert all(one.default is not one.empty for one in parameters)
    assert "batch_size" in {one.name for one in parameters}


@pytest.mark.parametrize("step", SMALL, ids=named)
def test_the_batch_is_as_large_as_asked_and_the_loss_a_number(step):
    model, loss_fn, optimizer, batch = step(batch_size=3)
    assert isinstance(model, nn.Module)
    assert isinstance(optimizer, torch.optim.Optimizer)
    assert {item.shape[0] for item in batch} == {3}
    loss = loss_fn(model(*batch[:-1]), batch[-1])
    assert loss.shape == ()
    assert torch.isfinite(loss)


def test_u_nets_mask_is_as_large_as_its_image():
    model = unet.UNet(width=4, classes=3)
    assert model(torch.rand(2, 1, 48, 32)).shape == (2, 3, 48, 32)
