"""CIFAR-10 [Krizhevsky 2009] from the files of its author. They do not ship: no licence allows it."""

from __future__ import annotations

import os
from os import PathLike
from pathlib import Path
from typing import Literal

import numpy as np

from art_ext.data.arrays import Images, from_arrays

CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FOLDER = "cifar-10-batches-bin"
FILES = {"train": tuple(f"data_batch_{i}.bin" for i in range(1, 6)), "test": ("test_batch.bin",)}
WHERE = "https://www.cs.toronto.edu/~kriz/cifar.html, 'CIFAR-10 binary version'"
PIXELS = 3 * 32 * 32
RECORD = 1 + PIXELS
"""Bytes of an image: its class, then its pixels, channel by channel and row by row."""


def cifar10(split: Literal["train", "test"], n: int | None = None, folder: str | PathLike[str] | None = None) -> Images:
    """CIFAR-10 images (N, 3, 32, 32) with labels (N,) in 0..9: 50,000 to train, 10,000 to test.

    They come in the order of the files: the first n are what others report on, and hold the classes about evenly.

    Args:
        split: "train" or "test".
        n: how many images, the first ones; None for all that the files hold.
        folder: where the unpacked folder `cifar-10-batches-bin` lies, or that folder itself; the environment's
            `ART_EXT_DATA`, or `data`, unless given. Files of that name that hold fewer images are read, too.

    Raises:
        FileNotFoundError: if a file is not there; the error says where to get it.
        ValueError: for another split, a file that is no such file, or if n is negative or more than there are.
    """
    if split not in FILES:
        raise ValueError(f"expected split 'train' or 'test', got {split!r}")
    place = Path(os.environ.get("ART_EXT_DATA", "data") if folder is None else folder)
    inside = place if place.name == CIFAR10_FOLDER else place / CIFAR10_FOLDER
    rows = np.concatenate([_records(inside / name) for name in FILES[split]])
    if n is not None and not 0 <= n <= len(rows):
        raise ValueError(f"expected n from 0 to {len(rows)}, got {n}")
    images = from_arrays(rows[:n, 1:].reshape(-1, 3, 32, 32), rows[:n, 0], channels_first=True)
    return Images(images.x, images.labels, CIFAR10_CLASSES)


def _records(path: Path) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    """The bytes of a file (N, 3073)."""
    if not path.is_file():
        raise FileNotFoundError(f"expected {path}, which is not there: unpack it from {WHERE}")
    found = np.fromfile(path, np.uint8)
    if not len(found) or len(found) % RECORD:
        raise ValueError(f"expected records of {RECORD} bytes in {path}, got {len(found)} bytes")
    rows: np.ndarray[tuple[int, int], np.dtype[np.uint8]] = found.reshape(-1, RECORD)
    if rows[:, 0].max() >= len(CIFAR10_CLASSES):
        raise ValueError(f"expected classes 0 to 9 in {path}, got {rows[:, 0].max()}: is it CIFAR-100's?")
    return rows
