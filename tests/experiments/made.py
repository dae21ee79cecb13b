"""What the tests of the experiments share: hand-made cells and reports, tables read back, tiny data sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image

from art_ext.evaluation import Cell, Report


def made(*cells: Cell) -> Report:
    clean = [Cell(m, "clean", "none", ((True, True, True, True),)) for m in dict.fromkeys(c.model for c in cells)]
    return Report({"norm": "Linf", "eps": 0.1}, (*clean, *cells), (), (), {})


def cell(model: str, attack: str, knowledge: str, correct: str, **more: object) -> Cell:
    return Cell(model, attack, knowledge, (tuple(c == "1" for c in correct),), **more)  # type: ignore[arg-type]


def rows(table: str) -> dict[str, list[str]]:
    split = [[entry.strip() for entry in line.strip("|").split("|")] for line in table.splitlines() if "|" in line]
    return {row[0]: [entry.split(" %")[0] for entry in row[1:]] for row in split}


def mnist_like(folder: Path, tests: int = 12) -> None:
    """12 training images and some test images, bright in the row of their class."""
    arrays = {}
    for split, n in (("train", 12), ("test", tests)):
        y = np.arange(n, dtype=np.uint8) % 10
        x = np.random.default_rng(n).integers(0, 60, (n, 28, 28), dtype=np.uint8)
        x[np.arange(n), 2 * y] = 250
        arrays |= {f"x_{split}": x, f"y_{split}": y}
    np.savez(folder / "mnist.npz", **arrays)


def cifar10_like(folder: Path, n: int = 6) -> None:
    """The two files of CIFAR-10, with a few random images."""
    pixels = np.random.default_rng(0).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)
    blobs = []
    for image in pixels:
        Image.fromarray(image).save(held := io.BytesIO(), "JPEG", quality=75)
        blobs.append(held.getvalue())
    ends = np.cumsum([0, *map(len, blobs)])
    labels = np.arange(n, dtype=np.uint8) % 10
    packed = np.frombuffer(b"".join(blobs), np.uint8)
    np.savez(folder / "cifar10_jpeg75.npz", train_jpeg=packed, train_offsets=ends, y_train=labels)
    exact = pixels.transpose(0, 3, 1, 2)
    np.savez(folder / "cifar10_exact.npz", x_train=exact, y_train=labels, x_test=255 - exact, y_test=labels[::-1])
