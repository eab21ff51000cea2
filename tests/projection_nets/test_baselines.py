"""The baselines: as large as they say, and as right as chance and counting make them."""

import pytest
import torch

from poet_core.errors import UsageError
from projection_nets.baselines import (
    BagOfWords,
    MostFrequent,
    RandomClasses,
    linear_model,
    smaller_net,
)
from projection_nets.data.examples import LabelledExamples
from projection_nets.metrics import evaluate


def size(model):
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("parameters", [810, 1210, 6010, 7210, 78218, 187146, 217866])
def test_a_smaller_net_has_as_many_parameters_as_fit(parameters):
    found = size(smaller_net(784, 10, parameters=parameters))
    assert found <= parameters < found + 784 + 1 + 10


def test_no_net_is_smaller_than_one_unit():
    with pytest.raises(UsageError) as caught:
        smaller_net(784, 10, parameters=804)
    assert caught.value.code == "baseline_invalid"


def test_the_linear_model_is_one_layer():
    assert size(linear_model(784, 10)) == 7850


def test_random_classes_are_right_as_often_as_chance():
    labels = torch.arange(20_000) % 20
    examples = LabelledExamples(inputs=(torch.zeros(20_000, 1),), labels=labels)
    found = evaluate(RandomClasses(20, seed=1), examples)
    for k in (1, 3, 5):
        assert found[k] == pytest.approx(k / 20, abs=0.012)


def test_most_frequent_ranks_by_the_training_labels():
    model = MostFrequent(torch.tensor([2, 2, 2, 0, 0, 1]), 4)
    examples = LabelledExamples(inputs=(torch.zeros(4, 1),), labels=torch.tensor([2, 0, 1, 3]))
    assert evaluate(model, examples, ks=(1, 2, 3, 4)) == {1: 0.25, 2: 0.5, 3: 0.75, 4: 1.0}


def test_a_bag_of_words_ignores_padding_and_order():
    torch.manual_seed(0)
    model = BagOfWords(9, 3)
    assert not model(torch.tensor([[4, 5]])).any()
    torch.nn.init.normal_(model.votes.weight)
    one = model(torch.tensor([[4, 5, 0, 0]]))
    other = model(torch.tensor([[5, 4, 0, 0]]))
    assert torch.allclose(one, other)
    assert torch.allclose(one, model(torch.tensor([[4, 5]])))
    assert not torch.allclose(one, model(torch.tensor([[4, 6]])))
