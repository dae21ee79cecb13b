"""CIFAR-10 as two files hold it: all of it as JPEG of quality 75 to train on, a part of it exact to train and test on.

Numbers got with it are called by `NAME`, never plain CIFAR-10.
"""

from __future__ import annotations

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from art_ext.data import Images, from_arrays

NAME = "CIFAR-10 (JPEG-75 training images, first {n} exact test images)"


def load(folder: Path, train: int | None = None, test: int | None = None) -> tuple[Images, Images]:
    """Training and test images, the first so many of each.

    Args:
        folder: holds `cifar10_jpeg75.npz` (`train_jpeg`, one blob, `train_offsets`, `y_train`) and `cifar10_exact.npz`
            (`x_train`, `x_test`, uint8 (N, 3, 32, 32), `y_train`, `y_test`).
        train: JPEG images first, then exact ones; all 58,068 unless given.
        test: exact ones; all 1,017 unless given.

    Raises:
        ValueError: the folder lacks one of the two.
    """
    missing = [f for f in ("cifar10_jpeg75.npz", "cifar10_exact.npz") if not (folder / f).is_file()]
    if missing:
        raise ValueError(f"expected cifar10_jpeg75.npz and cifar10_exact.npz in {folder}, got no {', '.join(missing)}")
    with np.load(folder / "cifar10_jpeg75.npz") as packed:
        ends = packed["train_offsets"][: None if train is None else train + 1]
        y = packed["y_train"][: len(ends) - 1]
        x = _decoded(packed["train_jpeg"].tobytes(), ends)
    with np.load(folder / "cifar10_exact.npz") as exact:
        x, y = np.concatenate([x, exact["x_train"]]), np.concatenate([y, exact["y_train"]])
        x_test, y_test = exact["x_test"][:test], exact["y_test"][:test]
    labels = [a.astype(np.int64) for a in (y[:train], y_test)]
    return from_arrays(x[:train], labels[0], channels_first=True), from_arrays(x_test, labels[1], channels_first=True)


def _decoded(blob: bytes, offsets: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 (N, 3, 32, 32) of JPEG files that lie one after the other."""
    pixels = [np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return np.stack(pixels).transpose(0, 3, 1, 2)
