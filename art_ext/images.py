"""The image convention of the package, its check, and the layer that standardises: float (N, C, H, W) in [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

TOLERANCE = 1e-3
"""How far outside [0, 1] a value may lie: float error of an attack or a resize, a quarter of an 8-bit step."""


_ASKED: ContextVar[WeakSet[nn.Module] | None] = ContextVar("asked", default=None)
"""Who has asked for the values of images on a GPU in the loop that runs."""


class OutsideRangeWarning(UserWarning):
    """Images outside [0, 1] came where they are clamped."""


@contextmanager
def asking_once(asked: WeakSet[nn.Module] | None = None) -> Iterator[None]:
    """A loop in which each module checks the range of images on a GPU once, since every check waits for the device.

    A loop inside another one is a part of it. On the CPU nothing changes.

    Args:
        asked: modules that have asked already, where the loop goes on from an earlier block.
    """
    outer = _ASKED.get()
    token = _ASKED.set(outer if outer is not None else WeakSet() if asked is None else asked)
    try:
        yield
    finally:
        _ASKED.reset(token)


def asks(who: nn.Module, x: Tensor) -> bool:
    """Whether a module is to ask for the values of images x now: not a second time in a loop, see `asking_once`."""
    asked = _ASKED.get()
    if asked is None or x.device.type == "cpu":
        return True
    first = who not in asked
    asked.add(who)
    return first


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


def settled(x: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W), those out of range clamped to [0, 1], without a wait for the device.

    The gradient of the clamp is that of the identity. An image that is not finite is grey.

    Returns:
        The images, and which of them are not finite, (N,).
    """
    broken = ~torch.isfinite(x.detach()).flatten(1).all(1)
    x = x.masked_fill(broken.view(-1, 1, 1, 1), 0.5)
    low, high = x.detach().aminmax()
    inside = (low >= -TOLERANCE) & (high <= 1 + TOLERANCE)
    return torch.where(inside, x, x.detach().clamp(0, 1) + (x - x.detach())), broken


def range_fault(x: Tensor) -> str:
    """The message of `check_range`; empty where all values are finite and in [0, 1] within `TOLERANCE`."""
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
