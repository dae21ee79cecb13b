"""The image convention of the package, its check, and the layer that leaves it: float (N, C, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3
"""How far outside [0, 1] a value may lie: float error of an attack or a resize, a quarter of an 8-bit step."""


class OutsideRangeWarning(UserWarning):
    """Images outside [0, 1] came where they are clamped."""


def check_images(x: Tensor, *, channels: int | None = None) -> None:
    """Refuses what is not a batch of images: (N, C, H, W), floating point, finite, in [0, 1] within `TOLERANCE`.

    Raises:
        TypeError: not a tensor, or not floating point.
        ValueError: wrong rank, wrong number of channels, NaN or Inf, or values outside [0, 1].
    """
    check_layout(x, channels=channels)
    check_range(x)


def check_layout(x: Tensor, *, channels: int | None = None) -> None:
    """`check_images` but for the values.

    Raises:
        TypeError: not a tensor, or not floating point.
        ValueError: wrong rank or wrong number of channels.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"expected images as a torch tensor, got {type(x).__name__}")
    if not x.is_floating_point():
        raise TypeError(f"expected floating-point images in [0, 1], got {x.dtype}: convert with x.float() / 255")
    if x.ndim != 4:
        raise ValueError(f"expected images of shape (N, C, H, W), got shape {tuple(x.shape)}")
    if channels is not None and x.shape[1] != channels:
        raise ValueError(f"expected images with {channels} channel(s), got shape {tuple(x.shape)}")


def check_range(x: Tensor) -> None:
    """Refuses values that are not finite or lie outside [0, 1]; the message guesses the range that was meant.

    Raises:
        ValueError: with the smallest and the largest value.
    """
    fault = range_fault(x)
    if fault:
        raise ValueError(fault)


def range_fault(x: Tensor) -> str:
    """What `check_range` would say; empty where all values are finite and in [0, 1] within `TOLERANCE`."""
    if not x.numel():
        return ""
    low, high = torch.stack(x.detach().aminmax()).tolist()
    if low >= -TOLERANCE and high <= 1 + TOLERANCE:
        return ""
    if not bool(torch.isfinite(x.detach()).all()):
        return "expected finite images in [0, 1], got NaN or Inf values"
    hint = ""
    if low >= -TOLERANCE and 2 < high <= 255:
        hint = " (this looks like [0, 255]: divide by 255)"
    elif low >= -1 - TOLERANCE and high <= 1 + TOLERANCE:
        hint = " (this looks like [-1, 1]: use (x + 1) / 2)"
    return f"expected images in [0, 1], got values in [{low:.4g}, {high:.4g}]{hint}"


class Normalize(nn.Module):
    """(x - mean) / std per channel, the first layer of a network that wants standardised input.

    A perturbation budget stays in the units of the images because the network takes [0, 1] itself.

    Args:
        mean: one value a channel, in [0, 1].
        std: one value a channel, positive.

    Raises:
        ValueError: if the two differ in length or a std is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or min(std) <= 0:
            raise ValueError(f"expected one mean and one positive std a channel, got {mean} and {std}")
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std
