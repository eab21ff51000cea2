"""Fashion-MNIST whole, and CIFAR-100's binary format on generated files."""

import numpy as np
import pytest
import torch

from poet_core.errors import DataError
from projection_nets.data import cifar100, fashion_mnist
from projection_nets.data.cifar import RECORD_BYTES, read_cifar100


def test_fashion_mnist_has_the_full_protocol(poet_data):
    if not (poet_data / "fashion-mnist").is_dir():
        pytest.skip("no fashion-mnist/ in the folder of data sets")
    splits = fashion_mnist(poet_data)
    parts = (splits.train, splits.validation, splits.test)
    assert [len(part) for part in parts] == [55_000, 5_000, 10_000]
    whole = torch.cat([splits.train.labels, splits.validation.labels])
    assert torch.bincount(whole).tolist() == [6000] * 10
    assert torch.bincount(splits.test.labels).tolist() == [1000] * 10
    # the first test image is an ankle boot: class 9
    assert splits.test.labels[0] == 9
    assert splits.name == "fashion-mnist"


def records(count, seed=0):
    generator = np.random.default_rng(seed)
    rows = generator.integers(0, 256, (count, RECORD_BYTES), dtype=np.uint8)
    rows[:, 0] %= 20
    rows[:, 1] %= 100
    return rows


def test_records_become_images_and_fine_labels(tmp_path):
    rows = records(7)
    path = tmp_path / "train.bin"
    path.write_bytes(rows.tobytes())
    images = read_cifar100(path, records=7)
    assert torch.equal(images.labels, torch.from_numpy(rows[:, 1].astype(np.int64)))
    assert np.array_equal(images.pixels.numpy(), rows[:, 2:])
    # channel, row, column: the green value of row 2, column 5
    green = images.pixels[3].view(3, 32, 32)[1, 2, 5]
    assert green == rows[3, 2 + 1024 + 2 * 32 + 5]


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda content: content[:-1], "cifar_size"),
        (lambda content: content + content, "cifar_size"),
        (lambda content: content * 3, "data_file_too_large"),
        (lambda content: b"", "cifar_size"),
        (lambda content: b"\x14" + content[1:], "data_label_invalid"),
        (lambda content: content[:1] + b"\x64" + content[2:], "data_label_invalid"),
    ],
    ids=["cut", "twice", "thrice", "empty", "coarse", "fine"],
)
def test_wrong_files_are_refused(tmp_path, change, code):
    path = tmp_path / "train.bin"
    path.write_bytes(change(records(3).tobytes()))
    with pytest.raises(DataError) as caught:
        read_cifar100(path, records=3)
    assert caught.value.code == code
    assert str(path) in caught.value.message


def test_a_missing_or_swapped_file_is_refused(tmp_path):
    with pytest.raises(DataError) as caught:
        cifar100(tmp_path)
    assert caught.value.code == "data_file_missing"
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    (folder / "train.bin").write_bytes(records(100).tobytes())
    with pytest.raises(DataError) as caught:
        cifar100(tmp_path)
    assert caught.value.code == "cifar_size"
