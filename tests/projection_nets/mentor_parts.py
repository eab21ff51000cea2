"""A small mentor, a smaller mentee, and data that a mentor can have learned."""

import torch
from torch import nn

from projection_nets import Student, Teacher
from projection_nets.data.examples import LabelledExamples

PIXELS, SIDE, CLASSES = 64, 8, 4


def mentor():
    """Layers "one" (8 x 4 x 4), "two" (12 x 2 x 2), "hidden" (16)."""
    layers = nn.Sequential()
    layers.add_module("input", nn.Unflatten(1, (1, SIDE, SIDE)))
    layers.add_module(
        "one", nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2))
    )  # fmt: skip
    layers.add_module(
        "two", nn.Sequential(nn.Conv2d(8, 12, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    )
    layers.add_module("hidden", nn.Sequential(nn.Flatten(), nn.Linear(48, 16), nn.Dropout(0.5)))
    layers.add_module("classifier", nn.Linear(16, CLASSES))
    return layers


def mentee():
    """Layers "one" (4 x 4 x 4), "hidden" (6)."""
    layers = nn.Sequential()
    layers.add_module("input", nn.Unflatten(1, (1, SIDE, SIDE)))
    layers.add_module(
        "one", nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
    )
    layers.add_module("hidden", nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU()))
    layers.add_module("classifier", nn.Linear(6, CLASSES))
    return layers


def examples(count=60):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (count, PIXELS), generator=generator).float()
    return LabelledExamples(inputs=(pixels,), labels=pixels[:, :CLASSES].argmax(dim=1))


def teacher(net=None):
    return Teacher(net=mentor() if net is None else net, divisor=255.0)


def student(**options):
    options = {"distillation_weight": 0.5, "temperature": 3.0, **options}
    return Student(net=options.pop("net", None) or mentee(), divisor=255.0, **options)
