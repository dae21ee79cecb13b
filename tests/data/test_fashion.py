"""The shipped data set is what its docstring says, and small enough to ship."""

import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import art_ext.data
from art_ext.data import FASHION_MNIST_CLASSES, fashion_mnist

FOLDER = Path(art_ext.data.__file__).parent
MAKE_DATA = Path(__file__).parents[2] / "examples" / "make_data.py"


@pytest.fixture(scope="module")
def shipped():
    with np.load(FOLDER / "fashion_mnist_subset.npz") as arrays:
        return dict(arrays)


def test_shipped_files_are_small_and_licensed():
    assert (FOLDER / "fashion_mnist_subset.npz").stat().st_size <= 5_000_000
    licence = (FOLDER / "LICENSE-fashion-mnist.txt").read_text(encoding="ascii")
    assert "Copyright (c) 2017 Zalando SE" in licence
    assert "Permission is hereby granted" in licence


@pytest.mark.parametrize(("split", "per_class", "original"), [("train", 800, 60_000), ("test", 200, 10_000)])
def test_subset_is_stratified_and_without_repeats(shipped, split, per_class, original):
    x, y, indices = shipped[f"x_{split}"], shipped[f"y_{split}"], shipped[f"{split}_indices"].astype(int)
    assert x.dtype == y.dtype == np.uint8
    assert x.shape == (10 * per_class, 1, 28, 28)
    assert np.bincount(y).tolist() == [per_class] * 10
    assert len(np.unique(indices)) == len(indices) == len(x)
    assert 0 <= indices.min() < indices.max() < original
    assert len(np.unique(x.reshape(len(x), -1), axis=0)) == len(x)


def test_train_and_test_share_no_image(shipped):
    train, test = ({image.tobytes() for image in shipped[f"x_{split}"]} for split in ("train", "test"))
    assert not train & test


def test_first_training_images_are_an_about_balanced_sample():
    counts = torch.bincount(fashion_mnist("train", 500).y, minlength=10)
    assert 30 <= counts.min() <= counts.max() <= 70


@pytest.mark.parametrize("split", ["test", "confirmation"])
@pytest.mark.parametrize("n", [10, 64, 128, 510, 920])
def test_first_images_hold_the_classes_evenly(split, n):
    """Until the rarest class of a thousand runs out: 93 images of one, 92 of the other."""
    counts = torch.bincount(fashion_mnist(split, n).y, minlength=10)
    assert counts.max() - counts.min() == (n % 10 > 0)


@pytest.mark.parametrize(("split", "first", "count"), [("test", 0, 2000), ("confirmation", 1000, 1000)])
def test_images_and_labels_are_those_of_their_places(shipped, split, first, count):
    images = fashion_mnist(split)
    assert sorted(images.order.tolist()) == list(range(first, first + count))
    assert np.array_equal(images.x.numpy(), shipped["x_test"][images.order].astype(np.float32) / 255)
    assert images.y.tolist() == shipped["y_test"][images.order].tolist()


def test_the_confirmation_set_is_the_second_thousand_and_stays_apart():
    whole, apart = fashion_mnist("test"), fashion_mnist("confirmation")
    assert set(whole.order[:1000].tolist()) == set(range(1000))
    assert torch.equal(whole.x[1000:], apart.x)
    assert torch.equal(whole.order[1000:], apart.order)
    assert torch.equal(fashion_mnist("test", 1030).x[1000:], fashion_mnist("confirmation", 30).x)


def test_training_images_keep_the_order_of_the_file(shipped):
    images = fashion_mnist("train", 7)
    assert np.array_equal(images.x.numpy(), shipped["x_train"][:7].astype(np.float32) / 255)
    assert images.y.tolist() == shipped["y_train"][:7].tolist()
    assert images.order is None


def test_first_n_images_of_a_split():
    images, whole = fashion_mnist("test", 7), fashion_mnist("test")
    assert torch.equal(images.x, whole.x[:7])
    assert torch.equal(images.order, whole.order[:7])
    assert images.y.tolist() == whole.y[:7].tolist()
    assert images.y.dtype == images.order.dtype == torch.int64
    assert images.classes == FASHION_MNIST_CLASSES
    assert len(set(FASHION_MNIST_CLASSES)) == 10


def test_trousers_are_dark_between_the_legs():
    """Names belong to indices: a trouser's lower middle column is darker than a dress's."""
    images = fashion_mnist("train")
    gap = images.x[:, 0, 20:26, 13:15].mean((1, 2))
    trouser, dress = (gap[images.y == FASHION_MNIST_CLASSES.index(name)].mean() for name in ("Trouser", "Dress"))
    assert trouser < dress / 2


def test_all_images_and_no_images():
    assert fashion_mnist("train").x.shape == (8000, 1, 28, 28)
    assert fashion_mnist("test").x.shape == (2000, 1, 28, 28)
    assert fashion_mnist("test", 0).x.shape == (0, 1, 28, 28)
    assert fashion_mnist("confirmation").x.shape == (1000, 1, 28, 28)


@pytest.mark.parametrize(("split", "n"), [("valid", None), ("test", -1), ("test", 2001), ("confirmation", 1001)])
def test_what_is_not_there_is_refused(split, n):
    with pytest.raises(ValueError, match=r"expected .*got"):
        fashion_mnist(split, n)


def make_data(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["make_data.py", *map(str, arguments)])
    runpy.run_path(str(MAKE_DATA), run_name="__main__")


def test_make_data_gives_the_same_bytes_and_true_indices(tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    source, first, second = (tmp_path / name for name in ("source.npz", "first.npz", "second.npz"))
    whole = {
        "x_train": rng.integers(0, 256, (60, 4, 5), dtype=np.uint8),
        "y_train": np.repeat(np.arange(3, dtype=np.uint8), 20),
        "x_test": rng.integers(0, 256, (30, 4, 5), dtype=np.uint8),
        "y_test": np.tile(np.arange(3, dtype=np.uint8), 10),
    }
    np.savez(source, **whole)
    for target in (first, second):
        make_data(monkeypatch, source, "--target", target, "--train", 15, "--test", 8)
    assert first.read_bytes() == second.read_bytes()
    assert "first.npz" in capsys.readouterr().out
    with np.load(first) as made:
        for split, count in (("train", 15), ("test", 8)):
            indices = made[f"{split}_indices"]
            assert len(np.unique(indices)) == 3 * count
            assert (np.diff(made[f"y_{split}"].astype(int)) < 0).any(), "classes in order, not shuffled"
            assert np.bincount(made[f"y_{split}"]).tolist() == [count] * 3
            assert np.array_equal(made[f"x_{split}"], whole[f"x_{split}"][indices, None])
            assert np.array_equal(made[f"y_{split}"], whole[f"y_{split}"][indices])
