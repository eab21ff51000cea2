"""Data for joint training: MNIST from its IDX files, scikit-learn's digits, seeded minibatches.

idx.py      reads IDX files, gzipped or raw
images.py   LabelledImages and ImageSplits: what training and evaluation see
mnist.py    the full protocol, 55k / 5k / 10k
digits.py   the fallback that needs no download
batches.py  minibatches as a pure function of (seed, step)
"""

from projection_nets.data.batches import minibatches
from projection_nets.data.digits import digits
from projection_nets.data.images import ImageSplits, LabelledImages
from projection_nets.data.mnist import mnist, mnist_or_digits

__all__ = [
    "ImageSplits",
    "LabelledImages",
    "digits",
    "minibatches",
    "mnist",
    "mnist_or_digits",
]
