"""The data sets of the experiments, as files hold them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from experiments.data import called, load
from tests.experiments.made import cifar10_like, mnist_like


def test_cifar10_is_read_as_it_is_stored(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"got no cifar10_jpeg75.npz, cifar10_exact.npz"):
        load("cifar10", tmp_path, "train")
    cifar10_like(tmp_path)
    train, test = load("cifar10", tmp_path, "train"), load("cifar10", tmp_path, "test", 4)
    exact = np.load(tmp_path / "cifar10_exact.npz")
    assert train.x.shape == (12, 3, 32, 32)
    assert torch.equal(train.x[6:], torch.tensor(exact["x_train"]).float() / 255)
    assert 0 < float((train.x[:6] - train.x[6:]).abs().mean()) < 0.2  # the same pictures, but for JPEG
    assert train.y.tolist() == [*range(6), *range(6)]
    assert test.y.tolist() == [5, 4, 3, 2]
    few = load("cifar10", tmp_path, "train", 3)
    assert torch.equal(few.x, train.x[:3])
    assert few.y.tolist() == [0, 1, 2]
    later = load("cifar10", tmp_path, "test", 2, first=3)
    assert torch.equal(later.x[0], test.x[3])
    assert called("cifar10", tmp_path)["name"] == "CIFAR-10 (JPEG-75 training images, exact test images)"


def test_cifar10_may_be_the_plain_data_set(tmp_path: Path) -> None:
    last = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    y = np.arange(4, dtype=np.uint8)[:, None]
    for x in (last, last.transpose(0, 3, 1, 2)):
        np.savez(tmp_path / "cifar10.npz", x_train=x, y_train=y, x_test=255 - x[::-1], y_test=y[::-1])
        train, test = load("cifar10", tmp_path, "train", 3), load("cifar10", tmp_path, "test")
        assert torch.equal(train.x, torch.tensor(last[:3]).permute(0, 3, 1, 2).float() / 255)
        assert torch.allclose(test.x, 1 - torch.tensor(last[::-1].copy()).permute(0, 3, 1, 2).float() / 255)
        assert (train.y.tolist(), test.y.tolist()) == ([0, 1, 2], [3, 2, 1, 0])
    assert called("cifar10", tmp_path)["name"] == "CIFAR-10 test"


def test_images_from_a_number_on(tmp_path: Path) -> None:
    mnist_like(tmp_path)
    every = np.load(tmp_path / "mnist.npz")["x_test"] / 255
    np.testing.assert_allclose(load("mnist", tmp_path, "test", 3, first=2).x[:, 0], every[2:5], atol=1e-6)
    assert called("mnist", tmp_path, 2) == {"name": "MNIST test", "order": "from number 2 on"}
    with pytest.raises(ValueError, match="from number 12 on, got 12 in all"):
        load("mnist", tmp_path, "test", 3, first=12)
    with pytest.raises(ValueError, match="expected --folder"):
        load("mnist", None, "test")
