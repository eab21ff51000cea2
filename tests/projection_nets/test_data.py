"""MNIST's protocol, the digits fallback, and minibatches that are a function of (seed, step)."""

import gzip
import hashlib
import itertools
import shutil

import numpy as np
import pytest
import torch

from poet_core.errors import DataError, UsageError
from projection_nets.data import LabelledImages, digits, minibatches, mnist, mnist_or_digits
from projection_nets.data.digits import upsampled
from projection_nets.data.images import labelled


@pytest.fixture(scope="module")
def splits(poet_data):
    if not (poet_data / "mnist").is_dir():
        pytest.skip("no mnist/ in the folder of data sets")
    return mnist(poet_data)


@pytest.fixture
def counted():
    """57 images, each all of its own number, labelled by it."""
    numbers = np.arange(57, dtype=np.uint8)
    return labelled(np.repeat(numbers, 4).reshape(57, 2, 2), numbers, classes=57, name="counted")


def test_mnist_has_the_full_protocol(splits):
    assert [len(part) for part in (splits.train, splits.validation, splits.test)] == [
        55_000,
        5_000,
        10_000,
    ]
    assert splits.train.pixels.shape == (55_000, 784)
    # class counts of the published set, training and test
    whole = torch.cat([splits.train.labels, splits.validation.labels])
    assert torch.bincount(whole).tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip
    assert torch.bincount(splits.test.labels).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip


def test_held_out_images_are_apart_and_chosen_by_the_seed(splits, poet_data):
    def digests(part):
        return {hashlib.sha256(row.tobytes()).digest() for row in part.pixels.numpy()}

    # MNIST's training images are all different, so content identifies an image
    assert not digests(splits.train) & digests(splits.validation)
    again, other = mnist(poet_data), mnist(poet_data, seed=1)
    assert torch.equal(again.validation.pixels, splits.validation.pixels)
    assert not torch.equal(other.validation.pixels, splits.validation.pixels)


def test_mislabelled_mnist_is_refused(poet_data, tmp_path):
    source = poet_data / "mnist"
    if not source.is_dir():
        pytest.skip("no mnist/ in the folder of data sets")
    folder = tmp_path / "mnist"
    folder.mkdir()
    shutil.copy(source / "t10k-labels-idx1-ubyte.gz", folder / "train-labels-idx1-ubyte.gz")
    shutil.copy(source / "train-images-idx3-ubyte.gz", folder)
    with pytest.raises(DataError) as caught:
        mnist_or_digits(tmp_path)
    assert caught.value.code == "data_counts_differ"
    assert "10000 labels for 60000 images" in caught.value.message


def test_swapped_files_and_other_shapes_are_refused(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    header = bytes((0, 0, 8, 1)) + (1).to_bytes(4, "big") + b"\3"
    (folder / "train-images-idx3-ubyte").write_bytes(header)
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    assert caught.value.code == "idx_magic"
    small = bytes((0, 0, 8, 3)) + b"".join(n.to_bytes(4, "big") for n in (1, 2, 2)) + bytes(4)
    (folder / "train-images-idx3-ubyte").write_bytes(small)
    (folder / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(header))
    with pytest.raises(DataError) as caught:
        mnist(tmp_path)
    assert caught.value.code == "data_shape"


def test_a_label_beyond_the_classes_is_refused():
    with pytest.raises(DataError) as caught:
        labelled(np.zeros((2, 1, 1), np.uint8), np.array([1, 7], np.uint8), classes=7, name="x")
    assert caught.value.code == "data_label_invalid"


@pytest.mark.parametrize("present", [False, True])
def test_digits_step_in_where_there_is_no_mnist(tmp_path, present):
    splits = mnist_or_digits(tmp_path if present else None)
    assert splits.name == "digits"


def test_digits_have_mnists_shape_and_range():
    splits = digits()
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [1400, 97, 300]
    for part in parts:
        assert part.pixels.shape[1] == 784
        assert part.pixels.dtype == torch.uint8
        assert part.labels.unique().tolist() == list(range(10))
    assert splits.train.pixels.max() == 255


def test_upsampling_is_bilinear():
    images = np.random.default_rng(0).integers(0, 17, (3, 8, 8))
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(images * 255 / 16)[:, None], size=(28, 28), mode="bilinear"
    )[:, 0]
    # at most half a unit of rounding away from PyTorch's own, in double precision
    assert np.abs(upsampled(images) - expected.numpy()).max() <= 0.5 + 1e-9


def test_batches_are_float_pixels_with_their_own_labels(counted):
    for pixels, labels in minibatches(counted, seed=0, steps=12, batch_size=10):
        assert pixels.dtype == torch.float32
        assert pixels.tolist() == [[float(label)] * 4 for label in labels]


def test_an_epoch_shows_no_image_twice_and_drops_the_rest(counted):
    labels = [batch[1].tolist() for batch in minibatches(counted, seed=3, steps=10, batch_size=10)]
    assert [len(batch) for batch in labels] == [10] * 10
    epochs = [list(itertools.chain(*labels[:5])), list(itertools.chain(*labels[5:]))]
    assert all(len(set(epoch)) == 50 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_batches_resume_where_they_stopped(counted):
    def run(**options):
        return [y.tolist() for _, y in minibatches(counted, seed=5, batch_size=10, **options)]

    whole = run(steps=13)
    assert run(steps=6) + run(steps=7, first_step=6) == whole
    other = [y.tolist() for _, y in minibatches(counted, seed=6, steps=13, batch_size=10)]
    assert other != whole


@pytest.mark.parametrize("batch_size", [0, -1, 58])
def test_a_batch_that_cannot_be_filled_is_refused(counted, batch_size):
    with pytest.raises(UsageError) as caught:
        minibatches(counted, seed=0, steps=1, batch_size=batch_size)
    assert caught.value.code == "batch_size_invalid"


def test_chunks_cover_everything_in_order(counted):
    assert isinstance(counted, LabelledImages)
    sizes = []
    seen = []
    for pixels, labels in counted.chunks(25):
        sizes.append(len(pixels))
        seen += labels.tolist()
    assert sizes == [25, 25, 7]
    assert seen == list(range(57))
