"""A text classifier: embedding, two LSTM layers of 100, and the last state's class.

The shape is that of Ravi 2017, section 4.3 (intents, 20 classes). Sequences have one fixed length.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from examples.parts import Step, optimizer_named, seeded


class LstmClassifier(nn.Module):
    """Token numbers (batch, length) -> (batch, classes)."""

    def __init__(self, *, vocabulary: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.lstm = nn.LSTM(width, width, num_layers=layers, batch_first=True)
        self.head = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(tokens))
        logits: Tensor = self.head(states[:, -1])
        return logits


def step(
    *,
    batch_size: int = 32,
    length: int = 24,
    vocabulary: int = 5000,
    width: int = 100,
    layers: int = 2,
    classes: int = 20,
    optimizer: str = "adam",
    seed: int = 0,
) -> Step:
    """Two layers of 100, 24 tokens, cross-entropy, Adam, batch 32."""
    with seeded(seed):
        model = LstmClassifier(vocabulary=vocabulary, width=width, layers=layers, classes=classes)
        tokens = torch.randint(0, vocabulary, (batch_size, length))
        labels = torch.randint(0, classes, (batch_size,))
    loss = nn.functional.cross_entropy
    return model, loss, optimizer_named(optimizer, model), (tokens, labels)
