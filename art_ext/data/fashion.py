"""The data set that ships with the package: a part of Fashion-MNIST [Xiao et al. 2017, arXiv:1708.07747]."""

from __future__ import annotations

from importlib.resources import files
from typing import Literal

import numpy as np

from art_ext.data.arrays import Images, from_arrays

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


def fashion_mnist(split: Literal["train", "test"], n: int | None = None) -> Images:
    """Fashion-MNIST images (N, 1, 28, 28) with labels (N,) in 0..9: 8,000 to train or 2,000 to test.

    A fixed subset of the original splits, balanced and in random order (`examples/make_data.py` made it), so
    that the first n images are an about balanced sample. Say "subset" beside a result on it.

    Args:
        split: "train" or "test".
        n: how many images, the first ones; None for all.

    Raises:
        ValueError: for another split, or if n is negative or more than there are.
    """
    if split not in ("train", "test"):
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
    with (files("art_ext.data") / "fashion_mnist_subset.npz").open("rb") as file, np.load(file) as arrays:
        x, y = arrays[f"x_{split}"], arrays[f"y_{split}"]
    if n is not None and not 0 <= n <= len(x):
        raise ValueError(f"expected n from 0 to {len(x)}, got {n}")
    images = from_arrays(x[:n], y[:n], channels_first=True)
    return Images(images.x, images.labels, FASHION_MNIST_CLASSES)
