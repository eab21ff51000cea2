"""The trainers: sizes, shapes, and that what stands after a text's end does not count."""

import pytest
import torch

from poet_core.errors import UsageError
from projection_nets import trainers

VOCABULARY, CLASSES, LENGTH = 50, 4, 7


def parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def lstm(**options):
    torch.manual_seed(0)
    return trainers.LstmTrainer(VOCABULARY, CLASSES, **options)


def transformer(**options):
    torch.manual_seed(0)
    sizes = {"length": LENGTH, "width": 16, "heads": 4, "feed_forward": 24} | options
    return trainers.TransformerTrainer(VOCABULARY, CLASSES, **sizes)


@pytest.fixture
def tokens():
    generator = torch.Generator().manual_seed(1)
    return torch.randint(1, VOCABULARY, (5, LENGTH), generator=generator)


def test_the_convolutional_trainer_sees_images():
    torch.manual_seed(0)
    model = trainers.convolutional(10, channels=3, side=8, maps=(4, 6), hidden=5, dropout=0.1)
    expected = (3 * 9 * 4 + 4) + (4 * 9 * 6 + 6) + (6 * 2 * 2 * 5 + 5) + (5 * 10 + 10)
    assert parameters(model) == expected
    assert model(torch.rand(2, 192)).shape == (2, 10)


def test_the_lstm_has_the_papers_layers():
    assert parameters(lstm()) == VOCABULARY * 100 + 2 * (4 * 100 * 200 + 8 * 100) + 404


@pytest.mark.parametrize("build", [lstm, transformer])
def test_padding_does_not_change_the_answer(build, tokens):
    model = build().eval()
    padded = torch.cat([tokens[:, :4], torch.zeros(5, 3, dtype=torch.int64)], dim=1)
    torch.testing.assert_close(model(padded), model(tokens[:, :4]))
    assert not torch.allclose(model(padded), model(tokens))
    assert model(torch.zeros_like(tokens)).isfinite().all()


@pytest.mark.parametrize("build", [lstm, transformer])
def test_text_trainers_learn_the_order_of_words(build):
    # the class is in the order of two tokens, which a bag of words cannot tell
    tokens = torch.tensor([[1, 2], [2, 1]])
    model = build(dropout=0.1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(tokens), torch.tensor([0, 1])).backward()
        optimizer.step()
    assert model.eval()(tokens).argmax(dim=1).tolist() == [0, 1]


def test_a_width_that_the_heads_do_not_divide_is_refused():
    with pytest.raises(UsageError) as caught:
        transformer(width=15)
    assert caught.value.code == "trainer_invalid"
