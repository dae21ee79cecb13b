"""The data sets: what ships with the package, MNIST as Keras has it, CIFAR-10 plain or as two files hold it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from art_ext.data import Images, fashion_mnist, from_arrays, from_npz

PLAIN, JPEG, EXACT = "cifar10.npz", "cifar10_jpeg75.npz", "cifar10_exact.npz"


@dataclass(frozen=True)
class DataSet:
    """What a table needs to know of its images: shape, radii, moments, and by how many pixels they may be shifted."""

    title: str
    channels: int
    size: int
    eps: float
    eps_l2: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    shift: int

    @property
    def moments(self) -> dict[str, Any]:
        """Mean and standard deviation, as arguments of networks."""
        return {"mean": list(self.mean), "std": list(self.std)}


SETS: Mapping[str, DataSet] = {
    "fashion_mnist": DataSet("Fashion-MNIST", 1, 28, 0.1, 1.5, (0.286,), (0.353,), 2),
    "mnist": DataSet("MNIST", 1, 28, 0.3, 2.0, (0.1307,), (0.3081,), 0),
    "cifar10": DataSet("CIFAR-10", 3, 32, 8 / 255, 1.0, (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616), 4),
}


def load(name: str, folder: Path | None, split: str, count: int | None = None, first: int = 0) -> Images:
    """So many images of a split from number `first` on.

    Args:
        name: of `SETS`.
        folder: of `mnist.npz`, or of CIFAR-10 (`cifar10.npz`, or the JPEG and the exact file).
        split: "train" or "test".
        count: all unless given.
        first: number of the first one.

    Raises:
        ValueError: no folder, or no such images in it.
    """
    if name == "fashion_mnist":
        found = fashion_mnist(cast(Literal["train", "test"], split))
    elif folder is None:
        raise ValueError(f"expected --folder with the images of {name}, which do not ship, got none")
    elif name == "mnist":
        found = from_npz(folder / "mnist.npz", images=f"x_{split}", labels=f"y_{split}")
    else:
        found = _cifar10(folder, split, None if count is None else first + count)
    if len(found.x) <= first:
        raise ValueError(f"expected images of {name} from number {first} on, got {len(found.x)} in all")
    part = slice(first, None if count is None else first + count)
    return Images(found.x[part], None if found.y is None else found.y[part])


def called(name: str, folder: Path | None, first: int = 0) -> dict[str, Any]:
    """What numbers on test images are numbers on, for a report."""
    order = "the first ones" if not first else f"from number {first} on"
    if name == "fashion_mnist":
        title = "Fashion-MNIST test, the stratified 2,000 images that ship with the package"
    elif name == "mnist" or (folder is not None and (folder / PLAIN).is_file()):
        title = f"{SETS[name].title} test"
    else:
        title = "CIFAR-10 (JPEG-75 training images, exact test images)"
    return {"name": title, "order": order}


def _cifar10(folder: Path, split: str, most: int | None) -> Images:
    if (folder / PLAIN).is_file():
        with np.load(folder / PLAIN) as held:
            return from_arrays(held[f"x_{split}"][:most], held[f"y_{split}"][:most].reshape(-1).astype(np.int64))
    missing = [f for f in (JPEG, EXACT) if not (folder / f).is_file()]
    if missing:
        raise ValueError(f"expected {PLAIN}, or {JPEG} and {EXACT}, in {folder}, got no {', '.join(missing)}")
    with np.load(folder / EXACT) as exact:
        x, y = exact[f"x_{split}"], exact[f"y_{split}"]
    if split == "train":  # JPEG images first, then exact ones
        with np.load(folder / JPEG) as packed:
            ends = packed["train_offsets"][: None if most is None else most + 1]
            decoded = _decoded(packed["train_jpeg"].tobytes(), ends)
            x, y = np.concatenate([decoded, x]), np.concatenate([packed["y_train"][: len(decoded)], y])
    return from_arrays(x[:most], y[:most].astype(np.int64), channels_first=True)


def _decoded(blob: bytes, offsets: NDArray[np.integer]) -> NDArray[np.uint8]:
    """uint8 (N, 3, 32, 32) of JPEG files that lie one after the other."""
    pixels = [np.asarray(Image.open(io.BytesIO(blob[a:b])).convert("RGB")) for a, b in pairwise(offsets)]
    return np.stack(pixels).transpose(0, 3, 1, 2)
