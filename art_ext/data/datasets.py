"""Data set objects of other libraries, already constructed; the libraries themselves are never imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from art_ext.data.arrays import Images, class_indices, from_arrays
from art_ext.data.order import balanced_order
from art_ext.data.pixels import pixels, stack


class PairDataset(Protocol):
    """What torchvision and torch call a map-style data set: `len(dataset)` pairs (image, label)."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


def from_torchvision(dataset: PairDataset) -> Images:
    """The images and labels of a torchvision data set, or of any sequence of (image, label) pairs, in balanced order.

    The first n images hold the classes as evenly as possible (`balanced_order`); `order` says where each was.
    The images are of one size: Pillow images, or tensors or arrays (H, W), (C, H, W) or (H, W, C), uint8 or
    in [0, 1]. `dataset.classes` become the class names if it is a list of strings.

    Raises:
        TypeError: if an item is no pair or an image no image, and as `from_arrays`.
        ValueError: if the images differ in shape, and as `from_arrays`.
    """
    # By index: a data set that counts its length need not raise IndexError at its end.
    items = [dataset[index] for index in range(len(dataset))]
    for item in items:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise TypeError(f"expected (image, label) pairs, got items of {type(item).__name__}")
    images, labels = [image for image, _ in items], [label for _, label in items]
    return _images(images, labels, getattr(dataset, "classes", None))


def from_hugging_face(dataset: Iterable[Any], image: str = "image", label: str | None = "label") -> Images:
    """The images and labels of one split of a Hugging Face data set, a list of dicts or a dict of lists.

    With labels, the first n images hold the classes as evenly as possible (`balanced_order`), and `order` says where
    each was; without, the images keep their order.

    Args:
        dataset: one split (`dataset["train"]`), streaming or not.
        image: name of the column with Pillow images, tensors or arrays, all of one size.
        label: name of the column with class indices; None to read images alone.

    Raises:
        TypeError: if a row is no dict or an image no image, and as `from_arrays`.
        ValueError: if a column is missing or the images differ in shape, and as `from_arrays`.
    """
    columns = [image] if label is None else [image, label]
    rows = list(_rows(dataset, columns))
    labels = None if label is None else [row[1] for row in rows]
    feature = (getattr(dataset, "features", None) or {}).get(label)
    return _images([row[0] for row in rows], labels, getattr(feature, "names", None))


def _rows(dataset: Iterable[Any], columns: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The values of the columns, row by row."""
    if isinstance(dataset, Mapping):
        _check_columns(dataset, columns)
        yield from zip(*(dataset[column] for column in columns), strict=True)
        return
    for row in dataset:
        if not isinstance(row, Mapping):
            raise TypeError(f"expected a data set of dicts, got items of {type(row).__name__}")
        _check_columns(row, columns)
        yield tuple(row[column] for column in columns)


def _check_columns(found: Mapping[str, Any], columns: Sequence[str]) -> None:
    for column in columns:
        if column not in found:
            names = ", ".join(map(str, found))
            raise ValueError(f"expected a column {column!r}, got {names} (if these are splits, pass one)")


def _images(images: Sequence[Any], labels: Sequence[Any] | None, classes: Any) -> Images:
    """One data set from single images, single labels and what the data set says about class names."""
    y, order = None, None
    if labels is not None:
        said = np.array([label.tolist() if isinstance(label, Tensor) else label for label in labels])
        y = class_indices(said, len(images))
        order = torch.tensor(balanced_order(y), dtype=torch.int64)
        images, y = [images[i] for i in order.tolist()], y[order]
    channels_first = False if images and isinstance(images[0], Image.Image) else None
    x = from_arrays(stack([pixels(image) for image in images]), channels_first=channels_first).x
    named = isinstance(classes, list | tuple) and all(isinstance(name, str) for name in classes)
    return Images(x, y, tuple(classes) if named else None, order)
