"""The order in which images are handed out: every first n of them hold the classes as evenly as possible."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Integers = Sequence[int] | NDArray[Any] | Tensor


def balanced_order(labels: Integers, seed: int = 0) -> list[int]:
    """Positions of all images, in rounds that take one image of each class that has any left.

    The first n positions hold each class equally often, give or take one, as far as there are images of it. Within a
    round the classes come in a random order of that round, so that a position does not tell the class; each class keeps
    the order of its own images. Labels that are in this order already keep it. The order is the same on every machine.

    Args:
        labels: class indices (N,).
        seed: of the order of the classes within the rounds.

    Returns:
        A permutation of 0 to N - 1: the position of the image that comes first, second, and so on.

    Raises:
        ValueError: if the labels are not whole numbers, one an image.
    """
    positions: dict[int, list[int]] = {}
    for position, label in enumerate(_whole(labels, "labels").tolist()):
        positions.setdefault(label, []).append(position)
    generator = random.Random(seed)  # whose random() is the same in every version of Python, unlike a shuffle
    order: list[int] = []
    left = sorted(positions)
    for number in range(max(map(len, positions.values()), default=0)):
        left = [label for label in left if len(positions[label]) > number]
        drawn = {label: generator.random() for label in left}
        order += [positions[label][number] for label in sorted(left, key=drawn.__getitem__)]
    return order


def order_sha256(order: Integers) -> str:
    """What tells two orders apart: the sha256 of the positions (N,) as little-endian int64, in hexadecimal.

    Args:
        order: positions, as `balanced_order` or `Images.order` gives them.

    Raises:
        ValueError: if they are not whole numbers.
    """
    return sha256(_whole(order, "positions").astype("<i8").tobytes()).hexdigest()


def _whole(values: Integers, what: str) -> NDArray[Any]:
    """The values as an array (N,) of integers."""
    array = np.asarray(values.tolist() if isinstance(values, Tensor) else values)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise ValueError(f"expected {what} as whole numbers (N,), got {array.dtype} of shape {array.shape}")
    return array
