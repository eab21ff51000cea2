"""Data sets from their published files (POET_DATA), scikit-learn's digits, seeded minibatches.

idx.py       reads IDX files, gzipped or raw
images.py    LabelledImages and ImageSplits: what training and evaluation see
mnist.py     MNIST and Fashion-MNIST, 55k / 5k / 10k
cifar.py     CIFAR-100 in its binary version
digits.py    the fallback that needs no download
reading.py   bounded, strict reading of text and JSON
texts.py     LabelledTexts, a vocabulary, texts as tensors
intents.py   CLINC150, BANKING77, SNIPS
examples.py  what a batch is; LabelledExamples, tensors side by side
batches.py   minibatches as a pure function of (seed, step)
"""

from projection_nets.data.batches import minibatches
from projection_nets.data.cifar import cifar100
from projection_nets.data.digits import digits
from projection_nets.data.examples import Labelled, LabelledExamples
from projection_nets.data.images import ImageSplits, LabelledImages
from projection_nets.data.intents import banking77, clinc150, snips
from projection_nets.data.mnist import fashion_mnist, mnist, mnist_or_digits
from projection_nets.data.texts import LabelledTexts, TextSplits, Vocabulary, as_examples

__all__ = [
    "ImageSplits",
    "Labelled",
    "LabelledExamples",
    "LabelledImages",
    "LabelledTexts",
    "TextSplits",
    "Vocabulary",
    "as_examples",
    "banking77",
    "cifar100",
    "clinc150",
    "digits",
    "fashion_mnist",
    "minibatches",
    "mnist",
    "mnist_or_digits",
    "snips",
]
