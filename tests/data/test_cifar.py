"""CIFAR-10's binary files are read as its author describes them, and nothing else is taken for one."""

import numpy as np
import pytest
import torch

from art_ext.data import CIFAR10_CLASSES, cifar10


def written(folder, names, images=3):
    """Files of random records in `cifar-10-batches-bin`, and their records (N, 3073)."""
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    draw = np.random.default_rng(0)
    rows = [draw.integers(0, 256, (images, 3073), dtype=np.uint8) for _ in names]
    for name, part in zip(names, rows, strict=True):
        part[:, 0] %= 10
        part.tofile(place / name)
    return np.concatenate(rows)


def test_test_images_are_those_of_the_file(tmp_path):
    rows = written(tmp_path, ["test_batch.bin"])
    found = cifar10("test", folder=tmp_path)
    assert found.x.shape == (3, 3, 32, 32)
    assert found.y.tolist() == rows[:, 0].tolist()
    assert found.classes == CIFAR10_CLASSES
    # red, green, blue; each row by row
    assert found.x[1, 2, 5, 7] == torch.tensor(rows[1, 1 + 2 * 1024 + 5 * 32 + 7] / 255, dtype=torch.float32)
    assert torch.equal(cifar10("test", 2, tmp_path / "cifar-10-batches-bin").x, found.x[:2])


def test_training_images_are_those_of_five_files(tmp_path, monkeypatch):
    rows = written(tmp_path, [f"data_batch_{i}.bin" for i in range(1, 6)])
    monkeypatch.setenv("ART_EXT_DATA", str(tmp_path))
    assert cifar10("train").y.tolist() == rows[:, 0].tolist()


def test_what_is_missing_says_where_to_get_it(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"test_batch\.bin, which is not there.*kriz/cifar\.html"):
        cifar10("test", folder=tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.reshape(-1)[:-1], "expected records of 3073 bytes in .*, got 9218 bytes"),
        (lambda rows: rows[:0], "got 0 bytes"),
        (lambda rows: np.where(np.arange(3073) == 0, 57, rows).astype(np.uint8), "expected classes 0 to 9"),
    ],
)
def test_another_file_is_refused(tmp_path, change, message):
    rows = written(tmp_path, ["test_batch.bin"])
    change(rows).tofile(tmp_path / "cifar-10-batches-bin" / "test_batch.bin")
    with pytest.raises(ValueError, match=message):
        cifar10("test", folder=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"), [(("val",), "expected split"), (("test", 4), "n from 0 to 3, got 4")]
)
def test_other_splits_and_counts_are_refused(tmp_path, arguments, message):
    written(tmp_path, ["test_batch.bin"])
    with pytest.raises(ValueError, match=message):
        cifar10(*arguments, folder=tmp_path)
