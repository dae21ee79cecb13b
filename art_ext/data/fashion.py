"""The data set that ships with the package: a part of Fashion-MNIST [Xiao et al. 2017, arXiv:1708.07747]."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from art_ext.data.arrays import Images, from_arrays
from art_ext.data.order import balanced_order

FASHION_MNIST_CLASSES = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)
CONFIRMATION = 1000
"""Test images from this one on are the confirmation set."""


def fashion_mnist(split: Literal["train", "test", "confirmation"], n: int | None = None) -> Images:
    """Fashion-MNIST images (N, 1, 28, 28) with labels (N,) in 0..9: 8,000 to train or 2,000 to test.

    A fixed subset of the original splits with the same number of images of each class (`examples/make_data.py` made
    it). Say "subset" beside a result on it.

    Training images are in the random order of the file. Test images are handed out in balanced order
    (`balanced_order`), so that the first n hold the classes as evenly as possible: the first 1,000 of the file, then
    the second 1,000. `order` says where each of them is in the file.

    "confirmation" gives these second 1,000 alone. They are to be used once, for claims: what was decided and found on
    the first 1,000 is confirmed on images that decided nothing. `fashion_mnist("test", n)` with n above 1,000 has
    images of this set.

    Args:
        split: "train", "test" or "confirmation".
        n: how many images, the first ones; None for all.

    Raises:
        ValueError: for another split, or if n is negative or more than there are.
    """
    if split not in ("train", "test", "confirmation"):
        raise ValueError(f"expected split 'train', 'test' or 'confirmation', got {split!r}")
    stored = "train" if split == "train" else "test"
    with (files("art_ext.data") / "fashion_mnist_subset.npz").open("rb") as file, np.load(file) as arrays:
        x, y = arrays[f"x_{stored}"], arrays[f"y_{stored}"]
    order = None
    if stored == "test":
        order = _test_order(y)[CONFIRMATION if split == "confirmation" else 0 :]
        x, y = x[order], y[order]
    if n is not None and not 0 <= n <= len(x):
        raise ValueError(f"expected n from 0 to {len(x)}, got {n}")
    images = from_arrays(x[:n], y[:n], channels_first=True)
    places = None if order is None else torch.from_numpy(order[:n])
    return Images(images.x, images.labels, FASHION_MNIST_CLASSES, places)


def _test_order(y: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Balanced order within the images before the confirmation set, and within that set."""
    first, second = balanced_order(y[:CONFIRMATION]), balanced_order(y[CONFIRMATION:])
    return np.array([*first, *(CONFIRMATION + position for position in second)], dtype=np.int64)
