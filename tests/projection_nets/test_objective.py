"""The joint loss against the paper's formula, its gradients, and that it traces to a fixed graph."""

import numpy as np
import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from poet_core.errors import UsageError
from projection_nets import JointObjective, JointOutputs, ProjectionNet, trainers


def joint(**options):
    torch.manual_seed(0)
    return JointObjective(
        trainer=trainers.feed_forward(20, 4, hidden=(8, 8)),
        projection=ProjectionNet(20, 4, T=5, d=3),
        **options,
    )


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (16, 20), generator=generator).float()
    return pixels, torch.randint(0, 4, (16,), generator=generator)


def numpy_terms(outputs, target):
    def log_softmax(logits):
        shifted = logits - logits.max(axis=1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))

    trainer, projection = (log_softmax(x.detach().double().numpy()) for x in outputs)
    rows = np.arange(len(target))
    return [
        -trainer[rows, target.numpy()].mean(),
        -(np.exp(trainer) * projection).sum(axis=1).mean(),
        -projection[rows, target.numpy()].mean(),
    ]


@pytest.mark.parametrize("weights", [(1.0, 0.1, 1.0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 3, 5)])
def test_the_loss_is_equation_1_and_2(batch, weights):
    pixels, target = batch
    model = joint(weights=weights)
    outputs = model(pixels)
    expected = float(np.dot(weights, numpy_terms(outputs, target)))
    assert model.loss(outputs, target).item() == pytest.approx(expected, rel=1e-5)


def test_the_trainer_sees_scaled_pixels_and_the_projection_raw_ones(batch):
    pixels, _ = batch
    model = joint()
    outputs = model(pixels)
    assert isinstance(outputs, JointOutputs)
    assert torch.equal(outputs.trainer, model.trainer(pixels / 255))
    assert torch.equal(outputs.projection, model.projection(pixels))


def distillation_gradient(batch, **options):
    pixels, target = batch
    model = joint(weights=(0, 1, 0), **options)
    model.loss(model(pixels), target).backward()
    return model


def test_by_default_distillation_also_moves_the_trainer_as_in_the_paper(batch):
    model = distillation_gradient(batch)
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.trainer[-1].parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.projection.parameters())


def test_the_trainers_distillation_gradient_is_right():
    model = joint(weights=(1.0, 0.1, 1.0))
    target = torch.tensor([0, 3])
    logits = [torch.randn(2, 4, dtype=torch.float64, requires_grad=True) for _ in range(2)]
    assert torch.autograd.gradcheck(
        lambda trainer, projection: model.loss(
            JointOutputs(trainer=trainer, projection=projection), target
        ),
        logits,
    )


def test_a_detached_teacher_is_not_moved_by_distillation(batch):
    model = distillation_gradient(batch, detach_teacher=True)
    assert all(parameter.grad is None for parameter in model.trainer.parameters())
    assert all(parameter.grad.abs().sum() > 0 for parameter in model.projection.parameters())


def test_detaching_changes_gradients_and_not_the_loss(batch):
    pixels, target = batch
    losses = [
        model.loss(model(pixels), target).item() for model in (joint(), joint(detach_teacher=True))
    ]
    assert losses[0] == losses[1]


def test_a_term_of_weight_zero_is_not_in_the_graph(batch):
    pixels, target = batch
    model = joint(weights=(0, 0, 1))
    model.loss(model(pixels), target).backward()
    assert all(parameter.grad is None for parameter in model.trainer.parameters())


def test_no_gradient_reaches_the_projection_matrix(batch):
    pixels, target = batch
    model = joint()
    model.loss(model(pixels), target).backward()
    assert not model.projection.lsh.matrix.requires_grad
    assert model.projection.lsh.matrix.grad is None


def test_the_step_traces_to_a_fixed_graph_with_eagers_own_results(batch):
    pixels, target = batch
    model = joint()
    names = [name for name, _ in model.named_parameters()]

    def losses_and_gradients(weights, inputs, labels):
        outputs = torch.func.functional_call(model, dict(zip(names, weights, strict=True)), inputs)
        loss = model.loss(outputs, labels)
        return loss, torch.autograd.grad(loss, weights)

    weights = [parameter.detach().clone().requires_grad_() for parameter in model.parameters()]
    traced = make_fx(losses_and_gradients, tracing_mode="fake", _allow_non_fake_inputs=True)(
        weights, pixels, target
    )
    flipped = pixels.flip(0)
    loss, gradients = losses_and_gradients(weights, flipped, target)
    traced_loss, traced_gradients = traced(weights, flipped, target)
    assert torch.equal(loss, traced_loss)
    assert all(map(torch.equal, gradients, traced_gradients))


@pytest.mark.parametrize(
    "weights", [(0, 0, 0), (1, -0.1, 1), (1, float("nan"), 1), (1, 1), (1, 1, 1, 1)]
)
def test_senseless_weights_are_refused(weights):
    with pytest.raises(UsageError) as caught:
        joint(weights=weights)
    assert caught.value.code == "weights_invalid"


def test_a_temperature_softens_the_distillation_alone(batch):
    pixels, target = batch
    model = joint(weights=(0, 1, 0), temperature=3.0)
    outputs = model(pixels)
    softer = [logits / 3 for logits in outputs]
    expected = 9 * numpy_terms(softer, target)[1]
    assert model.loss(outputs, target).item() == pytest.approx(expected, rel=1e-5)
    labels = (1, 0, 1)
    assert joint(weights=labels, temperature=3.0).loss(outputs, target) == joint(
        weights=labels
    ).loss(outputs, target)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("inf")])
def test_senseless_temperatures_are_refused(temperature):
    with pytest.raises(UsageError) as caught:
        joint(temperature=temperature)
    assert caught.value.code == "weights_invalid"
