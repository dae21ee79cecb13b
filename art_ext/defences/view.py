"""The door between ART's images and ours: any clip values and channel order outside, (N, C, H, W) in [0, 1] inside."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from art.estimators.classification import PyTorchClassifier
from numpy.typing import NDArray
from torch import Tensor, nn

ClipValues = tuple[Any, Any]
"""Smallest and largest value: two numbers, or two arrays that broadcast against an image in the caller's layout."""


class View:
    """Maps a user's image batches to (N, C, H, W) in [0, 1], float32, and back; differentiable both ways.

    Args:
        clip_values: (low, high) of the user's images.
        channels_first: whether the user's batches are (N, C, H, W) or (N, H, W, C).

    Raises:
        ValueError: clip_values are not two finite values with low < high.
    """

    def __init__(self, clip_values: ClipValues, channels_first: bool) -> None:
        check_clip_values(clip_values)
        self.low, self.high = (torch.as_tensor(np.asarray(v, dtype=np.float32)) for v in clip_values)
        self.channels_first = channels_first

    def enter(self, x: Tensor) -> Tensor:
        """To (N, C, H, W) in [0, 1], float32."""
        unit = (x.float() - self.low.to(x.device)) / (self.high - self.low).to(x.device)
        return unit if self.channels_first or unit.ndim != 4 else unit.permute(0, 3, 1, 2)

    def leave(self, unit: Tensor) -> Tensor:
        """From (N, C, H, W) in [0, 1] to the user's range and layout, float32."""
        x = unit if self.channels_first or unit.ndim != 4 else unit.permute(0, 2, 3, 1)
        return x * (self.high - self.low).to(x.device) + self.low.to(x.device)


def check_clip_values(clip_values: Any) -> None:
    """Refuses what is not a pair (low, high) with low < high.

    Raises:
        ValueError: with the value that came.
    """
    if not isinstance(clip_values, (tuple, list, np.ndarray)) or len(clip_values) != 2:
        raise ValueError(f"expected clip_values as a pair (low, high), got {clip_values!r}")
    low, high = (np.asarray(v, dtype=np.float64) for v in clip_values)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and (low < high).all()):
        raise ValueError(f"expected finite clip_values with low < high, got {clip_values!r}")


def check_array(x: Any) -> None:
    """Refuses what cannot be a numpy batch of images.

    Raises:
        TypeError: not an array, or not numeric.
        ValueError: not of rank 4.
    """
    if not isinstance(x, np.ndarray):
        raise TypeError(f"expected images as a numpy array, got {type(x).__name__}")
    if x.dtype.kind not in "fiu":
        raise TypeError(f"expected numeric images, got dtype {x.dtype}")
    if x.ndim != 4:
        raise ValueError(f"expected images of rank 4, (N, C, H, W) or (N, H, W, C), got shape {x.shape}")


def as_tensor(x: NDArray[Any]) -> Tensor:
    """A copy of an array as a tensor, whatever its strides and byte order, which torch is particular about."""
    return torch.tensor(np.ascontiguousarray(x, dtype=x.dtype.newbyteorder("=")))


def class_indices(y: Any, images: int, classes: int) -> Tensor:
    """Labels as int64 indices (N,), from indices (N,) or (N, 1) or one-hot (N, classes).

    Raises:
        TypeError: labels are not numeric.
        ValueError: wrong number of labels, soft labels, or a label outside [0, classes).
    """
    labels: NDArray[Any] = np.asarray(y)
    if labels.dtype.kind not in "fiub":
        raise TypeError(f"expected numeric labels, got dtype {labels.dtype}")
    if not np.isfinite(labels).all():
        raise ValueError("expected finite labels, got NaN or Inf values")
    if len(labels.shape) == 0 or len(labels) != images:
        raise ValueError(f"expected {images} labels, one an image, got shape {labels.shape}")
    if labels.ndim == 2 and labels.shape[1] == classes and classes > 1:
        if not (np.isin(labels, (0, 1)).all() and (labels.sum(1) == 1).all()):
            raise ValueError("expected one-hot labels with a single 1 a row, got soft or multiple labels")
        labels = labels.argmax(1)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.ndim != 1:
        raise ValueError(f"expected labels (N,) or one-hot (N, {classes}), got shape {labels.shape}")
    if images and (labels.min() < 0 or labels.max() >= classes or (labels != labels.astype(np.int64)).any()):
        raise ValueError(f"expected labels to be whole numbers in [0, {classes}), got {np.unique(labels)[:10]}")
    return torch.from_numpy(labels.astype(np.int64))


class Logits(nn.Module):
    """A classifier's network behind its own range, layout and standardisation."""

    def __init__(self, model: nn.Module, view: View, standardise: Any) -> None:
        super().__init__()
        self.model, self.view, self.standardise = model, view, standardise

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.model(self.enter(x))
        return logits

    def enter(self, x: Tensor) -> Tensor:
        """What the network gets for images (N, C, H, W) in [0, 1]."""
        x = self.view.leave(x)
        if self.standardise is not None:
            x, _ = self.standardise.forward(x, None)
        return x


def as_module(classifier: PyTorchClassifier) -> Logits:
    """The undefended classifier as a module: images (N, C, H, W) in [0, 1] to what its model gives.

    Its clip values, channel order and standardisation are applied, its preprocessing defences are not. The model is
    shared, not copied.

    Raises:
        TypeError: not an ART PyTorchClassifier.
        ValueError: it has no clip_values, so its range is unknown.
    """
    if not isinstance(classifier, PyTorchClassifier):
        raise TypeError(f"expected an ART PyTorchClassifier, got {type(classifier).__name__}")
    if classifier.clip_values is None:
        raise ValueError("expected a classifier with clip_values, got None: the range of its images is unknown")
    return Logits(classifier.model, View(classifier.clip_values, classifier.channels_first), classifier.preprocessing)
