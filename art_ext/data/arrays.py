"""Images with labels, and how arrays become them."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from art_ext.images import check_range

CHANNELS = (1, 3, 4)
"""Sizes by which an axis is taken for the channel axis."""

Array = NDArray[Any] | Tensor


@dataclass(frozen=True, eq=False)
class Images:
    """Images (N, C, H, W) in [0, 1], float32, with what is known about their classes.

    Args:
        x: (N, C, H, W) in [0, 1], float32.
        labels: class indices (N,), int64, or None where they are not known.
        classes: the name of each class index, or None where they are not known.
        order: where each image was in its source (N,), int64, or None where the images are in its order.
    """

    x: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] | None = None
    order: Tensor | None = None

    @property
    def y(self) -> Tensor:
        """The class indices (N,), int64.

        Raises:
            ValueError: if the images have no labels (`labels` gives None instead).
        """
        if self.labels is None:
            raise ValueError("expected labelled images, got images without labels")
        return self.labels


def from_arrays(x: Array, y: Array | None = None, *, channels_first: bool | None = None) -> Images:
    """The images and labels of numpy arrays or torch tensors, copied, in their order.

    Args:
        x: uint8 in [0, 255] or floating point in [0, 1]; (N, H, W), (N, C, H, W) or (N, H, W, C).
        y: class indices (N,) or (N, 1), or one-hot rows (N, K) with K > 1.
        channels_first: whether the channels come before the rows. If None, the channel axis is the one of
            length 1, 3 or 4.

    Raises:
        TypeError: if x or y is no array, or does not hold numbers of these types.
        ValueError: if a shape, a range or a label is not as above, or the channel axis cannot be told.
    """
    images = _unit_range(_channels_first(_tensor(x), channels_first))
    return Images(images, None if y is None else class_indices(y, len(images)).to(images.device))


def from_npz(path: str | PathLike[str], *, images: str = "x", labels: str | None = "y") -> Images:
    """The images and labels of an .npz file, as `from_arrays` reads them; never unpickles.

    Args:
        path: the file.
        images: key of the images.
        labels: key of the labels, or None to read images alone.

    Raises:
        TypeError: as `from_arrays`.
        ValueError: as `from_arrays`, and for a missing key or an array of Python objects.
    """
    arrays = np.load(path, allow_pickle=False)
    if not isinstance(arrays, np.lib.npyio.NpzFile):
        raise ValueError(f"expected an .npz file with named arrays, got a single array in {path}")
    with arrays:
        for key in (images, labels):
            if key is not None and key not in arrays:
                raise ValueError(f"expected key {key!r} in {path}, got keys: {', '.join(arrays.files)}")
        return from_arrays(arrays[images], None if labels is None else arrays[labels])


def _tensor(x: Array) -> Tensor:
    """A copy of x as a uint8 or float32 tensor of the same shape."""
    if isinstance(x, Tensor):
        if x.dtype != torch.uint8 and not x.is_floating_point():
            raise TypeError(f"expected uint8 or floating-point images, got {x.dtype}")
        return x.detach().to(torch.uint8 if x.dtype == torch.uint8 else torch.float32, copy=True)
    if not isinstance(x, np.ndarray):
        raise TypeError(f"expected images as a numpy array or a torch tensor, got {type(x).__name__}")
    if x.dtype != np.uint8 and not np.issubdtype(x.dtype, np.floating):
        raise TypeError(f"expected uint8 or floating-point images, got an array of {x.dtype}")
    # A copy, as torch warns about read-only memory and refuses negative strides and foreign byte orders.
    return torch.from_numpy(np.array(x, dtype=np.uint8 if x.dtype == np.uint8 else np.float32, order="C"))


def _channels_first(x: Tensor, channels_first: bool | None) -> Tensor:
    """Turns (N, H, W), (N, C, H, W) or (N, H, W, C) into (N, C, H, W)."""
    if x.ndim == 3:
        return x.unsqueeze(1)
    if x.ndim != 4:
        raise ValueError(f"expected images (N, H, W), (N, C, H, W) or (N, H, W, C), got shape {tuple(x.shape)}")
    if channels_first is None:
        channels_first = _tell_channels_first(tuple(x.shape))
    return x if channels_first else x.permute(0, 3, 1, 2).contiguous()


def _tell_channels_first(shape: tuple[int, ...]) -> bool:
    first, last = shape[1] in CHANNELS, shape[3] in CHANNELS
    if first == last:
        found = "both" if first else "neither"
        raise ValueError(
            f"expected 1, 3 or 4 channels in the second or the last axis, got {found} in shape {shape}: "
            "say channels_first=True or False"
        )
    return first


def _unit_range(x: Tensor) -> Tensor:
    """Turns uint8 in [0, 255] or float32 in [0, 1] into float32 in [0, 1]."""
    if x.dtype == torch.uint8:
        return x.float().div_(255)
    if x.numel():
        check_range(x)
    return x.clamp_(0, 1)


def class_indices(y: Array, count: int) -> Tensor:
    """Turns (N,), (N, 1) or one-hot (N, K) into int64 (N,).

    Args:
        y: labels, as `from_arrays` takes them.
        count: what N must be.

    Raises:
        TypeError: if y is no array of numbers.
        ValueError: if it is not N class indices.
    """
    values = y.detach().cpu().numpy() if isinstance(y, Tensor) else y
    if not isinstance(values, np.ndarray):
        raise TypeError(f"expected labels as a numpy array or a torch tensor, got {type(y).__name__}")
    if values.dtype.kind not in "biuf":
        raise TypeError(f"expected labels as numbers, got an array of {values.dtype}")
    if values.ndim not in (1, 2) or 0 in values.shape[1:]:
        raise ValueError(f"expected labels of shape (N,) or one-hot (N, K), got shape {values.shape}")
    if len(values) != count:
        raise ValueError(f"expected one label an image, got {count} images and {len(values)} labels")
    if values.ndim == 2 and values.shape[1] > 1:
        values = _one_hot_indices(values)
    values = values.reshape(-1)
    wrong = values[~((values >= 0) & (values == np.floor(values)) & np.isfinite(values))]
    if wrong.size:
        raise ValueError(f"expected labels as integers from 0, got {wrong[0]}")
    return torch.from_numpy(values.astype(np.int64))


def _one_hot_indices(rows: NDArray[Any]) -> NDArray[Any]:
    wrong = rows[((rows != 0) & (rows != 1)).any(axis=1) | (rows.sum(axis=1) != 1)]
    if len(wrong):
        raise ValueError(f"expected one-hot labels, a single 1 among 0s in each row, got the row {wrong[0]}")
    return rows.argmax(axis=1)
