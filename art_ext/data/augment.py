"""Random changes of training images that keep their class."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad


def shift_and_flip(padding: int = 2) -> Callable[[Tensor], Tensor]:
    """A function that shifts and mirrors each image (N, C, H, W) of a batch by its own draw.

    The shift is uniform over -padding..padding pixels in both directions, with zeros moved in; half of the
    images are mirrored left to right. The draws come from the ambient torch generator of the images' device.

    Args:
        padding: the largest shift in pixels.

    Raises:
        ValueError: if padding is negative.
    """
    if padding < 0:
        raise ValueError(f"expected padding of at least 0, got {padding}")
    return partial(_shift_and_flip, padding=padding)  # unlike a closure it can be pickled


def _shift_and_flip(x: Tensor, padding: int) -> Tensor:
    count, _, height, width = x.shape
    top, left = torch.randint(2 * padding + 1, (2, count, 1), device=x.device)
    mirrored = torch.rand(count, 1, device=x.device) < 0.5
    rows = top + torch.arange(height, device=x.device)  # (N, H)
    columns = left + torch.arange(width, device=x.device)  # (N, W)
    columns = torch.where(mirrored, columns.flip(1), columns)
    image = torch.arange(count, device=x.device)[:, None, None]
    padded = pad(x, [padding] * 4)
    shifted = padded[image, :, rows[:, :, None], columns[:, None, :]]  # (N, H, W, C)
    return shifted.permute(0, 3, 1, 2).contiguous()
